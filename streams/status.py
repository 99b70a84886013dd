"""How a running pipeline is, in one line."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

REFRESH_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineStatus:
    """Figures of one process since it started; `lag` counts records not yet taken up."""

    in_flight: int = 0
    completed: int = 0
    failed: int = 0
    lag: int | None = None
    """None while it is not known."""
    cost_usd: Decimal = Decimal(0)
    rate_limited: tuple[str, ...] = ()
    """Whose calls wait for a rate limit: names of entries, or `entry/model`."""


def status_line(status: PipelineStatus) -> str:
    """The figures as one line without colour, about 80 characters wide unless a limit is met."""
    lag = "?" if status.lag is None else f"{status.lag:,}"
    line = (
        f"in flight {status.in_flight:,} · done {status.completed:,} · "
        f"failed {status.failed:,} · lag {lag} · cost {dollars(status.cost_usd)}"
    )
    if status.rate_limited:
        line += f" · rate limit: {', '.join(status.rate_limited)}"
    return line


def dollars(amount: Decimal | None) -> str:
    """Money for reading: cents where they suffice, else enough digits to see it; `?` unknown."""
    if amount is None:
        return "$?"
    cents = Decimal("0.01")
    if amount == 0 or amount >= 1:
        return f"${amount.quantize(cents):,}"
    step = Decimal(1).scaleb(max(amount.adjusted() - 1, -12))
    return f"${min(amount.quantize(step), Decimal(1)):f}"


async def show_status(
    read: Callable[[], PipelineStatus],
    show: Callable[[str], None],
    *,
    stop: asyncio.Event,
    refresh_seconds: float = REFRESH_SECONDS,
) -> None:
    """Show the line again whenever it changes, until `stop` is set; the last one is final."""
    shown = None
    while True:
        ending = stop.is_set()
        line = status_line(read())
        if line != shown:
            show(line)
            shown = line
        if ending:
            return
        try:
            async with asyncio.timeout(refresh_seconds):
                await stop.wait()
        except TimeoutError:
            continue
