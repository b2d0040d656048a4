"""A folder of results that grows part by part, so that a sweep that was stopped goes on where it was."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.long_work import begin_run, whole_file

PLAN = "screen.json"
Arrays = dict[str, np.ndarray]


class SweepFolder:
    """``screen.json`` says what is edited, and how; ``part-00000.safetensors`` and so on hold what was found.

    A part has the sha256 of its arrays in its header.

    Parameters
    ----------
    folder
        Must not exist yet, or be empty, or be that of the same sweep.
    plan
        All that the results depend on, of texts, numbers and lists.

    Raises
    ------
    ConfigError
        The folder holds something else, or a sweep of another plan, or cannot be written.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            others = [path.name for path in folder.iterdir() if not path.name.startswith(f".{PLAN}")]
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); name another place.") from error
        if others and PLAN not in others:
            raise ConfigError(f"{folder} holds {sorted(others)[0]!r} and no sweep of edits; name a new folder.")
        begin_run(folder / PLAN, plan, remedy="name a new folder, or ask as before")

    def has(self, number: int) -> bool:
        return self._path(number).exists()

    def write(self, number: int, arrays: Arrays) -> None:
        with whole_file(self._path(number)) as whole:
            whole.write_bytes(save(arrays, metadata={"sha256": _sha256(arrays)}))

    def read(self, number: int) -> Arrays:
        """Return a part.

        Raises
        ------
        FileFormatError
            It is damaged, or altered.
        """
        try:
            with safe_open(self._path(number), framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
                sha256 = (file.metadata() or {}).get("sha256")
        except (SafetensorError, OSError) as error:
            raise FileFormatError(
                f"{self._path(number)} cannot be read ({error}); remove it, and the sweep makes it again."
            ) from error
        if sha256 != _sha256(arrays):
            raise FileFormatError(
                f"{self._path(number)} is not what was written there; remove it, and the sweep makes it again."
            )
        return arrays

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.safetensors"


def _sha256(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
