"""The demo in figures, from the records that any client could have read."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby
from statistics import median, quantiles

from millrace.schemas.call import AttemptSummary
from millrace.schemas.response import Response, TierResult
from millrace.streams.cli.demo_lines import SentLine
from millrace.streams.cli.demo_recording import Recording

_TENTHS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What one model was asked, under one strategy."""

    strategy: str
    provider: str
    model: str
    calls: int
    completed: int
    input_tokens: int
    output_tokens: int
    estimated: int
    """Calls whose tokens are an estimate."""
    cost_usd: Decimal | None
    """None as soon as one call's is unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """A member's attempts, of which there were several."""

    request_id: str
    attempts: tuple[AttemptSummary, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How an ensemble voted."""

    request_id: str
    status: str
    answer: str
    members: int
    answered: int
    agreeing: tuple[str, ...]
    """As `provider/model`, like `dissenting`."""
    dissenting: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Climb:
    """How far a cascade went."""

    request_id: str
    confidence: str
    tiers: tuple[str, ...]
    """Each answer that was weighed, as `provider/model`, with how sure it was."""
    sufficed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAside:
    """A line that became a dead letter."""

    line: int
    request_id: str | None
    """Of the terminal record that the requester got as well, if any."""
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Everything there is to tell."""

    lines: int
    endings: dict[str, int]
    """Requests by status."""
    duplicates: int
    """Lines that were the same request again, and cost nothing."""
    routes: tuple[Route, ...]
    fallbacks: tuple[Fallback, ...]
    agreements: tuple[Agreement, ...]
    climbs: tuple[Climb, ...]
    set_aside: tuple[SetAside, ...]
    first_token_p50_ms: float | None
    """From acceptance to the first token, of completed requests."""
    first_token_p90_ms: float | None
    total_p50_ms: float | None


def summarise(recording: Recording, lines: Sequence[SentLine]) -> Summary:
    """Work out the figures."""
    ends = [found[0] for found in recording.responses.values()]
    done = [end for end in ends if end.status == "completed"]
    first = [
        end.timing.time_to_first_token_ms
        for end in done
        if end.timing.time_to_first_token_ms is not None
    ]
    whole = [end.timing.total_ms for end in done if end.timing.total_ms is not None]
    return Summary(
        lines=len(lines),
        endings=dict(Counter(end.status for end in ends).most_common()),
        duplicates=sum(line.line.meant == "duplicate" for line in lines),
        routes=tuple(_routes(ends)),
        fallbacks=tuple(_fallbacks(ends)),
        agreements=tuple(_agreement(end) for end in ends if end.strategy == "ensemble"),
        climbs=tuple(_climbs(ends)),
        set_aside=tuple(_set_aside(recording, lines)),
        first_token_p50_ms=median(first) if first else None,
        first_token_p90_ms=quantiles(first, n=_TENTHS)[-1] if len(first) > 1 else None,
        total_p50_ms=median(whole) if whole else None,
    )


def _routes(ends: Iterable[Response]) -> Iterable[Route]:
    attempts = sorted(
        (
            ((end.strategy or "auto", each.provider, each.model), each)
            for end in ends
            for each in end.attempts
        ),
        key=lambda pair: pair[0],
    )
    for (strategy, provider, model), group in groupby(attempts, key=lambda pair: pair[0]):
        calls = [each for _, each in group]
        usages = [each.usage for each in calls if each.usage is not None]
        costs = [each.cost_usd for each in calls if each.usage is not None]
        known = [cost for cost in costs if cost is not None]
        yield Route(
            strategy=strategy,
            provider=provider,
            model=model,
            calls=len(calls),
            completed=sum(each.status == "completed" for each in calls),
            input_tokens=sum(usage.input_tokens for usage in usages),
            output_tokens=sum(usage.output_tokens for usage in usages),
            estimated=sum(usage.source == "estimated" for usage in usages),
            cost_usd=sum(known, start=Decimal(0)) if len(known) == len(costs) else None,
        )


def _fallbacks(ends: Iterable[Response]) -> Iterable[Fallback]:
    for end in ends:
        for _, group in groupby(end.attempts, key=lambda each: each.member):
            attempts = tuple(group)
            # A tier's answer that was not trusted is no failure.
            if any(each.status != "completed" for each in attempts[:-1]):
                yield Fallback(request_id=end.request_id, attempts=attempts)


def _agreement(end: Response) -> Agreement:
    verdict = end.ensemble
    if verdict is None:
        raise ValueError(f"{end.request_id} was no ensemble")
    # A member's last attempt is the one that answered.
    names = {each.member: f"{each.provider}/{each.model}" for each in end.attempts}
    return Agreement(
        request_id=end.request_id,
        status=end.status,
        answer=end.text,
        members=verdict.members,
        answered=verdict.answered,
        agreeing=tuple(names[member] for member in verdict.agreeing),
        dissenting=tuple(names[member] for member in verdict.dissenting),
    )


def _climbs(ends: Iterable[Response]) -> Iterable[Climb]:
    for end in ends:
        verdict = end.cascade
        if verdict is not None:
            yield Climb(
                request_id=end.request_id,
                confidence=verdict.confidence,
                tiers=tuple(_tier(each) for each in verdict.results),
                sufficed=verdict.sufficed,
            )


def _tier(result: TierResult) -> str:
    sure = "" if result.confidence is None else f" ({result.confidence:.2f})"
    return f"{result.provider}/{result.model}{sure}"


def _set_aside(recording: Recording, lines: Sequence[SentLine]) -> Iterable[SetAside]:
    for line in lines:
        letter = recording.dead_letters.get(line.sent.place)
        if letter is not None:
            yield SetAside(
                line=line.sent.line,
                request_id=letter.request_id,
                code=letter.error.code,
                message=letter.error.message,
            )
