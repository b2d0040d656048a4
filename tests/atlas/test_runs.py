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
from xtrimogene.errors import CheckpointError, ConfigError

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
    with pytest.raises(ConfigError, match="precision='float32', not 'float16'"):
        run(shards, out, EmbedWork(model=work.model))
    with pytest.raises(ConfigError, match="holds something else"):
        run(shards, tmp_path, work)
    with pytest.raises(ConfigError):
        run([], tmp_path / "new", work)
    with pytest.raises(CheckpointError):
        run(shards, tmp_path / "new", EmbedWork(model="nowhere"))


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
    (out / ".shard0.left").mkdir(exist_ok=True, parents=True)  # as a process killed while writing leaves it
    run(shards, out, work, device="cpu")
    assert digests(out) == digests(tmp_path / "whole")
    assert not list(out.glob(".*"))
