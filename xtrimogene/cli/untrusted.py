"""Run a command in a limited process: a hostile file may end or halt that process, and nothing else."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from threading import Thread

FLAG = "--untrusted"
_MEMORY = 16 << 30  # bytes of address space; torch alone maps several
_STANDSTILL = 120.0  # seconds; no honest call takes so long and lets no other thread run
_GRACE = 5.0  # seconds, after which a process that was stopped with this one (Ctrl-Z) is heard again
_CODE = "from xtrimogene.cli.untrusted import run_watched; run_watched()"
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")


def run_limited(arguments: Sequence[str], memory: int = _MEMORY, standstill: float = _STANDSTILL) -> int:
    """Run the command with these arguments in a child; say in a sentence what became of it, and return its exit code.

    The child can take no more than ``memory`` bytes of address space and leaves no core file. Work may take as long as
    it does, but a child whose threads have all stood still for ``standstill`` seconds is killed: HDF5's library holds
    Python's lock while it reads, and some damaged files keep it reading for ever. SIGTERM and SIGHUP are passed on to
    the child; Ctrl-C reaches it from the terminal. Outputs are written under temporary names and renamed at the end, so
    one that dies leaves none.
    """
    import resource  # not there on Windows, where the other commands run

    def limit() -> None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # -P: else the current folder, which may be a stranger's too, comes first among the places of modules.
    heard, pulse = os.pipe()
    command = [sys.executable, "-P", "-c", _CODE, str(pulse), *arguments]
    child = subprocess.Popen(command, preexec_fn=limit, pass_fds=[pulse])
    os.close(pulse)
    before = {one: signal.signal(one, lambda got, _: child.send_signal(got)) for one in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        stands = _stands_still(heard, standstill)
        if stands:
            child.kill()
        code = child.wait()
    finally:
        os.close(heard)
        for one, handler in before.items():
            signal.signal(one, handler)
    if stands:
        print(
            f"error: what read the file was ended: it stood still for {standstill:.0f} s; the file is damaged or "
            "hostile.",
            file=sys.stderr,
        )
        return 2
    return code if code >= 0 else _explain(signal.Signals(-code))


def run_watched() -> None:
    """Run a command as the child of `run_limited`, whose end of a pipe is the first argument."""
    from xtrimogene.cli.app import main

    Thread(target=_beat, args=(int(sys.argv[1]),), daemon=True).start()
    main(sys.argv[2:])


def _beat(pulse: int) -> None:
    """Let the parent hear that threads run; end with it."""
    try:
        while True:
            os.write(pulse, b".")
            time.sleep(0.5)
    except OSError:
        os.kill(os.getpid(), signal.SIGTERM)


def _stands_still(heard: int, standstill: float) -> bool:
    """Listen until the child ends (False), or is not heard any more (True)."""
    while True:
        if not (select.select([heard], [], [], standstill)[0] or select.select([heard], [], [], _GRACE)[0]):
            return True
        if not os.read(heard, 4096):
            return False


def _explain(ended: signal.Signals) -> int:
    """Print why a child was ended by a signal; return the exit code."""
    if ended.name in _FAULTS:
        reason, code = "the file is damaged or hostile", 2
    elif ended.name == "SIGKILL":
        reason, code = "most likely the machine's memory ran out", 2
    else:
        reason, code = "somebody stopped it", 128 + ended
    print(f"error: what read the file was ended by {ended.name}; {reason}.", file=sys.stderr)
    return code


def asks_for_limits(arguments: Sequence[str]) -> bool:
    """Say whether the flag stands before the command."""
    return bool(arguments) and arguments[0] == FLAG and os.name == "posix"
