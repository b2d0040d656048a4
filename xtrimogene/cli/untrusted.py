"""Run a command in a process of limited memory: a hostile file may end that process, and nothing else."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence

FLAG = "--untrusted"
_MEMORY = 16 << 30  # bytes of address space; torch alone maps several
_CODE = "from xtrimogene.cli import main; main()"


def run_limited(arguments: Sequence[str], memory: int = _MEMORY) -> int:
    """Run the command with these arguments in a child; say in a sentence what became of it, and return its exit code.

    The child can take no more than ``memory`` bytes of address space and leaves no core file. Outputs are written
    under temporary names and renamed at the end, so one that dies leaves none.
    """

    def limit() -> None:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        most = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    code = subprocess.run([sys.executable, "-c", _CODE, *arguments], preexec_fn=limit).returncode
    if code < 0:
        name = signal.Signals(-code).name
        print(f"error: what read the file was ended by {name}; the file is damaged or hostile.", file=sys.stderr)
        return 2
    return code


def asks_for_limits(arguments: Sequence[str]) -> bool:
    """Say whether the flag stands before the command."""
    return bool(arguments) and arguments[0] == FLAG and os.name == "posix"
