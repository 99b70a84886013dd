"""Checks the vectors of an answer against what was asked."""

from millrace.agents.validation.verdict import InvalidOutput, ValidOutput
from millrace.schemas.call import Call
from millrace.schemas.embedding import Vectors
from millrace.schemas.errors import ErrorInfo


def check_embeddings(call: Call, vectors: Vectors) -> ValidOutput | InvalidOutput:
    """Accept a vector for each input, all of one length, and of the length that was asked for.

    The adapters look at this as well. A record may be of another version's, and what ends a
    request as completed is judged in one place.
    """
    lengths = {len(vector) for vector in vectors}
    if len(vectors) != len(call.inputs):
        found = f"{len(vectors)} vectors for {len(call.inputs)} inputs"
    elif len(lengths) != 1 or 0 in lengths:
        found = f"vectors of {', '.join(map(str, sorted(lengths)))} numbers"
    elif call.dimensions is not None and lengths != {call.dimensions}:
        found = f"vectors of {lengths.pop()} numbers, not {call.dimensions}"
    else:
        return ValidOutput("")
    message = f"the answer has {found}"
    return InvalidOutput(ErrorInfo(code="output_invalid", message=message, retryable=True))
