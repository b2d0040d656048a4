"""The processes that a process has started, and what memory they have."""

import os
from pathlib import Path


def descendants(pid: int) -> list[int]:
    """Return the processes that this one has started, and theirs."""
    try:
        found = [int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in words(task / "children")]
    except OSError:  # it has just ended
        return []
    return found + [other for one in found for other in descendants(one)]


def words(file: Path) -> list[str]:
    """Return what a file of /proc says; nothing where its process has just ended."""
    try:
        return file.read_text().split()
    except OSError:
        return []


def resident(pid: int) -> int:
    """Return bytes in memory; 0 where the process has just ended."""
    pages = words(Path(f"/proc/{pid}/statm"))
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if pages else 0
