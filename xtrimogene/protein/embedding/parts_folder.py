"""A folder of finished parts beside the output, from which a run that was stopped goes on.

``run.json`` says what the parts were made of and how; a part is named by the proteins it holds, 0-120.h5, and is
written whole or not at all.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xtrimogene.errors import ConfigError
from xtrimogene.long_work import whole_file
from xtrimogene.protein.embedding.embedding_file import ProteinVectors, join_as_hdf5, write_vectors
from xtrimogene.protein.embedding.vector_parquet import join_as_parquet

RUN = "run.json"


@dataclass(frozen=True, slots=True)
class PartsFolder:
    path: Path
    run: Mapping[str, str | int]

    @classmethod
    def open(cls, path: Path, run: Mapping[str, str | int]) -> "PartsFolder":
        """Begin a folder, or go on with that of the same run.

        Raises
        ------
        ConfigError
            It belongs to another run, or cannot be written.
        """
        try:
            path.mkdir(exist_ok=True)
            if not (path / RUN).exists():
                with whole_file(path / RUN) as whole:
                    whole.write_text(json.dumps(dict(run), indent=1) + "\n")
            begun = json.loads((path / RUN).read_text())
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror or error}); name another output.") from None
        other = [name for name in run if begun.get(name) != run[name]]
        if other:
            raise ConfigError(
                f"{path} holds parts of another run, with {other[0]}={begun.get(other[0])!r} and not "
                f"{run[other[0]]!r}; remove it to begin anew, or name another output."
            )
        return cls(path, run)

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

    def num_done(self) -> int:
        parts = self.parts()
        return _range(parts[-1])[1] if parts else 0

    def add(self, proteins: Sequence[ProteinVectors]) -> None:
        """Write a part that follows those that are there."""
        start = self.num_done()
        stop = start + sum(len(one.names) for one in proteins)
        write_vectors(self.path / f"{start}-{stop}.h5", proteins)

    def join(self, out: Path, names: Mapping[str, str]) -> None:
        """Write the output, with what it was made of and how and what that was called, and remove the folder."""
        write = join_as_parquet if out.suffix == ".parquet" else join_as_hdf5
        write(out, self.parts(), {**self.run, **names})
        shutil.rmtree(self.path)


def _range(part: Path) -> tuple[int, int]:
    start, _, stop = part.stem.partition("-")
    return int(start), int(stop)
