-- Which key made how many calls, by the name of the variable that holds it; replays count as well, for
-- they are on the vendor's bill too. Calls that a server without keys answered are left out.
CREATE VIEW IF NOT EXISTS calls_by_key AS
SELECT
    day, provider, key_alias,
    uniqExact(model) AS models,
    count() AS attempts,
    countIf(l.status = 'completed') AS completed,
    countIf(error_code = 'authentication_failed') AS refused,
    countIf(error_code = 'rate_limited') AS rate_limited,
    sum(l.input_tokens) AS input_tokens,
    sum(l.output_tokens) AS output_tokens,
    sum(l.cost_usd) AS cost_usd,
    countIf(l.cost_usd IS NULL) AS unknown_cost,
    max(started_at) AS last_started_at
FROM ledger AS l
WHERE key_alias != '' AND l.status != 'in_flight'
GROUP BY day, provider, key_alias;
