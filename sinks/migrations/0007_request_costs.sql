-- What each request has cost by the ledger: also the calls that were stopped once it had its answer,
-- which its response could not wait for. A request whose calls began on two days has a row for each.
CREATE VIEW IF NOT EXISTS request_costs AS
SELECT
    day, request_id,
    any(task) AS task,
    any(team) AS team,
    any(strategy) AS strategy,
    count() AS attempts,
    uniqExact(member) AS members,
    countIf(s.status = 'cancelled') AS stopped,
    countIf(s.status = 'lost') AS lost,
    countIf(usage_source = 'estimated') AS estimated,
    countIf(s.cost_usd IS NULL) AS unknown_cost,
    sum(s.cost_usd) AS cost_usd,
    sumIf(s.cost_usd, s.status = 'cancelled') AS stopped_usd
FROM spend AS s
GROUP BY day, request_id;

CREATE VIEW IF NOT EXISTS cost_by_strategy AS
SELECT
    day, strategy,
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
GROUP BY day, strategy;

-- As before, with the cost by the ledger: a race's response does not have what the stopped members cost.
CREATE OR REPLACE VIEW ensembles AS
SELECT
    day, task, strategy, mode, r.decided_by AS decided_by,
    count() AS requests,
    countIf(r.status = 'completed') AS completed,
    countIf(ensemble_partial) AS partial,
    avg(ensemble_agreement) AS agreement,
    sum(c.cost_usd) AS cost_usd,
    countIf(c.request_id = '' OR c.unknown_cost > 0) AS unknown_cost
FROM
(
    SELECT
        toDate(completed_at) AS day, request_id, task, strategy, ensemble_mode AS mode,
        decided_by, status, ensemble_partial, ensemble_agreement
    FROM responses FINAL
    WHERE replay_id = '' AND ensemble_members > 0
) AS r
LEFT JOIN
(
    SELECT request_id, sum(s.cost_usd) AS cost_usd, countIf(s.cost_usd IS NULL) AS unknown_cost
    FROM spend AS s
    WHERE strategy IN ('ensemble', 'parallel', 'delegate')
    GROUP BY request_id
) AS c ON c.request_id = r.request_id
GROUP BY day, task, strategy, mode, decided_by;
