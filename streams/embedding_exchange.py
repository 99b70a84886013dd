"""The exchange of a call that has texts turned into vectors."""

from millrace.providers.protocol import Completion, Embedder, EmbeddingRequest, Quota
from millrace.schemas.call import Call


async def embed(embedder: Embedder, call: Call, *, quota: Quota | None = None) -> Completion:
    """Have the whole batch embedded in one exchange; the completion has vectors in place of text.

    Nothing is split: the router sends no batch that the wire or a record would not take, so that
    an attempt is one exchange, and one row of the ledger.

    Raises:
        ProviderError: As `Embedder.embed`.
    """
    reply = await embedder.embed(
        EmbeddingRequest(
            model=call.target.model,
            inputs=call.inputs,
            dimensions=call.dimensions,
            quota=quota,
        )
    )
    return Completion(
        text="",
        finish_reason="stop",
        usage=reply.usage,
        reported_cost_usd=reply.reported_cost_usd,
        model=reply.model,
        load_ms=reply.load_ms,
        key_alias=reply.key_alias,
        embeddings=reply.vectors,
    )
