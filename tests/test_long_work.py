"""Progress on a terminal, and files that are whole or not there."""

import sys
from pathlib import Path

import pytest

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.long_work import begin_run, progress_bar, temporary_prefix, whole_file


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


def test_temporary_names_of_long_names_differ_and_are_no_longer(tmp_path: Path) -> None:
    names = [f"{'n' * 240}{number}.h5ad" for number in range(2)]
    assert len({temporary_prefix(tmp_path / name) for name in names}) == 2
    for name in names:
        with whole_file(tmp_path / name) as place:
            assert len(place.parent.name) < 60
            place.touch()


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


def test_a_run_goes_on_as_it_began_and_no_other_does(tmp_path: Path) -> None:
    record, run = tmp_path / "run.json", {"model": "demo", "edits": [("knock-out", "A")], "seed": 0}
    for _ in range(2):
        begin_run(record, run, remedy="name a new folder")
    for other, words in (
        ({"seed": 1}, "with seed=0 and not 1; name a new folder"),
        ({"model": None}, 'with model="demo" and not null'),
        ({"more": 2}, "with more=null and not 2"),
        ({"edits": 20 * ["knock-out"]}, r'and not \["knock-out", .*\.\.\.; name'),
    ):
        with pytest.raises(ConfigError, match=f"{tmp_path} holds parts of another run, .*{words}"):
            begin_run(record, run | other, remedy="name a new folder")
    with pytest.raises(ConfigError, match="with seed=0 and not null"):
        begin_run(record, {"model": "demo", "edits": [["knock-out", "A"]]}, remedy="name a new folder")
    for text, words in (("[]", "is no JSON object; name a new folder"), ("{", "is no JSON .*; name a new folder")):
        record.write_text(text)
        with pytest.raises(FileFormatError, match=words):
            begin_run(record, run, remedy="name a new folder")


def test_of_runs_that_begin_at_once_one_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "run.json"
    begin_run(record, {"seed": 0}, remedy="name a new folder")
    monkeypatch.setattr(Path, "exists", lambda _: False)  # looked at before
    with pytest.raises(ConfigError, match="with seed=0 and not 1"):
        begin_run(record, {"seed": 1}, remedy="name a new folder")
    assert list(tmp_path.iterdir()) == [record]


def test_a_run_begins_on_a_disk_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", refuse)
    begin_run(tmp_path / "run.json", {"seed": 0}, remedy="name a new folder")
    with pytest.raises(ConfigError, match="with seed=0 and not 1"):
        begin_run(tmp_path / "run.json", {"seed": 1}, remedy="name a new folder")
