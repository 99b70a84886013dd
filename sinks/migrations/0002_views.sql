-- Ready answers. All but `ledger` and `evaluations` leave replays out. Days are UTC. A cost that is
-- not known is NULL and counted in `unknown_cost`; it is never taken for 0.

-- Every invocation with its status: that of the call, or `in_flight`, or `lost` when the deadline has
-- passed and its end was never booked; what was reserved then stands in the books as an estimate.
CREATE VIEW IF NOT EXISTS ledger AS
SELECT
    toDate(started_at) AS day,
    row_id, request_id, member, attempt, invocation,
    provider, model, hardware, task, team, budget_key, strategy,
    prompt_name, prompt_version, prompt_sha256, key_alias,
    multiIf(precedence = 2, toString(a.status), deadline < now64(3), 'lost', 'in_flight') AS status,
    finish_reason, error_code,
    input_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
    output_tokens, reasoning_tokens, usage_source, cost_usd, cost_source,
    queued_ms, time_to_first_token_ms, total_ms,
    replay_id, tags, started_at, deadline, finished_at
FROM attempts AS a FINAL;

-- What live work has cost: every invocation that has ended, one way or another.
CREATE VIEW IF NOT EXISTS spend AS
SELECT * FROM ledger WHERE replay_id = '' AND status != 'in_flight';

CREATE VIEW IF NOT EXISTS in_flight AS
SELECT
    provider, model,
    count() AS attempts,
    sum(s.cost_usd) AS reserved_usd,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    min(started_at) AS oldest_started_at
FROM ledger AS s
WHERE replay_id = '' AND s.status = 'in_flight'
GROUP BY provider, model;

CREATE VIEW IF NOT EXISTS cost_by_day AS
SELECT
    day,
    uniqExact(request_id) AS requests,
    count() AS attempts,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.cost_usd) AS cost_usd
FROM spend AS s
GROUP BY day;

CREATE VIEW IF NOT EXISTS cost_by_team AS
SELECT
    day, team,
    uniqExact(request_id) AS requests,
    count() AS attempts,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.cost_usd) AS cost_usd
FROM spend AS s
GROUP BY day, team;

CREATE VIEW IF NOT EXISTS cost_by_model AS
SELECT
    day, provider, model,
    uniqExact(request_id) AS requests,
    count() AS attempts,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.cost_usd) AS cost_usd
FROM spend AS s
GROUP BY day, provider, model;

CREATE VIEW IF NOT EXISTS cost_by_task AS
SELECT
    day, task,
    uniqExact(request_id) AS requests,
    count() AS attempts,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.cost_usd) AS cost_usd
FROM spend AS s
GROUP BY day, task;

CREATE VIEW IF NOT EXISTS cost_by_prompt AS
SELECT
    day, prompt_name, prompt_version,
    uniqExact(request_id) AS requests,
    count() AS attempts,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.output_tokens) AS output_tokens,
    sum(s.reasoning_tokens) AS reasoning_tokens,
    sum(s.cost_usd) AS cost_usd
FROM spend AS s
WHERE prompt_name != ''
GROUP BY day, prompt_name, prompt_version;

-- How fast completed calls were, in milliseconds.
CREATE VIEW IF NOT EXISTS latency AS
SELECT
    day, provider, model,
    count() AS attempts,
    quantile(0.5)(time_to_first_token_ms) AS first_token_p50_ms,
    quantile(0.9)(time_to_first_token_ms) AS first_token_p90_ms,
    quantile(0.99)(time_to_first_token_ms) AS first_token_p99_ms,
    quantile(0.5)(total_ms) AS total_p50_ms,
    quantile(0.9)(total_ms) AS total_p90_ms,
    quantile(0.99)(total_ms) AS total_p99_ms
FROM spend AS s
WHERE s.status = 'completed'
GROUP BY day, provider, model;

-- Invocations that did not complete; one without an error of its own goes by its status.
CREATE VIEW IF NOT EXISTS errors AS
SELECT
    day, provider, model,
    if(error_code = '', s.status, toString(error_code)) AS code,
    count() AS attempts,
    uniqExact(request_id) AS requests,
    sum(s.cost_usd) AS cost_usd,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    max(started_at) AS last_started_at
FROM spend AS s
WHERE s.status != 'completed'
GROUP BY day, provider, model, code;

-- Requests for which more than one attempt of a member was needed, and how many of them got there.
CREATE VIEW IF NOT EXISTS fallbacks AS
SELECT
    toDate(completed_at) AS day,
    task,
    count() AS requests,
    countIf(arrayMax(attempts.attempt) > 1) AS fell_back,
    countIf(arrayMax(attempts.attempt) > 1 AND status = 'completed') AS completed_after_fallback,
    fell_back / requests AS fallback_share,
    if(fell_back = 0, NULL, completed_after_fallback / fell_back) AS success_share
FROM responses FINAL
WHERE replay_id = '' AND notEmpty(attempts)
GROUP BY day, task;

-- What made a further attempt necessary: whom was asked, and what came of it.
CREATE VIEW IF NOT EXISTS fallback_causes AS
SELECT
    day,
    failed.provider AS provider,
    failed.model AS model,
    if(failed.error_code = '', toString(failed.status), toString(failed.error_code)) AS code,
    count() AS attempts,
    uniqExact(request_id) AS requests,
    uniqExactIf(request_id, ending = 'completed') AS completed_requests
FROM
(
    SELECT
        toDate(completed_at) AS day,
        request_id,
        status AS ending,
        arrayJoin(attempts) AS failed
    FROM responses FINAL
    WHERE replay_id = ''
)
WHERE failed.status != 'completed'
GROUP BY day, provider, model, code;

-- Which part of the input was read from the provider's cache.
CREATE VIEW IF NOT EXISTS cache_savings AS
SELECT
    day, provider, model,
    sum(s.input_tokens) AS input_tokens,
    sum(s.cached_tokens) AS cached_tokens,
    sum(s.cache_write_tokens) AS cache_write_tokens,
    if(sum(s.input_tokens) = 0, NULL, sum(s.cached_tokens) / sum(s.input_tokens)) AS cached_share
FROM spend AS s
GROUP BY day, provider, model;

CREATE VIEW IF NOT EXISTS dead_letter_reasons AS
SELECT
    toDate(dead_at) AS day,
    topic,
    error_code AS code,
    count() AS records,
    countIf(request_id != '') AS with_request_id,
    argMax(error_message, dead_at) AS last_message,
    max(dead_at) AS last_dead_at
FROM dead_letters FINAL
GROUP BY day, topic, code;

-- How requests ended.
CREATE VIEW IF NOT EXISTS endings AS
SELECT
    toDate(completed_at) AS day,
    status, task,
    error_code AS code,
    count() AS requests,
    quantile(0.5)(total_ms) AS total_p50_ms,
    sum(r.cost_usd) AS cost_usd,
    countIf(r.cost_usd IS NULL AND usage_source != '') AS unknown_cost
FROM responses AS r FINAL
WHERE replay_id = ''
GROUP BY day, status, task, code;

-- Each replayed request beside the original; columns of an original that is not stored are empty.
CREATE VIEW IF NOT EXISTS evaluations AS
SELECT
    replay.replay_id AS replay_id,
    replay.original_request_id AS original_request_id,
    replay.request_id AS replay_request_id,
    replay.task AS task,
    toString(original.status) AS original_status,
    toString(replay.status) AS replay_status,
    toString(original.provider) AS original_provider,
    toString(replay.provider) AS replay_provider,
    toString(original.model) AS original_model,
    toString(replay.model) AS replay_model,
    original.cost_usd AS original_cost_usd,
    replay.cost_usd AS replay_cost_usd,
    replay.cost_usd - original.cost_usd AS cost_difference_usd,
    original.total_ms AS original_total_ms,
    replay.total_ms AS replay_total_ms,
    original.text AS original_text,
    replay.text AS replay_text,
    if(original.text = '' OR replay.text = '', NULL, original.text = replay.text) AS same_text,
    replay.completed_at AS completed_at
FROM (SELECT * FROM responses FINAL WHERE replay_id != '') AS replay
LEFT JOIN
(
    SELECT * FROM responses FINAL
    WHERE replay_id = '' AND request_id IN
        (SELECT original_request_id FROM responses WHERE replay_id != '')
) AS original
ON original.request_id = replay.original_request_id;

-- Requests of the last seven days that have not ended yet.
CREATE VIEW IF NOT EXISTS requests_open AS
SELECT request_id, task, team, strategy, accepted_at, deadline, deadline < now64(3) AS overdue
FROM requests FINAL
WHERE replay_id = ''
    AND accepted_at > now64(3) - INTERVAL 7 DAY
    AND request_id NOT IN
        (SELECT request_id FROM responses WHERE completed_at > now64(3) - INTERVAL 7 DAY);
