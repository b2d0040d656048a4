import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from threading import Timer
from typing import Any

import pytest

from xtrimogene.errors import ConfigError, LimitError
from xtrimogene.serving.child import Child, ChildDied, ChildNotStarted


def build(offset: int = 0) -> Callable[[Any], Any]:
    if offset < 0:
        raise ConfigError("offset must not be negative.")

    def handle(request: Any) -> Any:
        match request:
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "hang":
                time.sleep(600)
            case "refuse":
                raise LimitError("too much.")
            case "bug":
                raise KeyError("nobody expected this")
            case "eat":
                return len(bytearray(10 << 30))
            case "pid":
                return os.getpid()
        return request + offset

    return handle


@pytest.fixture(scope="module")
def child() -> Iterator[Child[Any, Any]]:
    made: Child[Any, Any] = Child(build, 1, name="adder", extra_memory=1 << 30)
    yield made
    made.close()


def test_answers_and_errors_come_back(child: Child[Any, Any]) -> None:
    assert child.call(41, 60.0) == 42
    first = child.call("pid", 60.0)
    with pytest.raises(LimitError, match="too much"):
        child.call("refuse", 60.0)
    with pytest.raises(LimitError, match="more memory than one may have"):
        child.call("eat", 60.0)
    assert child.call("pid", 60.0) == first != os.getpid()


@pytest.mark.parametrize("what", ["die", "bug"])
def test_one_that_dies_says_so_and_the_next_call_has_a_new_one(child: Child[Any, Any], what: str) -> None:
    starts = child.num_starts
    before = child.call("pid", 60.0)
    with pytest.raises(ChildDied):
        child.call(what, 60.0)
    assert not child.is_alive
    assert child.call("pid", 60.0) != before
    assert child.num_starts == starts + 1


def test_one_that_hangs_is_ended(child: Child[Any, Any]) -> None:
    child.start()
    pid = child.pid
    assert pid is not None
    with pytest.raises(ChildDied, match="did not answer in time"):
        child.call("hang", 0.5)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_killed_between_calls_it_is_not_alive(child: Child[Any, Any]) -> None:
    child.start()
    assert child.is_alive
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(100):
        if not child.is_alive:
            break
        time.sleep(0.05)
    assert not child.is_alive
    with pytest.raises(ChildDied):  # it is found out by asking
        child.call(1, 60.0)
    assert child.call(1, 60.0) == 2


def test_what_building_raises_comes_back_to_who_asks_and_is_kept_from_starting_all_the_time() -> None:
    made: Child[Any, Any] = Child(build, -1, name="wrong")
    for _ in range(2):
        with pytest.raises(ConfigError, match="not be negative"):
            made.call(1, 60.0)
    starts = made.num_starts
    for _ in range(3):
        made.keep()
    assert made.num_starts == starts + 1
    made.close()


def test_one_that_stopped_listening_is_ended_too(child: Child[Any, Any]) -> None:
    child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(ChildDied):
        child.call(bytes(8 << 20), 1.0)
    assert child.call(1, 60.0) == 2


def test_closed_it_answers_nobody_and_stays_closed() -> None:
    made: Child[Any, Any] = Child(build, 1, name="short-lived")
    with ThreadPoolExecutor(1) as threads:
        made.start()
        hanging = threads.submit(made.call, "hang", 60.0)
        time.sleep(0.2)
        made.close()
        with pytest.raises(ChildDied):
            hanging.result(10)
    made.keep()
    assert not made.is_alive
    with pytest.raises(ChildDied, match="was closed"):
        made.call(1, 60.0)


def test_kept_it_is_there_again(child: Child[Any, Any]) -> None:
    child.start()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while child.is_alive and time.monotonic() < until:
        time.sleep(0.02)
    child.keep()
    assert child.is_alive
    assert child.call(1, 60.0) == 2


@pytest.mark.parametrize(
    ("what", "error"),
    [(ForkServerProcess, OSError(24, "Too many open files")), (Timer, RuntimeError("can't start new thread"))],
)
def test_where_the_system_has_no_room_it_is_started_later(
    monkeypatch: pytest.MonkeyPatch, what: type, error: Exception
) -> None:
    def full(_: object) -> None:
        raise error

    with closing(Child[Any, Any](build, 1, name="adder")) as made:
        with monkeypatch.context() as patched:
            patched.setattr(what, "start", full)
            files = len(os.listdir("/proc/self/fd"))
            for _ in range(3):
                with pytest.raises(ChildNotStarted, match=str(error.args[-1])):
                    made.call(1, 60.0)
                made.keep()
            if what is ForkServerProcess:
                assert made.pid is None
                assert len(os.listdir("/proc/self/fd")) == files
        assert made.call(1, 60.0) == 2
