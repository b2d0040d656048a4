"""Many edits of the same cells: only cells that an edit changes are embedded again, and only sums are kept.

Edits are cut into parts of about a thousand changed cells each. A part's edited counts are sparse, and its vectors are
one a cell, so memory grows neither with the number of edits nor as cells x genes x width; nothing of a part depends on
the others, on the device count, or on where a stopped sweep went on.

Letters: B cells; G genes of the model; P width of a cell's vector; E edits; K groups; A genes asked for.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.sparse import csr_matrix, vstack

from xtrimogene.config import Pool
from xtrimogene.inference import Inference, Progress
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells, Level
from xtrimogene.tasks.in_silico.sweep_folder import SweepFolder

PART_CELLS = 1_024  # changed cells of a part: about 15 s of one core with a small model
_PART_EDITS = 256


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Reading:
    """How cells are read: their vectors, and the expression predicted of ``genes``.

    ``through`` is "latent" or "decoder"; ``measured`` are the genes that the data has, which the decoder is told.
    """

    pool: Pool
    read_depth: str
    genes: Int64[np.ndarray, " A"]
    through: str
    measured: Bool[np.ndarray, " G"]

    def vectors(
        self, inference: Inference, counts: csr_matrix, progress: Progress | None = None
    ) -> Float32[np.ndarray, "B P"]:
        return inference.cell_embeddings(counts, pool=self.pool, read_depth=self.read_depth, progress=progress)

    def predicted(self, inference: Inference, counts: csr_matrix) -> Float32[np.ndarray, "B A"]:
        if not len(self.genes):
            return np.zeros((counts.shape[0], 0), dtype=np.float32)
        options: dict[str, Any] = {"genes": self.genes, "read_depth": self.read_depth}
        if self.through == "latent":
            return inference.expression_from_latent(counts, **options)
        return inference.expression(counts, measured=self.measured, **options)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class UneditedCells:
    """Cells as they are, embedded once; ``directions`` are those that a shift is measured along, one a group."""

    cells: EditableCells
    group: Int64[np.ndarray, " B"]
    vectors: Float32[np.ndarray, "B P"]
    predicted: Float32[np.ndarray, "B A"]
    directions: Float64[np.ndarray, "K P"]


def directions_between(
    vectors: Float32[np.ndarray, "B P"],
    group: Int64[np.ndarray, " B"],
    is_target: Bool[np.ndarray, " B"],
    num_groups: int,
) -> Float64[np.ndarray, "K P"]:
    """Return, in each group, the mean of the target's cells less that of the others; both have to have one."""
    means = []
    for number in range(num_groups):
        here = group == number
        target, start = vectors[here & is_target], vectors[here & ~is_target]
        means.append(target.mean(axis=0, dtype=np.float64) - start.mean(axis=0, dtype=np.float64))
    return np.stack(means)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Shifts:
    """Sums over the cells of a group that an edit changed; of no cell, zeros.

    ``length`` is that of the shift of a cell's vector, ``cosine`` that of both vectors, ``along`` the shift along the
    group's direction as a share of that direction's length, ``strength`` the absolute change of the edited genes' own
    values, ``change`` that of the predicted expression.
    """

    num_changed: Int64[np.ndarray, "E K"]
    length: Float64[np.ndarray, "E K"]
    cosine: Float64[np.ndarray, "E K"]
    along: Float64[np.ndarray, "E K"]
    strength: Float64[np.ndarray, "E K"]
    change: Float64[np.ndarray, "E K A"]

    @classmethod
    def join(cls, parts: Sequence[dict[str, np.ndarray]]) -> "Shifts":
        return cls(**{one.name: np.concatenate([part[one.name] for part in parts]) for one in fields(cls)})

    def mean(self, name: str) -> Float64[np.ndarray, "E K *A"]:
        """Return the mean over changed cells, NaN where there is none."""
        total = getattr(self, name)
        number = self.num_changed.reshape(self.num_changed.shape + (1,) * (total.ndim - 2)).astype(np.float64)
        return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def cut(edits: Sequence[Edit], cells: EditableCells) -> tuple[range, ...]:
    """Cut edits into parts of about ``PART_CELLS`` changed cells, by what each changes at most."""
    expressing, num_cells = cells.num_expressing, cells.counts.shape[0]
    parts, start, used = [], 0, 0
    for number, edit in enumerate(edits):
        most = num_cells if edit.kind == "over-expression" else int(expressing[list(edit.genes)].sum())
        if number > start and (used + min(most, num_cells) > PART_CELLS or number - start == _PART_EDITS):
            parts.append(range(start, number))
            start, used = number, 0
        used += min(most, num_cells)
    return (*parts, range(start, len(edits)))


def sweep(
    inferences: Sequence[Inference],
    unedited: UneditedCells,
    edits: Sequence[Edit],
    *,
    level: Level,
    reading: Reading,
    folder: SweepFolder,
    progress: Progress | None = None,
) -> Shifts:
    """Make every edit, embed the cells it changes, and sum how they shift; parts in ``folder`` are not made again.

    Parameters
    ----------
    inferences
        One a device; parts are dealt to whichever is free, each in a thread of its own.
    progress
        Called with the number of edits just done.
    """
    parts = cut(edits, unedited.cells)
    waiting = deque(number for number in range(len(parts)) if not folder.has(number))
    if progress is not None:
        progress(len(edits) - sum(len(parts[number]) for number in waiting))

    def work(inference: Inference) -> None:
        for number in _take(waiting):
            chosen = [edits[edit] for edit in parts[number]]
            folder.write(number, sum_part(inference, unedited, chosen, level, reading))
            if progress is not None:
                progress(len(chosen))

    if len(inferences) == 1:
        work(inferences[0])
    else:
        _side_by_side(work, inferences, waiting)
    return Shifts.join([folder.read(number) for number in range(len(parts))])


def sum_part(
    inference: Inference, unedited: UneditedCells, edits: Sequence[Edit], level: Level, reading: Reading
) -> dict[str, np.ndarray]:
    """Return the arrays of `Shifts` for some edits."""
    num_groups, shape = len(unedited.directions), (len(edits), len(unedited.directions))
    sums = {name: np.zeros(shape) for name in ("length", "cosine", "along", "strength")}
    sums["change"] = np.zeros((*shape, len(reading.genes)))
    changed = np.zeros(shape, dtype=np.int64)
    for edit, rows, counts, strength in _slices(unedited.cells, edits, level):
        before, after = unedited.vectors[rows].astype(np.float64), reading.vectors(inference, counts)
        found = _each_cell(before, after.astype(np.float64), unedited.directions[unedited.group[rows]])
        found |= {"strength": strength}
        found["change"] = reading.predicted(inference, counts).astype(np.float64) - unedited.predicted[rows]
        place = edit * num_groups + unedited.group[rows]
        changed += np.bincount(place, minlength=changed.size).reshape(shape)
        for name, values in found.items():
            np.add.at(sums[name].reshape(changed.size, *values.shape[1:]), place, values)
    return {"num_changed": changed, **sums}


def _each_cell(
    before: Float64[np.ndarray, "b P"], after: Float64[np.ndarray, "b P"], direction: Float64[np.ndarray, "b P"]
) -> dict[str, Float[np.ndarray, " b"]]:
    shift = after - before
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    far = (direction**2).sum(axis=1)
    return {
        "length": np.linalg.norm(shift, axis=1),
        "cosine": (before * after).sum(axis=1) / lengths,
        "along": np.divide((shift * direction).sum(axis=1), far, out=np.zeros(len(far)), where=far > 0),
    }


def _slices(
    cells: EditableCells, edits: Sequence[Edit], level: Level
) -> Iterator[tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"], csr_matrix, Float64[np.ndarray, " b"]]]:
    """Yield the edit, the cell, its counts and its strength for changed cells of edits together: batches are full."""
    made = [cells.edited(edit, level) for edit in edits]
    numbers = np.repeat(np.arange(len(edits)), [len(rows) for rows, _, _ in made])
    rows, strengths = (np.concatenate([one[place] for one in made]) for place in (0, 2))
    counts = vstack([one[1] for one in made], format="csr")
    for first in range(0, len(rows), PART_CELLS):
        some = slice(first, first + PART_CELLS)
        yield numbers[some], rows[some], counts[some], strengths[some]


def _take(waiting: deque[int]) -> Iterator[int]:
    while True:
        try:
            yield waiting.popleft()
        except IndexError:
            return


def _side_by_side(work: Callable[[Inference], None], inferences: Sequence[Inference], waiting: deque[int]) -> None:
    with ThreadPoolExecutor(len(inferences)) as pool:
        try:
            for done in as_completed([pool.submit(work, inference) for inference in inferences]):
                done.result()
        finally:
            waiting.clear()  # after an error, or Ctrl-C, the others stop at their next part
