from collections.abc import Callable
from pathlib import Path

import pytest

from xtrimogene.cli.app import main
from xtrimogene.cli.untrusted import run_limited


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


@pytest.mark.slow
def test_a_command_runs_as_without(
    write_cells: Callable[..., str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_cells(tmp_path / "cells.h5ad")
    assert run("--untrusted", "check", path) == 0
    limited = capfd.readouterr().out.splitlines()
    assert run("check", path) == 0
    assert len(limited) > 3
    assert capfd.readouterr().out.splitlines()[:3] == limited[:3]  # the rest tells of this process's memory
    (tmp_path / "damaged.h5ad").write_bytes(Path(path).read_bytes()[:3000])
    assert run("--untrusted", "check", str(tmp_path / "damaged.h5ad")) == 2
    assert "error: " in capfd.readouterr().err


def test_what_takes_too_much_memory_or_crashes_is_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    main_with = (
        "import sys, xtrimogene.cli; a = sys.modules['xtrimogene.cli.app']; a.app = lambda *x, **y: {}; a.main()"
    )
    monkeypatch.setattr("xtrimogene.cli.untrusted._CODE", main_with.format("bytearray(8 << 30)"))
    assert run_limited(["check"], memory=4 << 30) == 2
    assert "memory ran out" in capfd.readouterr().err
    monkeypatch.setattr("xtrimogene.cli.untrusted._CODE", "import os; os.kill(os.getpid(), 11)")
    assert run_limited(["check"]) == 2
    assert "ended by SIGSEGV; the file is damaged or hostile" in capfd.readouterr().err


def test_it_stands_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", "--untrusted") == 0  # ends before it is looked at
    assert run("check", "cells.h5ad", "--untrusted") == 2
    assert "No such option" in capsys.readouterr().err
