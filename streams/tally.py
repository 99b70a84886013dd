"""What this process has done since it started, for its status line and its web pages."""

from dataclasses import dataclass, field
from decimal import Decimal

from millrace.schemas.ledger import UsageEvent
from millrace.schemas.response import Response
from millrace.streams.metrics import Metrics


@dataclass(slots=True)
class Tally:
    """Counts; never reset."""

    completed: int = 0
    failed: int = 0
    """Every end but `completed`."""
    cost_usd: Decimal = Decimal(0)
    attempts: int = 0
    metrics: Metrics = field(default_factory=Metrics)
    """The same in detail, for Prometheus."""

    def ended(self, response: Response) -> None:
        """Count a terminal record."""
        self.metrics.ended(response)
        if response.status == "completed":
            self.completed += 1
        else:
            self.failed += 1

    def spent(self, event: UsageEvent) -> None:
        """Count a call that ended."""
        self.metrics.spent(event)
        self.attempts += 1
        self.cost_usd += event.cost_usd or 0
