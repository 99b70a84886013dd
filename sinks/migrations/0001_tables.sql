-- Every table keeps, of the rows with one key, the one with the highest precedence. Rows may
-- therefore come twice, in any batch and order; read them with FINAL until they are merged.

-- What was asked. Of several records with one request_id, the first one counts.
CREATE TABLE IF NOT EXISTS requests
(
    request_id String,
    precedence UInt64,
    accepted_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    task LowCardinality(String),
    team LowCardinality(String),
    budget_key LowCardinality(String),
    conversation_id String,
    strategy LowCardinality(String),
    hardware LowCardinality(String),
    sensitivity LowCardinality(String),
    providers Array(LowCardinality(String)),
    models Array(LowCardinality(String)),
    template LowCardinality(String),
    output_format LowCardinality(String),
    stream Bool,
    reply_to LowCardinality(String),
    deadline Nullable(DateTime64(3, 'UTC')),
    message_count UInt32,
    tool_count UInt32,
    size_bytes UInt64 COMMENT 'of the record on its topic',
    content String COMMENT 'JSON of prompt, messages or template and variables; empty unless text is stored' CODEC(ZSTD),
    tags Map(LowCardinality(String), String),
    replay_id LowCardinality(String) COMMENT 'empty for live work',
    original_request_id String,
    topic LowCardinality(String),
    partition Int32,
    offset Int64
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(accepted_at)
ORDER BY request_id;

-- The ledger: one row an invocation. `reserved` (precedence 1) is written before the provider is
-- called, `spent` (precedence 2) takes its place when the call has ended.
CREATE TABLE IF NOT EXISTS attempts
(
    row_id String COMMENT 'request_id/member/attempt/invocation',
    precedence UInt8 COMMENT '1 reserved, 2 spent',
    request_id String,
    member UInt32,
    attempt UInt32,
    invocation String,
    provider LowCardinality(String),
    model LowCardinality(String),
    hardware LowCardinality(String),
    task LowCardinality(String),
    team LowCardinality(String),
    budget_key LowCardinality(String),
    strategy LowCardinality(String),
    prompt_name LowCardinality(String),
    prompt_version UInt32,
    prompt_sha256 LowCardinality(String),
    key_alias LowCardinality(String),
    status LowCardinality(String) COMMENT 'empty while reserved',
    finish_reason LowCardinality(String),
    error_code LowCardinality(String),
    input_tokens UInt64 COMMENT 'with cached and cache-written ones',
    cached_tokens UInt64,
    cache_write_tokens UInt64,
    cache_write_1h_tokens UInt64,
    output_tokens UInt64 COMMENT 'with reasoning',
    reasoning_tokens UInt64,
    usage_source LowCardinality(String),
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'NULL when unknown',
    cost_source LowCardinality(String),
    queued_ms Nullable(Float64),
    time_to_first_token_ms Nullable(Float64),
    total_ms Nullable(Float64),
    replay_id LowCardinality(String) COMMENT 'empty for live work',
    tags Map(LowCardinality(String), String),
    started_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    deadline DateTime64(3, 'UTC') CODEC(Delta, ZSTD),
    finished_at Nullable(DateTime64(3, 'UTC'))
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(started_at)
ORDER BY (request_id, row_id);

-- How each request ended. Of several terminal records with one request_id, the earliest counts.
CREATE TABLE IF NOT EXISTS responses
(
    request_id String,
    precedence UInt64,
    status LowCardinality(String),
    text String COMMENT 'empty unless text is stored' CODEC(ZSTD),
    data String COMMENT 'JSON; empty unless text is stored' CODEC(ZSTD),
    tool_calls String COMMENT 'JSON; empty unless text is stored' CODEC(ZSTD),
    text_bytes UInt64,
    finish_reason LowCardinality(String),
    provider LowCardinality(String),
    model LowCardinality(String),
    task LowCardinality(String),
    team LowCardinality(String),
    strategy LowCardinality(String),
    input_tokens UInt64,
    cached_tokens UInt64,
    cache_write_tokens UInt64,
    cache_write_1h_tokens UInt64,
    output_tokens UInt64,
    reasoning_tokens UInt64,
    usage_source LowCardinality(String) COMMENT 'empty when no call was made',
    cost_usd Nullable(Decimal(38, 12)) COMMENT 'NULL when that of any attempt is unknown',
    attempts Array(Tuple(
        member UInt32,
        attempt UInt32,
        provider LowCardinality(String),
        model LowCardinality(String),
        status LowCardinality(String),
        error_code LowCardinality(String)
    )),
    ensemble_mode LowCardinality(String),
    ensemble_members UInt32,
    ensemble_answered UInt32,
    ensemble_agreeing Array(UInt32),
    ensemble_dissenting Array(UInt32),
    ensemble_missing Array(UInt32),
    queued_ms Nullable(Float64),
    time_to_first_token_ms Nullable(Float64),
    total_ms Nullable(Float64),
    prompt_name LowCardinality(String),
    prompt_version UInt32,
    prompt_sha256 LowCardinality(String),
    error_code LowCardinality(String),
    error_message String,
    tags Map(LowCardinality(String), String),
    replay_id LowCardinality(String) COMMENT 'empty for live work',
    original_request_id String,
    accepted_at Nullable(DateTime64(3, 'UTC')),
    completed_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(completed_at)
ORDER BY request_id;

-- What could not be processed, by where it lay.
CREATE TABLE IF NOT EXISTS dead_letters
(
    topic LowCardinality(String),
    partition Int32,
    offset Int64,
    precedence UInt64,
    timestamp Nullable(DateTime64(3, 'UTC')),
    key Nullable(String),
    key_encoding LowCardinality(String) COMMENT 'utf-8 or base64',
    value Nullable(String) COMMENT 'NULL for a tombstone, and unless text is stored' CODEC(ZSTD),
    value_encoding LowCardinality(String) COMMENT 'utf-8 or base64',
    value_bytes Nullable(UInt64) COMMENT 'NULL for a tombstone',
    headers String COMMENT 'JSON; empty unless text is stored',
    request_id String COMMENT 'where one could be read',
    error_code LowCardinality(String),
    error_message String,
    dead_at DateTime64(3, 'UTC') CODEC(Delta, ZSTD)
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(dead_at)
ORDER BY (topic, partition, offset);
