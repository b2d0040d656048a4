"""Progress on a terminal, and files that are whole or not there."""

import sys
from pathlib import Path

import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.long_work import progress_bar, whole_file


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")
    with whole_file(target) as place:
        place.write_text("new")
        assert target.read_text() == "old" and place.name == "out.txt"
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_nothing_is_left_of_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_file(tmp_path / "out.txt") as place:
        place.write_text("half")
        raise error
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigError, match="cannot be written .No such file or directory."),
        whole_file(tmp_path / "no" / "out.txt"),
    ):
        pass
    with pytest.raises(ConfigError, match="No space left"), whole_file(tmp_path / "out.txt") as place:
        place.write_text("half")
        raise OSError(28, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_progress_is_drawn_on_a_terminal_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with progress_bar("Reading", 4) as advance:
        advance(4)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    with progress_bar("Reading", 4) as advance:
        advance(4)
    out, drawn = capsys.readouterr()
    assert out == "" and "Reading" in drawn and "4/4" in drawn
    with progress_bar("Reading", 4, shown=False) as advance:
        advance(4)
    assert capsys.readouterr() == ("", "")
