"""A folder of finished parts beside the output, from which a run that was stopped goes on.

``run.json`` says what the parts were made of and how; a part is named by the proteins it holds, 0-120.h5, and is
written whole or not at all. Only one process has a folder open at a time.
"""

import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xtrimogene.errors import ConfigError
from xtrimogene.long_work import begin_run
from xtrimogene.protein.embedding.embedding_file import ProteinVectors, join_as_hdf5, write_vectors
from xtrimogene.protein.embedding.vector_parquet import join_as_parquet

RUN, LOCK = "run.json", "lock"


@dataclass(slots=True)
class PartsFolder:
    """``num_done`` proteins are in the parts: counted once, and then with each part that is added."""

    path: Path
    run: Mapping[str, str | int]
    num_done: int = 0

    @classmethod
    @contextmanager
    def open(cls, path: Path, run: Mapping[str, str | int]) -> Iterator["PartsFolder"]:
        """Begin a folder, or go on with that of the same run; no other process may until the end.

        Raises
        ------
        ConfigError
            Another process writes it, it belongs to another run, or it cannot be written.
        """
        with _locked(path):
            begin_run(path / RUN, run, remedy="remove it to begin anew, or name another output")
            folder = cls(path, run)
            parts = folder.parts()
            folder.num_done = _range(parts[-1])[1] if parts else 0
            yield folder

    def parts(self) -> list[Path]:
        """Return the finished parts, in order.

        Raises
        ------
        ConfigError
            One is missing between two others.
        """
        found = sorted(self.path.glob("*-*.h5"), key=lambda part: _range(part))
        stop = 0
        for part in found:
            if _range(part)[0] != stop:
                raise ConfigError(f"{self.path} misses the part before {part.name}; remove it to begin anew.")
            stop = _range(part)[1]
        return found

    def add(self, proteins: Sequence[ProteinVectors]) -> None:
        """Write a part that follows those that are there."""
        stop = self.num_done + sum(len(one.names) for one in proteins)
        write_vectors(self.path / f"{self.num_done}-{stop}.h5", proteins)
        self.num_done = stop

    def join(self, out: Path, names: Mapping[str, str], num_proteins: int) -> None:
        """Write the output, with what it was made of and how and what that was called, and remove the folder.

        Raises
        ------
        ConfigError
            The parts do not hold exactly so many proteins.
        """
        parts = self.parts()
        found = sum(stop - start for start, stop in map(_range, parts))
        if found != num_proteins:
            raise ConfigError(
                f"{self.path} holds {found:,} proteins and not the {num_proteins:,} of the FASTA; "
                "remove it to begin anew, and leave both as they are meanwhile."
            )
        write = join_as_parquet if out.suffix == ".parquet" else join_as_hdf5
        write(out, parts, {**self.run, **names})
        shutil.rmtree(self.path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other processes out of a folder; the lock of one that dies is gone with it."""
    try:
        path.mkdir(exist_ok=True)
        lock = (path / LOCK).open("w")
    except OSError as error:
        raise _unwritable(path, error) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            out = path.with_suffix("")
            raise ConfigError(f"another process is writing {out}; wait for it or name another file.") from None
        except OSError as error:
            raise _unwritable(path, error) from None
        yield


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be written ({error.strerror or error}); name another output.")


def _range(part: Path) -> tuple[int, int]:
    start, _, stop = part.stem.partition("-")
    return int(start), int(stop)
