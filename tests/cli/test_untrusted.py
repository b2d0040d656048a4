import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xtrimogene.cli.app import main
from xtrimogene.cli.untrusted import _stands_still, run_limited


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


@pytest.mark.parametrize(
    ("number", "told", "code"),
    [
        (signal.SIGABRT, "damaged", 2),
        (signal.SIGKILL, "memory ran out", 2),
        (signal.SIGUSR1, "stopped", 128 + signal.SIGUSR1),
    ],
)
def test_a_signal_is_told_for_what_it_is(
    number: int, told: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("xtrimogene.cli.untrusted._CODE", f"import os; os.kill(os.getpid(), {int(number)})")
    assert run_limited(["check"]) == code
    assert told in capfd.readouterr().err


def test_who_ends_it_ends_its_child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    begun, before = tmp_path / "begun", signal.getsignal(signal.SIGTERM)
    code = f"import time, pathlib; pathlib.Path({str(begun)!r}).touch(); time.sleep(60)"
    monkeypatch.setattr("xtrimogene.cli.untrusted._CODE", code)

    def end() -> None:
        while not begun.exists():
            threading.Event().wait(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:  # were it not passed on, it would end these tests
        patch.setattr("xtrimogene.cli.untrusted.subprocess.Popen", _and_then(end))
        assert run_limited(["check"]) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
def test_what_stands_still_is_ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    holding_the_lock = "import ctypes, sys; from xtrimogene.cli import untrusted; a = sys.modules['xtrimogene.cli.app']"
    holding_the_lock += "; a.main = lambda _: ctypes.PyDLL(None).sleep(300); untrusted.run_watched()"
    monkeypatch.setattr("xtrimogene.cli.untrusted._CODE", holding_the_lock)
    monkeypatch.setattr("xtrimogene.cli.untrusted._GRACE", 0.1)
    assert run_limited(["check"], standstill=6.0) == 2
    assert "stood still for 6 s; the file is damaged or hostile" in capfd.readouterr().err


def test_what_is_heard_now_and_then_does_not_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    heard, pulse = os.pipe()

    def beat() -> None:
        for _ in range(8):
            os.write(pulse, b".")
            time.sleep(0.1)
        os.close(pulse)

    threading.Thread(target=beat).start()
    assert not _stands_still(heard, 0.4)
    os.close(heard)
    heard, pulse = os.pipe()
    monkeypatch.setattr("xtrimogene.cli.untrusted._GRACE", 0.1)
    assert _stands_still(heard, 0.1)
    os.close(heard)
    os.close(pulse)


@pytest.mark.slow
def test_without_its_parent_a_child_ends(tmp_path: Path) -> None:
    heard, pulse = os.pipe()
    sleeping = "import sys, time; from xtrimogene.cli import untrusted; a = sys.modules['xtrimogene.cli.app']"
    sleeping += "; a.main = lambda _: time.sleep(60); untrusted.run_watched()"
    child = subprocess.Popen([sys.executable, "-c", sleeping, str(pulse)], pass_fds=[pulse])
    os.close(pulse)
    os.read(heard, 1)
    os.close(heard)
    assert child.wait(30) == -signal.SIGTERM


def _and_then(end: Callable[[], None]) -> Callable[..., subprocess.Popen[bytes]]:
    popen = subprocess.Popen

    def start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        child: subprocess.Popen[bytes] = popen(*arguments, **options)  # type: ignore[call-overload]
        threading.Thread(target=end, daemon=True).start()
        return child

    return start


def test_modules_of_the_current_folder_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "typer.py").write_text("raise SystemExit(77)")
    monkeypatch.chdir(tmp_path)
    assert run_limited(["--version"]) == 0


def test_commands_are_there_without_limits_of_the_system() -> None:
    code = "import sys; sys.modules['resource'] = None; import xtrimogene.cli"  # as on Windows
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_stands_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version", "--untrusted") == 0  # ends before it is looked at
    assert run("check", "cells.h5ad", "--untrusted") == 2
    assert "No such option" in capsys.readouterr().err
