"""What tells one file of cells from another: the sha256 of its bytes."""

import hashlib
from pathlib import Path


def file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def content_sha256(path: Path) -> str:
    """Of a file; of a directory, that of what sha256sum would print of its files, in the order of their names."""
    if path.is_file():
        return file_sha256(path)
    lines = [f"{file_sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in files_in(path)]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def files_in(path: Path) -> list[Path]:
    """Return the files of a directory, sorted; of a file, itself."""
    return sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]
