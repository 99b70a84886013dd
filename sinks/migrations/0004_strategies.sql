-- How several members or tiers came to one answer.
ALTER TABLE responses
    ADD COLUMN IF NOT EXISTS attempt_roles Array(LowCardinality(String))
        COMMENT 'what each of the attempts was asked for: answer, judge, merge, …',
    ADD COLUMN IF NOT EXISTS attempt_tiers Array(UInt32),
    ADD COLUMN IF NOT EXISTS attempt_repairs Array(Bool)
        COMMENT 'whether the model had been told what was wrong with its answer',
    ADD COLUMN IF NOT EXISTS ensemble_cancelled Array(UInt32),
    ADD COLUMN IF NOT EXISTS ensemble_timed_out Array(UInt32),
    ADD COLUMN IF NOT EXISTS ensemble_skipped Array(UInt32),
    ADD COLUMN IF NOT EXISTS ensemble_partial Bool COMMENT 'made without some of its members',
    ADD COLUMN IF NOT EXISTS ensemble_agreement Nullable(Float64)
        COMMENT 'the share of the answers that the winning group has, 0 to 1',
    ADD COLUMN IF NOT EXISTS decided_by LowCardinality(String)
        COMMENT 'what chose or wrote the answer: vote, judge, merge, …',
    ADD COLUMN IF NOT EXISTS verdict_notes Array(String) CODEC(ZSTD),
    ADD COLUMN IF NOT EXISTS cascade_confidence LowCardinality(String)
        COMMENT 'what the answers were trusted by; empty where there was no cascade',
    ADD COLUMN IF NOT EXISTS cascade_tiers UInt32 COMMENT 'how many there were to try',
    ADD COLUMN IF NOT EXISTS cascade_tier Nullable(UInt32) COMMENT 'whose answer was taken',
    ADD COLUMN IF NOT EXISTS cascade_sufficed Bool COMMENT 'whether that answer was trusted',
    ADD COLUMN IF NOT EXISTS cascade_results Array(Tuple(tier UInt32,
        provider LowCardinality(String), model LowCardinality(String),
        confidence Nullable(Float64), threshold Nullable(Float64), sufficed Bool));

-- How often each tier of the cascades was asked, and how often its answer sufficed.
CREATE VIEW IF NOT EXISTS tiers AS
SELECT
    toDate(completed_at) AS day,
    task,
    cascade_confidence AS confidence_by,
    result.tier AS tier,
    result.provider AS provider,
    result.model AS model,
    count() AS asked,
    countIf(result.sufficed) AS sufficed,
    sufficed / asked AS sufficed_share,
    avg(result.confidence) AS confidence
FROM
(
    SELECT completed_at, task, cascade_confidence, arrayJoin(cascade_results) AS result
    FROM responses FINAL
    WHERE replay_id = '' AND cascade_confidence != ''
)
GROUP BY day, task, confidence_by, tier, provider, model;

-- How requests with several members were decided, and how far the members agreed.
CREATE VIEW IF NOT EXISTS ensembles AS
SELECT
    toDate(completed_at) AS day,
    task, strategy,
    ensemble_mode AS mode,
    r.decided_by AS decided_by,
    count() AS requests,
    countIf(status = 'completed') AS completed,
    countIf(ensemble_partial) AS partial,
    avg(ensemble_agreement) AS agreement,
    sum(r.cost_usd) AS cost_usd,
    countIf(r.cost_usd IS NULL) AS unknown_cost
FROM responses AS r FINAL
WHERE replay_id = '' AND ensemble_members > 0
GROUP BY day, task, strategy, mode, decided_by;

-- As before, but for tiers of a cascade: an answer that was not trusted is no failed attempt.
CREATE OR REPLACE VIEW fallbacks AS
SELECT
    day, task,
    count() AS requests,
    countIf(again) AS fell_back,
    countIf(again AND ending = 'completed') AS completed_after_fallback,
    fell_back / requests AS fallback_share,
    if(fell_back = 0, NULL, completed_after_fallback / fell_back) AS success_share
FROM
(
    SELECT
        toDate(completed_at) AS day,
        task,
        status AS ending,
        arrayExists(
            (one, first, ended) -> ended != 'completed' AND arrayExists(
                (other, later) -> other = one AND later > first,
                attempts.member, attempts.attempt
            ),
            attempts.member, attempts.attempt, attempts.status
        ) AS again
    FROM responses FINAL
    WHERE replay_id = '' AND notEmpty(attempts)
)
GROUP BY day, task;
