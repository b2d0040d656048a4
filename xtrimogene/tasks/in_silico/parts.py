"""A folder of results that grows part by part, so that a screen that was stopped goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from xtrimogene.errors import ConfigError, FileFormatError
from xtrimogene.long_work import whole_file

PLAN = "screen.json"
Arrays = dict[str, np.ndarray]


class PartsFolder:
    """``screen.json`` says what is screened, and how; ``part-00000.safetensors`` and so on hold what was found.

    A part has the sha256 of its arrays in its header.

    Parameters
    ----------
    folder
        Must not exist yet, or be empty, or be that of the same screen.
    plan
        All that the results depend on, of texts, numbers and lists.

    Raises
    ------
    ConfigError
        The folder holds something else, or a screen of another plan, or cannot be written.
    """

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            others = [path.name for path in folder.iterdir() if not path.name.startswith(f".{PLAN}")]
        except OSError as error:
            raise ConfigError(f"{folder} cannot be written ({error.strerror or error}); name another place.") from error
        if PLAN in others:
            self._require_same(plan)
        elif others:
            raise ConfigError(f"{folder} holds {sorted(others)[0]!r} and no screen; name a new folder.")
        else:
            with whole_file(folder / PLAN) as whole:
                whole.write_text(json.dumps(dict(plan), indent=1) + "\n")

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
                f"{self._path(number)} cannot be read ({error}); remove it, and the screen makes it again."
            ) from error
        if sha256 != _sha256(arrays):
            raise FileFormatError(
                f"{self._path(number)} is not what was written there; remove it, and the screen makes it again."
            )
        return arrays

    def _path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.safetensors"

    def _require_same(self, plan: Mapping[str, Any]) -> None:
        try:
            before = json.loads((self.folder / PLAN).read_text())
        except ValueError as error:
            raise FileFormatError(f"{self.folder / PLAN} is no JSON ({error}); name a new folder.") from error
        if not isinstance(before, dict):
            raise FileFormatError(f"{self.folder / PLAN} is no JSON object; name a new folder.")
        wanted = json.loads(json.dumps(dict(plan)))
        for name in [*wanted, *before]:
            if before.get(name) != wanted.get(name):
                raise ConfigError(
                    f"{self.folder} holds a screen with another {name} ({_short(before.get(name))}, "
                    f"now {_short(wanted.get(name))}); name a new folder, or ask as before."
                )


def _sha256(arrays: Arrays) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
