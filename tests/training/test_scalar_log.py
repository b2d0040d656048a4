"""A log that is rewound holds each step once, whatever ended the process that wrote it."""

import sys
from pathlib import Path

import pytest

from xtrimogene.errors import MissingExtraError
from xtrimogene.training.scalar_log import ScalarLog


def written(folder: Path, **options: bool) -> ScalarLog:
    log = ScalarLog(folder / "log", "metrics", **options)
    log.rewind(0)
    for step in (5, 10, 15):
        log.append(step, {"loss": 1.0 / step, "rate": 0.5})
    log.close()
    return log


def test_rows_after_the_step_go(tmp_path: Path) -> None:
    log = written(tmp_path)
    log.rewind(10)
    log.append(15, {"loss": 9.0, "rate": 0.25})
    assert log.path.read_text().splitlines() == ["step,loss,rate", "5,0.2,0.5", "10,0.1,0.5", "15,9.0,0.25"]


@pytest.mark.parametrize("end", ["1", "12", "12,0.3"])
def test_a_row_cut_short_goes(end: str, tmp_path: Path) -> None:
    log = written(tmp_path)
    log.path.write_text(log.path.read_text() + end)
    log.rewind(12)
    assert log.path.read_text().splitlines() == ["step,loss,rate", "5,0.2,0.5", "10,0.1,0.5"]


def test_tensorboard_reads_the_same_numbers(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written(tmp_path, tensorboard=True)
    again = ScalarLog(tmp_path / "log", "metrics", tensorboard=True)
    again.rewind(10)
    again.append(15, {"loss": 9.0, "rate": 0.25})
    again.close()
    other = ScalarLog(tmp_path / "log", "validation", tensorboard=True)
    other.rewind(10)
    other.append(15, {"loss": 8.0})
    other.close()
    apart = EventAccumulator(str(tmp_path / "log" / "tensorboard" / "validation")).Reload()
    assert [event.value for event in apart.Scalars("validation/loss")] == [8.0]
    events = EventAccumulator(str(tmp_path / "log" / "tensorboard" / "metrics")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("metrics/loss")] == [
        (5, pytest.approx(0.2)),
        (10, pytest.approx(0.1)),
        (15, 9.0),
    ]


def test_without_tensorboard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[tensorboard\]'"):
        ScalarLog(tmp_path, "metrics", tensorboard=True)
    ScalarLog(tmp_path, "metrics")


def test_an_empty_file_begins_again(tmp_path: Path) -> None:
    log = written(tmp_path)
    log.path.write_text("")
    assert log.last() == {}
    log.rewind(10)
    log.append(15, {"loss": 9.0})
    assert log.path.read_text().splitlines() == ["step,loss", "15,9.0"] and log.last() == {"loss": 9.0}
