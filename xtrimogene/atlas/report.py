"""What a run over shards came to: cells, seconds, failures, and what a million cells cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """``failures`` are sentences by shard; ``price`` is that of an hour of what did this run's share."""

    num_shards: int
    done_before: int
    done_now: int
    num_cells: int
    num_unread: int
    cells_now: int
    seconds: float
    failures: Mapping[str, str]
    price: float | None = None

    @classmethod
    def of(
        cls,
        before: Sequence[Mapping[str, Any]],
        now: Sequence[Mapping[str, Any]],
        failures: Mapping[str, str],
        seconds: float,
        price: float | None,
    ) -> "Report":
        everything = [*before, *now]
        return cls(
            num_shards=len(everything) + len(failures),
            done_before=len(before),
            done_now=len(now),
            num_cells=sum(record["cells"] for record in everything),
            num_unread=sum(record["unread"] for record in everything),
            cells_now=sum(record["cells"] for record in now),
            seconds=seconds,
            failures=failures,
            price=price,
        )

    @property
    def cost_of_a_million(self) -> float | None:
        """In the currency of the price; None without one, or where nothing was done."""
        if self.price is None or not self.cells_now:
            return None
        return self.price * self.seconds / 3600 * 1e6 / self.cells_now

    def __str__(self) -> str:
        lines = [
            f"shards   {self.done_now:,} done now, {self.done_before:,} before, {len(self.failures):,} failed",
            f"cells    {self.num_cells:,}" + (f", {self.num_unread:,} without counts" if self.num_unread else ""),
        ]
        if self.cells_now:
            speed = self.cells_now / max(self.seconds, 1e-9)
            lines.append(f"time     {self.seconds:,.1f} s, {speed:,.0f} cells a second")
        if self.cost_of_a_million is not None:
            lines.append(f"cost     {self.cost_of_a_million:,.2f} a million cells at {self.price:g} an hour")
        lines += [f"failed   {name}: {reason}" for name, reason in self.failures.items()]
        return "\n".join(lines)
