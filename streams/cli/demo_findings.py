"""Whether everything ended as it was meant to; each finding is a sentence."""

from collections.abc import Iterator, Sequence

from millrace.schemas.chunk import Chunk
from millrace.schemas.response import Response
from millrace.streams.cli.demo_lines import SentLine
from millrace.streams.cli.demo_recording import Recording

_WHOLE = frozenset({"stop", "length"})


def findings(recording: Recording, lines: Sequence[SentLine]) -> list[str]:
    """Say what is wrong: an end that is missing, other than meant, or one too many."""
    return [
        *_lines(recording, lines),
        *_strangers(recording, lines),
        *_streams(recording, lines),
        *_vectors(recording, lines),
    ]


def _lines(recording: Recording, lines: Sequence[SentLine]) -> Iterator[str]:
    for line in lines:
        name = f"line {line.sent.line} ({line.request_id})"
        if line.line.ends:
            ends = recording.responses.get(line.request_id, [])
            if len(ends) != 1:
                yield f"{name} has {len(ends)} terminal records, not one"
            elif ends[0].status != line.line.meant:
                why = f": {ends[0].error.message}" if ends[0].error else ""
                yield f"{name} ended as {ends[0].status}, not {line.line.meant}{why}"
        letter = recording.dead_letters.get(line.sent.place)
        if line.line.dead and letter is None:
            yield f"{name} was to be set aside, and there is no dead letter"
        elif letter is not None and not line.line.dead:
            yield f"{name} was set aside: {letter.error.code}: {letter.error.message}"
        elif letter is not None and (
            letter.value is None or letter.value.bytes() != line.line.outgoing.value
        ):
            yield f"{name}: its dead letter does not hold the bytes that were sent"


def _strangers(recording: Recording, lines: Sequence[SentLine]) -> Iterator[str]:
    places = {line.sent.place for line in lines}
    for place, letter in recording.dead_letters.items():
        if place not in places:
            topic, partition, offset = place
            yield f"a dead letter for {topic} {partition}@{offset}: {letter.error.message}"
    known = {line.request_id for line in lines}
    for request_id in recording.responses.keys() - known:
        yield f"a terminal record for {request_id}, which nobody sent"


def _streams(recording: Recording, lines: Sequence[SentLine]) -> Iterator[str]:
    for line in lines:
        request = line.line.request
        ends = recording.responses.get(line.request_id, [])
        if request is None or not request.stream or not line.line.ends or len(ends) != 1:
            continue
        response = ends[0]
        if response.status == "completed" and response.ensemble is None:
            problem = _stream_problem(recording.chunks.get(line.request_id, []), response)
            if problem is not None:
                yield f"line {line.sent.line} ({line.request_id}): {problem}"


def _vectors(recording: Recording, lines: Sequence[SentLine]) -> Iterator[str]:
    for line in lines:
        request = line.line.request
        ends = recording.responses.get(line.request_id, [])
        if request is None or request.inputs is None or not line.line.ends or len(ends) != 1:
            continue
        vectors = ends[0].embeddings
        lengths = {len(vector) for vector in vectors}
        if ends[0].status == "completed" and (
            len(vectors) != len(request.inputs)
            or len(lengths) != 1
            or request.dimensions not in {None, *lengths}
        ):
            yield (
                f"line {line.sent.line} ({line.request_id}): {len(vectors)} vectors of "
                f"{sorted(lengths)} numbers for {len(request.inputs)} inputs"
            )


def _stream_problem(chunks: Sequence[Chunk], response: Response) -> str | None:
    if not chunks:
        return "it was to be streamed, and there is no chunk"
    last = [chunk for chunk in chunks if chunk.invocation == chunks[-1].invocation]
    if [chunk.sequence for chunk in last] != list(range(len(last))):
        return "its chunks are not numbered from 0 without gaps"
    if last[-1].end not in _WHOLE:
        return f"its last chunk ends as {last[-1].end!r}"
    text = "".join(chunk.delta for chunk in last)
    if response.data is None and text != response.text:
        return "its chunks, joined, are not the text of its terminal record"
    return None
