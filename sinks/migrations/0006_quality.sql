-- How good an answer was, as the validator saw it.
ALTER TABLE responses
    ADD COLUMN IF NOT EXISTS quality_score Nullable(Float64)
        COMMENT '0 to 1; NULL where there is no answer' AFTER finish_reason,
    ADD COLUMN IF NOT EXISTS quality_parts Map(LowCardinality(String), Float64)
        COMMENT 'what each check thought of it' AFTER quality_score,
    ADD COLUMN IF NOT EXISTS quality_notes Array(String)
        COMMENT 'what had to be taken off or mended' AFTER quality_parts;

-- How good answers were, and how often there was none that kept to what was asked.
CREATE VIEW IF NOT EXISTS quality AS
SELECT
    toDate(completed_at) AS day,
    provider, model, task, prompt_name, prompt_version,
    count() AS requests,
    countIf(quality_score IS NOT NULL) AS answers,
    avg(quality_score) AS score,
    quantile(0.1)(quality_score) AS score_p10,
    countIf(notEmpty(quality_notes)) AS noted,
    countIf(error_code = 'output_invalid') AS invalid
FROM responses FINAL
WHERE replay_id = '' AND (quality_score IS NOT NULL OR error_code = 'output_invalid')
GROUP BY day, provider, model, task, prompt_name, prompt_version;
