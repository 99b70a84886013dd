-- What the router decided, and why, beside how the request ended.
ALTER TABLE responses
    ADD COLUMN IF NOT EXISTS task_source LowCardinality(String)
        COMMENT 'named by the request, or guessed by rules or by default',
    ADD COLUMN IF NOT EXISTS task_confidence Nullable(Float64) COMMENT 'of the guess, 0 to 1',
    ADD COLUMN IF NOT EXISTS complexity Nullable(Float64) COMMENT 'as estimated, 0 to 1',
    ADD COLUMN IF NOT EXISTS estimated_cost_usd Nullable(Decimal(38, 12))
        COMMENT 'of every member called once; of a cascade, of its first tier',
    ADD COLUMN IF NOT EXISTS planned Array(Tuple(member UInt32, role LowCardinality(String),
        stage UInt32, tier UInt32, provider LowCardinality(String), model LowCardinality(String)))
        COMMENT 'the candidates of each member, in the order in which they are tried',
    ADD COLUMN IF NOT EXISTS route_reasons Array(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS passed_over Array(Tuple(provider LowCardinality(String),
        model LowCardinality(String), reason String)) CODEC(ZSTD);

-- How requests were routed, and how far the estimates of their costs were off.
CREATE VIEW IF NOT EXISTS routing AS
SELECT
    toDate(completed_at) AS day,
    task, strategy, provider, model,
    count() AS requests,
    countIf(task_source != 'named') AS guessed,
    avg(complexity) AS complexity,
    sumIf(r.estimated_cost_usd, r.cost_usd IS NOT NULL) AS estimated_usd,
    sum(r.cost_usd) AS cost_usd
FROM responses AS r FINAL
WHERE replay_id = '' AND task_source != ''
GROUP BY day, task, strategy, provider, model;

-- Which models were passed over, and why; reasons differ in their figures.
CREATE VIEW IF NOT EXISTS passed_over_reasons AS
SELECT
    toDate(completed_at) AS day,
    over.provider AS provider,
    over.model AS model,
    replaceRegexpAll(over.reason, '[0-9][0-9.]*', 'N') AS reason,
    count() AS requests
FROM (SELECT completed_at, arrayJoin(passed_over) AS over FROM responses FINAL WHERE replay_id = '')
GROUP BY day, provider, model, reason;
