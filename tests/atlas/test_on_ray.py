import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from anndata import AnnData

from xtrimogene.atlas import AnnotateWork, EmbedWork, run, run_on_ray
from xtrimogene.atlas.on_ray import _start, _with_whole_paths
from xtrimogene.atlas.work import Table
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError

psutil = pytest.importorskip("psutil", reason="comes with Ray")
ray = pytest.importorskip("ray", reason="needs Ray: pip install 'xtrimogene[distributed]'")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def two_cores() -> Iterator[None]:
    """Ray with two cores, whose actors know the classes of this file."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def shards(make_cells: Callable[..., AnnData], tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"shard{number}.h5ad" for number in range(6)]
    for number, path in enumerate(paths):
        make_cells(20, seed=number).write_h5ad(path)
    return paths


class Odd(EmbedWork):
    """Dies, or fails, of some shards; once, where it finds nothing of the last time."""

    def prepare(self, model: PretrainedModel, device: str | None) -> Callable[[Path], Table]:
        def do(source: Path) -> Table:
            if source.stem == "shard0":
                os._exit(1)
            once = source.with_suffix(".once")
            if source.stem == "shard1" and not once.exists():
                once.touch()
                os._exit(1)
            if source.stem == "shard2":
                raise ZeroDivisionError("by zero")
            return {"cell": ["a"]}, 0

        return do


class Dead(EmbedWork):
    """Never starts."""

    def prepare(self, model: PretrainedModel, device: str | None) -> Callable[[Path], Table]:
        os._exit(1)


class Unwilling(EmbedWork):
    """Raises at once."""

    def prepare(self, model: PretrainedModel, device: str | None) -> Callable[[Path], Table]:
        raise ZeroDivisionError("by zero")


@pytest.mark.usefixtures("two_cores")
def test_a_shard_of_which_workers_die_fails_and_the_others_are_done(
    shards: list[Path], tiny_folder: Path, tmp_path: Path
) -> None:
    work = Odd(model=str(tiny_folder))
    report = run_on_ray(shards, tmp_path / "out", work, num_workers=5, progress=False)  # of which two can be placed
    assert sorted(report.failures) == ["shard0", "shard2"]
    assert "3 workers of Ray died of it" in report.failures["shard0"]
    assert report.failures["shard2"] == "ZeroDivisionError: by zero"
    assert report.done_now == 4


@pytest.mark.usefixtures("two_cores")
@pytest.mark.parametrize("kind", [Dead, Unwilling])
def test_workers_that_do_not_start_end_it(
    kind: type[EmbedWork], shards: list[Path], tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="No worker of Ray is left for 6 shards: ."):
        run_on_ray(shards, tmp_path / "out", kind(model=str(tiny_folder)), num_workers=2, progress=False)


@pytest.mark.usefixtures("two_cores")
def test_workers_that_are_not_placed_are_not_waited_for_for_ever(
    shards: list[Path], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xtrimogene.atlas.on_ray._PATIENCE", 1.0)
    work = EmbedWork(model=str(tiny_folder))
    with pytest.raises(ConfigError, match="cores or GPUs"):
        run_on_ray(shards, tmp_path / "out", work, num_workers=1, gpus=True, progress=False)


@pytest.mark.usefixtures("two_cores")
def test_a_shard_is_called_as_its_link(shards: list[Path], tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link.h5ad").symlink_to(shards[3])
    work = Odd(model=str(tiny_folder))
    run_on_ray([tmp_path / "link.h5ad"], tmp_path / "out", work, num_workers=1, progress=False)
    assert (tmp_path / "out" / "link.parquet").exists()


@pytest.mark.usefixtures("two_cores")
def test_workers_in_another_folder_find_the_model(
    shards: list[Path], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tiny_folder.parent)  # where the workers of a Ray that runs already are not
    work = EmbedWork(model=tiny_folder.name)
    report = run_on_ray(shards[:1], tmp_path / "out", work, num_workers=1, progress=False)
    assert (report.done_now, report.failures) == (1, {})


def test_what_is_named_by_a_path_is_named_by_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("demo", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for model, named in (("mine", str(tmp_path / "mine")), ("demo", "demo"), ("hf://owner/mine", "hf://owner/mine")):
        work = _with_whole_paths(AnnotateWork(annotator="blood", model=model))
        assert (work.annotator, work.model) == (str(tmp_path / "blood"), named)


def test_no_cluster_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise ConnectionError("no Ray instance\nis there")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ConfigError, match=r"address='auto' \(no Ray instance\)"):
        _start("auto", 1)


@pytest.mark.usefixtures("two_cores")
def test_actors_do_what_a_loop_does_also_when_one_is_killed(
    shards: list[Path], tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.h5ad").write_bytes(b"no HDF5")
    work = EmbedWork(model=str(tiny_folder))
    run(shards, tmp_path / "loop", work, device="cpu")
    killed: list[int] = []

    def kill_one() -> None:
        until = time.monotonic() + 120
        while not killed and time.monotonic() < until:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if process.name().startswith("ray::_Worker"):
                        process.kill()
                        killed.append(process.pid)
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
