from collections.abc import Callable
from pathlib import Path

import pytest
from anndata import AnnData

Run = Callable[..., tuple[int, str, str]]
MakeCells = Callable[..., AnnData]


@pytest.fixture
def shards(make_cells: MakeCells, tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"shard{number}.h5ad" for number in range(2)]
    for number, path in enumerate(paths):
        make_cells(20, seed=number).write_h5ad(path)
    return paths


def test_shards_are_embedded_by_tasks_indexed_and_searched(
    run: Run, shards: list[Path], tiny_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("usearch")
    model = ("--model", tiny_folder)
    for task in ("0/2", "1/2"):
        code, said, _ = run("atlas", "embed", *shards, tmp_path / "vectors", *model, "--task", task, "--device", "cpu")
        assert (code, said.splitlines()[0]) == (0, "shards   1 done now, 0 before, 0 failed")
    code, said, _ = run("atlas", "embed", *shards, tmp_path / "vectors", *model, "--price", "2")
    assert (code, said.splitlines()[:2]) == (0, ["shards   0 done now, 2 before, 0 failed", "cells    40"])
    index = ("atlas", "index", *shards, tmp_path / "index", "--vectors", tmp_path / "vectors", *model)
    code, said, _ = run(*index, "--no-expression")
    assert code == 0
    assert "index: 40 cells" in said
    code, _, _ = run("search", shards[0], tmp_path / "index", tmp_path / "hits.csv", "-k", 1, *model)
    assert code == 0
    lines = (tmp_path / "hits.csv").read_text().splitlines()
    assert len(lines) == 21
    assert all(line.split(",")[0] == line.split(",")[4] for line in lines[1:])  # each cell finds itself


def test_a_shard_that_fails_is_told_and_the_others_done(
    run: Run, shards: list[Path], tiny_folder: Path, tmp_path: Path
) -> None:
    shards[0].write_bytes(b"nothing")
    code, said, _ = run("atlas", "embed", *shards, tmp_path / "vectors", "--model", tiny_folder, "--device", "cpu")
    assert code == 1
    assert "1 done now, 0 before, 1 failed" in said
    assert "shard0: " in said
    assert "is no HDF5 file" in said


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--task", "3"), "not of the form I/N"),
        (("--task", "2/2"), "tasks count from 0"),
        (("--gpus",), "go with --ray"),
        (("--ray", "2", "--task", "0/2"), "leave --task and --device out"),
    ],
)
def test_what_cannot_be_is_refused(
    run: Run, shards: list[Path], tiny_folder: Path, tmp_path: Path, options: tuple[str, ...], told: str
) -> None:
    code, _, error = run("atlas", "embed", *shards, tmp_path / "vectors", "--model", tiny_folder, *options)
    assert code == 2
    assert told in error
    assert not (tmp_path / "vectors").exists()
