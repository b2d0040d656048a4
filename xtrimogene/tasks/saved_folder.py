"""What a fit learned, on disk: a folder of a JSON and of safetensors files. Never a pickle.

The JSON holds the sha256 of each file of arrays, which tells a damaged file, not one that was made to mislead.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from xtrimogene.checkpoint import require_new_folder
from xtrimogene.errors import CheckpointError
from xtrimogene.long_work import temporary_folder

Facts = Mapping[str, Any]
Arrays = Mapping[str, np.ndarray]
Built = TypeVar("Built")
TRIPPED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, SafetensorError)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedFolder:
    """``what`` lies in the folder, as ``fitted_by`` writes it: ``json_name`` and ``arrays.safetensors``.

    Of ``files``, "arrays" is always there; another one, "tuned", is tuned.safetensors and has its sha256 under
    "tuned_sha256". The JSON may hold NaN where ``allow_nan``.
    """

    what: str
    format: str
    json_name: str
    fitted_by: str
    files: tuple[str, ...] = ("arrays",)
    allow_nan: bool = True

    def write(
        self,
        folder: str | os.PathLike[str],
        facts: Facts,
        files: Mapping[str, Arrays],
        *,
        texts: Mapping[str, str] | None = None,
    ) -> Path:
        """Write the folder; nothing half-written is ever seen under its name. ``texts`` are for people, by file name.

        Raises
        ------
        CheckpointError
            The folder exists and holds something.
        ConfigError
            It cannot be written.
        """
        target = Path(folder)
        require_new_folder(target)
        with temporary_folder(target) as scratch:
            place, hashes = scratch / "whole", {}
            place.mkdir()
            for name, arrays in files.items():
                content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
                (place / _file(name)).write_bytes(content)
                hashes[_key(name)] = hashlib.sha256(content).hexdigest()
            text = json.dumps({"format": self.format, **hashes, **facts}, indent=1, allow_nan=self.allow_nan)
            for file, written in {self.json_name: text + "\n", **(texts or {})}.items():
                (place / file).write_text(written, encoding="utf-8")
            os.replace(place, target)
        return target

    def read(self, folder: str | os.PathLike[str], build: Callable[[Facts, Mapping[str, Arrays]], Built]) -> Built:
        """Return what ``build`` makes of the facts and the arrays of each file.

        It may trip over them as it likes: what they hold beside the arrays has no checksum.

        Raises
        ------
        CheckpointError
            No such folder, a file missing, altered or of another kind.
        """
        place = Path(folder)
        try:
            facts = json.loads((place / self.json_name).read_text())
            if facts["format"] != self.format:
                raise CheckpointError(
                    f"{place / self.json_name} has format {facts['format']!r}; this version reads {self.format!r}."
                )
            return build(facts, {name: self._arrays(place, name, facts) for name in self.files if _key(name) in facts})
        except CheckpointError:
            raise
        except OSError as error:
            raise CheckpointError(
                f"no {self.what} at {str(place)!r} ({error.strerror or error}): a folder with {self.json_name} and "
                f"{_file(self.files[0])} is needed, as {self.fitted_by} writes it."
            ) from None
        except TRIPPED as error:
            raise CheckpointError(f"{place} is no {self.what} of ours ({error!r}); fit it again.") from None

    def _arrays(self, place: Path, name: str, facts: Facts) -> Arrays:
        content = (place / _file(name)).read_bytes()
        if hashlib.sha256(content).hexdigest() != facts[_key(name)]:
            raise CheckpointError(
                f"{place / _file(name)} is not the file this {self.what} was saved with; fit it again."
            )
        return load(content)


def _file(name: str) -> str:
    return f"{name}.safetensors"


def _key(name: str) -> str:
    return "sha256" if name == "arrays" else f"{name}_sha256"
