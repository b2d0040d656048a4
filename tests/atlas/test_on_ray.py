import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from anndata import AnnData

from xtrimogene.atlas import EmbedWork, run, run_on_ray
from xtrimogene.errors import ConfigError

pytest.importorskip("ray", reason="needs Ray: pip install 'xtrimogene[distributed]'")
pytestmark = pytest.mark.slow


def processes(name: str) -> list[int]:
    """Return the processes whose title begins so, as Ray names its workers."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if (place / "cmdline").read_text().startswith(name):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def test_actors_do_what_a_loop_does_also_when_one_is_killed(
    make_cells: Callable[..., AnnData], tiny_folder: Path, tmp_path: Path
) -> None:
    shards = []
    for number in range(6):
        shards.append(tmp_path / f"shard{number}.h5ad")
        make_cells(20, seed=number).write_h5ad(shards[-1])
    (tmp_path / "bad.h5ad").write_bytes(b"no HDF5")
    work = EmbedWork(model=str(tiny_folder))
    run(shards, tmp_path / "loop", work, device="cpu")
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            for process in processes("ray::_Worker"):
                os.kill(process, signal.SIGKILL)
                killed.append(process)
                return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one)
    killer.start()
    report = run_on_ray([*shards, tmp_path / "bad.h5ad"], tmp_path / "ray", work, num_workers=2, progress=False)
    killer.join()
    assert killed
    assert (report.done_now, report.num_cells, list(report.failures)) == (6, 120, ["bad"])
    for number in range(6):
        name = f"shard{number}.parquet"
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "loop" / name).read_bytes()
    with pytest.raises(ConfigError, match="num_workers=0"):
        run_on_ray(shards, tmp_path / "ray", work, num_workers=0)
