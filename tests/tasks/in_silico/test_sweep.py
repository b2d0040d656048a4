"""Sweeps: the sums are those of embedding each edited cell, whatever the parts, the workers and the interruptions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError
from xtrimogene.inference import Inference
from xtrimogene.tasks.in_silico import sweep as sweeps
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells, Level
from xtrimogene.tasks.in_silico.sweep import Reading, Shifts, UneditedCells, cut, directions_between, sweep
from xtrimogene.tasks.in_silico.sweep_folder import SweepFolder

LEVEL = Level.parse("q0.9")
EDITS = (
    Edit(kind="knock-out", genes=(3,)),
    Edit(kind="over-expression", genes=(5,)),
    Edit(kind="knock-out", genes=(7, 9)),
    Edit(kind="knock-out", genes=(399,)),
)


@pytest.fixture(scope="module")
def inference(tiny_model: PretrainedModel) -> Inference:
    return Inference(tiny_model, device="cpu")


@pytest.fixture(scope="module")
def reading() -> Reading:
    genes = np.array([3, 11])
    return Reading(pool="mean", read_depth="f1", genes=genes, through="latent", measured=np.ones(400, dtype=bool))


@pytest.fixture(scope="module")
def unedited(inference: Inference, reading: Reading, make_counts: Callable[..., csr_matrix]) -> UneditedCells:
    dense = make_counts(14, 400, 0.2).toarray()
    dense[:, 399] = 0
    counts = csr_matrix(dense)
    vectors, group = reading.vectors(inference, counts), np.arange(14) % 2
    return UneditedCells(
        cells=EditableCells(counts),
        group=group,
        vectors=vectors,
        predicted=reading.predicted(inference, counts),
        directions=directions_between(vectors, group, np.arange(14) > 9, 2),
    )


def run(inferences: list[Inference], unedited: UneditedCells, reading: Reading, folder: Path) -> Shifts:
    parts = SweepFolder(folder, {"edits": len(EDITS)})
    return sweep(inferences, unedited, EDITS, level=LEVEL, reading=reading, folder=parts)


def test_sums_are_those_of_each_cell(
    inference: Inference, unedited: UneditedCells, reading: Reading, tmp_path: Path
) -> None:
    found = run([inference], unedited, reading, tmp_path)
    for number, edit in enumerate(EDITS):
        dense = unedited.cells.counts.toarray()
        for group in range(2):
            lengths, cosines, along, change = [], [], [], []
            for cell in np.flatnonzero(unedited.group == group):
                after = dense[cell].copy()
                if edit.kind == "knock-out":
                    after[list(edit.genes)] = 0
                else:
                    share = unedited.cells.share(5, 0.9)
                    wanted = max(1, np.rint(share / (1 - share) * (after.sum() - after[5])))
                    after[5] = max(after[5], wanted)
                if (after == dense[cell]).all():
                    continue
                one = csr_matrix(after[None])
                x, y = unedited.vectors[cell].astype(float), reading.vectors(inference, one)[0].astype(float)
                way = unedited.directions[group]
                lengths.append(np.linalg.norm(y - x))
                cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
                along.append((y - x) @ way / (way @ way))
                change.append(reading.predicted(inference, one)[0] - unedited.predicted[cell])
            assert found.num_changed[number, group] == len(lengths)
            if lengths:
                for name, values in (("length", lengths), ("cosine", cosines), ("along", along), ("change", change)):
                    mean = np.mean(values, axis=0)
                    np.testing.assert_allclose(found.mean(name)[number, group], mean, atol=2e-5)
    assert found.num_changed[3].sum() == 0 and np.isnan(found.mean("length")[3]).all()


def test_workers_and_parts_change_nothing(
    inference: Inference, unedited: UneditedCells, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run([inference], unedited, reading, tmp_path / "one")
    monkeypatch.setattr(sweeps, "PART_CELLS", 5)
    assert len(cut(EDITS, unedited.cells)) == 4
    split = run([inference], unedited, reading, tmp_path / "split")
    shared = run([inference, inference], unedited, reading, tmp_path / "two")
    for name in ("num_changed", "length", "cosine", "along", "strength", "change"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(split, name))
        np.testing.assert_allclose(getattr(split, name), getattr(whole, name), atol=1e-4)


def test_a_stopped_sweep_goes_on_where_it_was(
    inference: Inference, unedited: UneditedCells, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "PART_CELLS", 5)
    whole = run([inference], unedited, reading, tmp_path / "whole")
    made, sum_part = [], sweeps.sum_part

    def stopping(*arguments: object) -> dict[str, np.ndarray]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(arguments)
        return sum_part(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sweeps, "sum_part", stopping)
    with pytest.raises(KeyboardInterrupt):
        run([inference], unedited, reading, tmp_path / "stopped")
    assert sorted(path.name for path in (tmp_path / "stopped").iterdir()) == [
        "part-00000.safetensors",
        "part-00001.safetensors",
        "screen.json",
    ]
    made.clear()
    resumed = run([inference], unedited, reading, tmp_path / "stopped")
    assert len(made) == 2  # of four
    np.testing.assert_array_equal(resumed.length, whole.length)


def test_an_error_in_one_worker_is_raised(
    inference: Inference, unedited: UneditedCells, reading: Reading, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: object) -> dict[str, np.ndarray]:
        raise ConfigError("no")

    monkeypatch.setattr(sweeps, "sum_part", failing)
    with pytest.raises(ConfigError, match="no"):
        run([inference, inference], unedited, reading, tmp_path)


def test_parts_bound_what_is_held(make_counts: Callable[..., csr_matrix]) -> None:
    cells = EditableCells(make_counts(300, 50, 0.5))
    edits = [Edit(kind="knock-out", genes=(gene,)) for gene in range(50)]
    edits += [Edit(kind="over-expression", genes=(gene,)) for gene in range(50)]
    parts = cut(edits, cells)
    assert [number for part in parts for number in part] == list(range(100))
    for part in parts:
        changed = sum(
            300 if edits[n].kind == "over-expression" else cells.num_expressing[edits[n].genes[0]] for n in part
        )
        assert changed <= sweeps.PART_CELLS
