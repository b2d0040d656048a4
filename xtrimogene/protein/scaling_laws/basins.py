"""Every optimum that descents from many starts end in.

Letters: S starts; B optima; P points. The unknowns of a row: a = ln A, b = ln B, e = ln E, alpha, beta, centred.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from xtrimogene.protein.scaling_laws.huber import DELTA, HuberObjective
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.quasi_newton import minimize_many

Kind = Literal["best", "local", "degenerate", "unfinished"]

COARSE, FINE = 1e-6, 1e-12  # relative fall of the objective in a step that ends a descent
CLOSE, ALIKE = 1e-2, 1e-3  # ends, and optima, whose objectives differ by less, relative, are taken for one
MOST_FOLLOWED = 40  # the lowest ends that are followed to their optimum
NOTHING = 1e-6  # a share of the loss that counts for nothing
STEEPEST = 5.0  # an exponent by which a term is gone from one size to the next


@dataclass(frozen=True, kw_only=True, slots=True)
class Basin:
    """An optimum, how many starts ended there, and what it is worth.

    "best"; "local": higher, and no step leads down; "degenerate": the term of N or of D says nothing, tells only the
    smallest runs from the others, or rises: as low as the best it may lie, where the points are a mirror of themselves.
    "unfinished": no optimum at all, descent from it goes on to a lower one. Only a law given to start from can be so,
    and counts as one start.
    """

    kind: Kind
    objective: float
    E: float
    A: float
    B: float
    alpha: float
    beta: float
    num_starts: int

    def __str__(self) -> str:
        return (
            f"{self.kind:<10} objective {self.objective:.4e}  E {self.E:.4g}  A {self.A:.5g}  B {self.B:.5g}  "
            f"alpha {self.alpha:.4f}  beta {self.beta:.4f}  ({self.num_starts} starts)"
        )


def find_basins(
    huber: HuberObjective, starts: Float[np.ndarray, "S 5"]
) -> tuple[Float[np.ndarray, "B 5"], tuple[Basin, ...]]:
    """Return the optima, the best first: their unknowns, and what is told of them.

    Those in which the loss rises with N or D come last, whatever their objective, for they are no laws. The descents
    are begun anew from their ends, for kinks of the objective can leave one stuck. The 40 lowest ends are followed,
    the others dropped with their starts.
    """
    ends, values, counts = starts, np.empty(0), np.ones(len(starts), dtype=int)
    for tolerance in (COARSE, COARSE / 10, COARSE / 100):
        ends, values = minimize_many(lambda x, _: huber.value(x), ends, tolerance=tolerance)
        ends, values, counts = _distinct(ends, values, counts, COARSE)
    ends, values, counts = _distinct(ends, values, counts, CLOSE)
    lowest = np.sort(np.argsort(values, kind="stable")[:MOST_FOLLOWED])
    ends, values = follow(huber, ends[lowest])
    counts = counts[lowest]
    ends, values, counts = _distinct(ends, values, counts, ALIKE)
    told = []
    for i, (end, value, count) in enumerate(zip(ends, values, counts, strict=True)):
        kind: Kind = "best" if i == 0 else "degenerate" if _is_degenerate(huber, end[None]) else "local"
        told.append(_tell(huber, kind, end, value, int(count)))
    return ends, tuple(told)


def place(huber: HuberObjective, law: ParametricLaw, optima: Sequence[Basin]) -> Basin:
    """Return a law as a basin: an optimum where descent from it gains less than 1 %."""
    start = huber.centred(unknowns_of(law)[None])
    (value,), _ = huber.value(start)
    _, (lowest,) = follow(huber, start)
    best = optima[0].objective / DELTA
    kind: Kind = "unfinished"
    if value <= lowest * (1 + CLOSE):
        kind = "best" if value <= best * (1 + CLOSE) else "local"
    return _tell(huber, kind, start[0], value, 1)


def unknowns_of(law: ParametricLaw) -> Float[np.ndarray, " 5"]:
    logs = np.log(np.array([law.A, law.B, law.E]).clip(1e-300))
    return np.array([*logs, law.alpha, law.beta])


def follow(
    huber: HuberObjective, points: Float[np.ndarray, "S 5"]
) -> tuple[Float[np.ndarray, "S 5"], Float[np.ndarray, " S"]]:
    """Descend to the very end, thrice."""
    values = np.empty(0)
    for _ in range(3):
        points, values = minimize_many(lambda x, _: huber.value(x), points, tolerance=FINE, max_steps=1_000)
    return points, values


def _distinct(
    ends: Float[np.ndarray, "S 5"], values: Float[np.ndarray, " S"], counts: Int[np.ndarray, " S"], apart: float
) -> tuple[Float[np.ndarray, "B 5"], Float[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """Return the lowest of each group of ends, the lowest group first, and how many starts it stands for.

    A group ends where the value is by the share ``apart`` above its lowest, or the loss begins to rise with N or D.
    """
    rises: Bool[np.ndarray, " S"] = ends[:, 3:].min(1) <= 0
    order = np.lexsort((values, rises))
    firsts: list[int] = []
    for position, end in enumerate(order):
        lowest = order[firsts[-1]] if firsts else end
        if not firsts or rises[end] != rises[lowest] or values[end] > values[lowest] * (1 + apart):
            firsts.append(position)
    kept = order[firsts]
    return ends[kept], values[kept], np.add.reduceat(counts[order], firsts)


def _is_degenerate(huber: HuberObjective, end: Float[np.ndarray, "1 5"]) -> bool:
    _, shares = huber.terms(end)
    alpha, beta = end[0, 3:]
    return bool(np.ptp(shares[:2, 0], axis=1).min() < NOTHING or max(alpha, beta) > STEEPEST or min(alpha, beta) < 0)


def _tell(huber: HuberObjective, kind: Kind, end: Float[np.ndarray, " 5"], value: float, num_starts: int) -> Basin:
    (unknowns,) = huber.plain(end[None])
    a, b, e = np.exp(unknowns[:3].clip(-700, 700))
    _, shares = huber.terms(end[None])
    return Basin(
        kind=kind,
        objective=float(value) * DELTA,
        E=float(e) if shares[2].max() > NOTHING else 0.0,
        A=float(a),
        B=float(b),
        alpha=float(unknowns[3]),
        beta=float(unknowns[4]),
        num_starts=num_starts,
    )
