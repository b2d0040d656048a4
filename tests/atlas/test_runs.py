import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene.atlas import EmbedWork, run
from xtrimogene.atlas.shards import Shard, plan_shards
from xtrimogene.atlas.work import Table
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.errors import CheckpointError, ConfigError, FileFormatError
from xtrimogene.long_work import temporary_prefix

MakeCells = Callable[..., AnnData]


@pytest.fixture
def shards(make_cells: MakeCells, tmp_path: Path) -> list[Path]:
    """Return four files of cells, the third with a cell without counts."""
    paths = []
    for number in range(4):
        cells = make_cells(20 + number, seed=number)
        if number == 2:
            counts = csr_matrix(cells.X)
            counts.data[counts.indptr[5] : counts.indptr[6]] = 0
            cells.X = counts
        paths.append(tmp_path / f"shard{number}.h5ad")
        cells.write_h5ad(paths[-1])
    return paths


@pytest.fixture
def work(tiny_folder: Path) -> EmbedWork:
    return EmbedWork(model=str(tiny_folder), precision="float32")


def digests(folder: Path) -> dict[str, str]:
    return {path.stem: json.loads(path.read_text())["sha256"] for path in folder.glob("shard*.json")}


def test_every_cell_has_its_vector_once(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    report = run(shards, tmp_path / "out", work, device="cpu", price=3.6)
    assert (report.done_now, report.num_cells, report.num_unread) == (4, 86, 1)
    assert report.cost_of_a_million == pytest.approx(1000 * report.seconds / 86)
    assert "86, 1 without counts" in str(report)
    for number, path in enumerate(shards):
        table = pq.read_table(tmp_path / "out" / f"shard{number}.parquet")
        with pytest.warns(UserWarning) if number == 2 else _nothing():
            cells = xt.tl.embed(path, work.model, progress=False)
        assert table["cell"].to_pylist() == cells.obs_names.tolist()
        found = np.array([vector or [np.nan] * 12 for vector in table["vector"].to_pylist()])
        np.testing.assert_allclose(found, cells.obsm["X_xtrimogene"], atol=1e-5)
    (record,) = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("shard2.json")]
    assert record["unread"] == 1


def _nothing() -> object:
    from contextlib import nullcontext

    return nullcontext()


def test_what_is_done_is_not_done_again_unless_its_source_changes(
    shards: list[Path], work: EmbedWork, make_cells: MakeCells, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(shards, out, work, device="cpu")
    before = digests(out)
    os.utime(shards[0])  # copied, say: the same bytes
    again = run(shards, out, work, device="cpu")
    assert (again.done_before, again.done_now, again.cells_now) == (4, 0, 0)
    assert again.cost_of_a_million is None
    make_cells(9, seed=9).write_h5ad(shards[1])
    later = run(shards, out, work, device="cpu")
    assert (later.done_before, later.done_now) == (3, 1)
    changed = digests(out)
    assert [name for name in before if before[name] != changed[name]] == ["shard1"]


def test_one_bad_shard_does_not_stop_the_others(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    shards[1].write_bytes(b"no HDF5")
    report = run([*shards, tmp_path / "none.h5ad"], tmp_path / "out", work, device="cpu")
    assert report.done_now == 3
    assert "no HDF5 file" in report.failures["shard1"]
    assert "does not exist" in report.failures["none"]
    assert "failed   shard1:" in str(report)


@pytest.mark.parametrize("unreadable", ["shard1.h5ad", "shard1.parquet"])
def test_a_file_that_cannot_be_read_does_not_stop_the_others(
    unreadable: str, shards: list[Path], work: EmbedWork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(shards[:2], tmp_path / "out", work, device="cpu")
    os.utime(shards[1])
    os.utime(tmp_path / "out" / "shard1.parquet")  # so that both are read again

    def refuse(path: Path) -> str:
        if path.name == unreadable:
            raise PermissionError(13, "Permission denied", str(path))
        return file_sha256(path)

    for name in ("content_sha256", "file_sha256"):
        monkeypatch.setattr(f"xtrimogene.atlas.shards.{name}", refuse)
    report = run(shards, tmp_path / "out", work, device="cpu")
    assert (report.done_before, report.done_now, list(report.failures)) == (1, 2, ["shard1"])
    assert f"{unreadable} cannot be read (Permission denied)" in report.failures["shard1"]


def test_what_was_touched_is_read_again_once(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})
    shard.do(lambda _: ({"cell": ["a"]}, 0))
    os.utime(shard.source, (1, 1))
    os.utime(shard.table)
    with monkeypatch.context() as patch:
        patch.setattr(Shard, "_write_record", _refuse)  # a folder that one may only read
        assert shard.done() is not None
    record = shard.done()
    with monkeypatch.context() as patch:
        for name in ("content_sha256", "file_sha256"):
            patch.setattr(f"xtrimogene.atlas.shards.{name}", _killed)
        assert shard.done() == record == json.loads(shard.record.read_text())
    os.utime(shard.source)
    shard.table.write_bytes(shard.table.read_bytes()[::-1])
    assert shard.done() is None
    assert json.loads(shard.record.read_text()) == record


def _refuse(shard: Shard, record: object) -> None:
    raise ConfigError(f"{shard.record} cannot be written.")


def test_a_source_that_goes_while_it_is_read_is_told_in_a_sentence(shards: list[Path], tmp_path: Path) -> None:
    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})

    def last(source: Path) -> Table:
        source.unlink()
        return {"cell": ["a"]}, 0

    told = shard.attempt(last)
    assert isinstance(told, str)
    assert "shard0.h5ad cannot be read (No such file or directory)" in told


def test_a_shard_that_another_process_does_again_is_not_done(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})
    record = shard.do(lambda _: ({"cell": ["a"]}, 0))
    shard.record.unlink()  # the other does, once this one has read it
    monkeypatch.setattr(Shard, "_read_record", lambda _: record)
    assert shard.done() is None


def test_tasks_share_the_shards_between_them(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    run(shards, tmp_path / "whole", work, device="cpu")
    numbers = [run(shards, tmp_path / "out", work, task=task, num_tasks=3, device="cpu").done_now for task in range(3)]
    assert numbers == [2, 1, 1]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")
    with pytest.raises(ConfigError, match="tasks count from 0"):
        run(shards, tmp_path / "out", work, task=3, num_tasks=3)


def test_a_folder_holds_one_kind_of_work(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(shards[:1], out, work, device="cpu")
    with pytest.raises(ConfigError, match='precision="float32" and not "float16"'):
        run(shards, out, EmbedWork(model=work.model))
    with pytest.raises(ConfigError, match="holds something else"):
        run(shards, tmp_path, work)
    with pytest.raises(ConfigError):
        run([], tmp_path / "new", work)
    with pytest.raises(CheckpointError):
        run(shards, tmp_path / "new", EmbedWork(model="nowhere"))


def test_only_what_a_killed_process_left_of_ours_is_swept(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    def left(name: str) -> str:
        return f"{temporary_prefix(out / name)}k3_aaaaa"

    out, long = tmp_path / "out", tmp_path / f"{'n' * 40}.h5ad"
    shards[0].rename(long)
    run([long, *shards[1:]], out, work, device="cpu")
    new = [left(f"{long.stem}.parquet"), left("shard1.parquet"), left("shard2.json"), left("run.json")]
    kept = [".git", left("other.parquet"), left(f"{long.stem}_2.parquet"), ".shard1.notes", left("shard3.parquet")]
    for name in [*new, *kept]:
        (out / name).mkdir()
        os.utime(out / name, (0, 0))
    (out / kept[-1] / "shard3.parquet").touch()  # another process writes it now
    os.utime(out / kept[-1], (0, 0))
    (out / "shard2.json").unlink()
    run([long, *shards[1:]], out, work, task=1, num_tasks=2, device="cpu")
    assert sorted(path.name for path in out.glob(".*")) == sorted(kept)
    run([long, *shards[1:]], out, work, device="cpu")  # now all are done, so what it writes is for nothing
    assert sorted(path.name for path in out.glob(".*")) == sorted(kept[:-1])


def test_what_another_process_did_meanwhile_is_done(shards: list[Path], tmp_path: Path) -> None:
    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})

    def overtaken(source: Path) -> Table:
        shard.do(lambda _: ({"cell": ["first"]}, 0))
        raise FileFormatError("what was written is gone")

    assert shard.attempt(overtaken) == shard.done() is not None
    shard.record.unlink()

    def in_vain(source: Path) -> Table:
        raise FileFormatError("damaged")

    assert shard.attempt(in_vain) == "damaged"


def test_a_folder_of_hidden_things_is_not_ours(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    (tmp_path / "out" / ".git").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"holds something else, '.git'"):
        run(shards, tmp_path / "out", work)


def test_a_record_tells_of_its_own_table(shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def as_many(source: Path) -> Table:
        return {"cell": [str(number) for number in range(source.stat().st_size)]}, 0

    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})
    first = shards[0].read_bytes()
    shard.source.write_bytes(b"v1")
    os.utime(shard.source, (1, 1))
    shard.do(as_many)
    shard.source.write_bytes(first)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("xtrimogene.atlas.shards.content_sha256", _killed)  # between table and record
        shard.do(as_many)
    shard.source.write_bytes(b"v1")
    os.utime(shard.source, (1, 1))
    assert shard.done() is None
    shard.do(as_many)
    assert shard.done() is not None
    table = shard.table.read_bytes()
    shard.table.write_bytes(table[::-1])
    os.utime(shard.table)
    assert shard.done() is None
    shard.table.write_bytes(table)
    assert shard.done() is not None
    shard.table.write_bytes(table + b"more")
    assert shard.done() is None


def _killed(path: Path) -> str:
    raise KeyboardInterrupt


@pytest.mark.parametrize("record", ['{"source": {}}', "[]", "{", '{"cells": "3"}'])
def test_a_damaged_record_is_told_in_a_sentence(record: str, shards: list[Path], tmp_path: Path) -> None:
    (shard,) = plan_shards(shards[:1], tmp_path / "out", {})
    shard.record.write_text(record)
    with pytest.raises(FileFormatError, match="damaged"):
        shard.done()


def test_tasks_that_start_at_once_agree(shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, listdir = tmp_path / "out", os.listdir

    def another_comes_first(folder: Path) -> list[str]:
        names = listdir(folder)
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listdir)
            plan_shards(shards, out, {"work": "theirs"})
        return names

    monkeypatch.setattr(os, "listdir", another_comes_first)
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "run.json" and exists(path))  # looked at before
    with pytest.raises(ConfigError, match='work="theirs" and not "ours"'):
        plan_shards(shards, out, {"work": "ours"})
    plan_shards(shards, out, {"work": "theirs"})


def test_outputs_of_who_came_first_are_no_other_things(
    shards: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan_shards(shards, tmp_path / "out", {})
    (tmp_path / "out" / ".shard0.parquet.abcdefgh").mkdir()
    plan_shards(shards, tmp_path / "out", {})


@pytest.mark.parametrize("second", ["S1.h5ad", "more/S1.zarr", "s1.h5ad"])
def test_no_two_shards_write_one_file(second: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="two shards are called 'S1'"):
        plan_shards([tmp_path / name for name in ("S0.h5ad", "S1.h5ad", second)], tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_no_shard_is_called_as_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="called 'run'"):
        plan_shards([tmp_path / "run.h5ad"], tmp_path / "out", {})


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_same(shards: list[Path], work: EmbedWork, tmp_path: Path) -> None:
    run(shards, tmp_path / "whole", work, device="cpu")
    out = tmp_path / "out"
    code = (
        "import sys; from pathlib import Path; from xtrimogene.atlas import EmbedWork, run;"
        "print('begun', flush=True);"
        "run(list(map(Path, sys.argv[3:])), Path(sys.argv[1]), "
        "EmbedWork(model=sys.argv[2], precision='float32'), device='cpu')"
    )
    command = [sys.executable, "-c", code, str(out), work.model, *map(str, shards)]
    random = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    run(shards, out, work, device="cpu")
    assert digests(out) == digests(tmp_path / "whole")
    assert not list(out.glob(".*"))
