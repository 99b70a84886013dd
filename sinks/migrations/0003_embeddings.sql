-- Requests that ask for vectors. The vectors themselves are not stored.

ALTER TABLE requests
    ADD COLUMN IF NOT EXISTS input_count UInt32 COMMENT 'texts to be turned into vectors',
    ADD COLUMN IF NOT EXISTS dimensions UInt32 COMMENT 'of the vectors as asked; 0 for the model''s own';

ALTER TABLE responses
    ADD COLUMN IF NOT EXISTS embedding_count UInt32 COMMENT 'vectors of the answer',
    ADD COLUMN IF NOT EXISTS embedding_dimensions UInt32 COMMENT 'numbers in each of them';

-- What was embedded. Cost and tokens are those of the requests, all their attempts included.
CREATE VIEW IF NOT EXISTS embeddings AS
SELECT
    toDate(completed_at) AS day,
    provider, model, team,
    embedding_dimensions AS dimensions,
    count() AS requests,
    sum(embedding_count) AS vectors,
    sum(r.input_tokens) AS input_tokens,
    sum(r.cost_usd) AS cost_usd,
    countIf(r.cost_usd IS NULL) AS unknown_cost,
    quantile(0.5)(total_ms) AS total_p50_ms
FROM responses AS r FINAL
WHERE replay_id = '' AND embedding_count > 0
GROUP BY day, provider, model, team, dimensions;
