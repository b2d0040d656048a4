"""Run a command in a process of limited memory: a hostile file may end that process, and nothing else."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

FLAG = "--untrusted"
_MEMORY = 16 << 30  # bytes of address space; torch alone maps several
_CODE = "from xtrimogene.cli import main; main()"
_FAULTS = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL")


def run_limited(arguments: Sequence[str], memory: int = _MEMORY) -> int:
    """Run the command with these arguments in a child; say in a sentence what became of it, and return its exit code.

    The child can take no more than ``memory`` bytes of address space and leaves no core file. Its time is not limited:
    a file may keep it busy for ever (put ``timeout`` of the coreutils before the command). SIGTERM and SIGHUP are
    passed on to it; Ctrl-C reaches it from the terminal. Outputs are written under temporary names and renamed at the
    end, so one that dies leaves none.
    """
    import resource  # not there on Windows, where the other commands run

    def limit() -> None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    # -P: else the current folder, which may be a stranger's too, comes first among the places of modules.
    child = subprocess.Popen([sys.executable, "-P", "-c", _CODE, *arguments], preexec_fn=limit)
    before = {one: signal.signal(one, lambda got, _: child.send_signal(got)) for one in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        code = child.wait()
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    return code if code >= 0 else _explain(signal.Signals(-code))


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
