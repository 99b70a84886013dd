"""The closed vocabularies that records share."""

from typing import Literal

TaskType = Literal[
    "code_generation",
    "code_review",
    "reasoning",
    "summarization",
    "error_diagnosis",
    "data_interpretation",
    "workflow_generation",
    "requirement_analysis",
    "bug_fixing",
    "documentation_generation",
    "general",
]
Strategy = Literal[
    "auto",
    "local_only",
    "cloud_only",
    "local_first",
    "cloud_first",
    "ensemble",
    "parallel",
    "cascade",
    "delegate",
]
Hardware = Literal["cloud", "gpu", "cpu"]
"""Where a provider entry runs its models; `gpu` and `cpu` are local."""

HardwareWish = Literal["any", "local", "cloud", "gpu", "cpu"]
Sensitivity = Literal["normal", "private"]
Capability = Literal[
    "tools", "vision", "json", "json_schema", "reasoning", "long_context", "code", "embeddings"
]
"""What a model can do; one that can do nothing but `embeddings` is never asked for an answer."""

OutputFormat = Literal["text", "markdown", "code", "json"]
EnsembleMode = Literal["vote", "weighted", "best_of", "merge", "chain"]
MemberRole = Literal[
    "answer", "judge", "merge", "refine", "plan", "part", "combine", "rate", "classify", "embed"
]
"""What a member's call asks for: the job's answer, or something about other members' answers."""

VoteBy = Literal["exact", "normalized", "field", "similarity", "embedding"]
ConfidenceSource = Literal["score", "logprobs", "self_rating", "agreement"]
TaskSource = Literal["named", "rules", "model", "default"]
DecidedBy = Literal[
    "first", "vote", "weight", "score", "judge", "merge", "refine", "combine", "confidence", "parts"
]
"""What chose the answer of a request with several members or tiers."""

CancelledScope = Literal["request", "member"]
TerminalStatus = Literal["completed", "failed", "expired", "cancelled", "rejected"]
Lane = Literal["interactive", "batch"]
"""Which of a provider's waiting calls go first: both move on, in unequal shares."""

AttemptStatus = Literal["completed", "failed", "expired", "cancelled"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "other"]
ChunkEnd = Literal["stop", "length", "error", "cancelled", "restarted"]
UsageSource = Literal["reported", "estimated"]
CostSource = Literal["provider", "override", "price_table", "local", "unknown"]

LOCAL_HARDWARE: frozenset[Hardware] = frozenset({"gpu", "cpu"})
