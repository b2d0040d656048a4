"""Laws by name, and laws as JSON files."""

import json
import os
from importlib.resources import files
from pathlib import Path

from xtrimogene.config import from_dict, require, to_dict
from xtrimogene.errors import ConfigError
from xtrimogene.long_work import whole_file
from xtrimogene.protein.scaling_laws.compute_optimal import ComputeOptimalLaw, GrowthLaw
from xtrimogene.protein.scaling_laws.parametric import ParametricLaw
from xtrimogene.protein.scaling_laws.transfer import TransferLaw

Law = ComputeOptimalLaw | GrowthLaw | ParametricLaw | TransferLaw

_KINDS: dict[str, type[Law]] = {
    "compute_optimal": ComputeOptimalLaw,
    "growth": GrowthLaw,
    "parametric": ParametricLaw,
    "transfer": TransferLaw,
}
_NAMES = (
    "cheng2024:mlm",
    "cheng2024:clm",
    "cheng2024:mlm:parametric",
    "cheng2024:clm:parametric",
    "cheng2024:clm->mlm",
    "serrano2024",
    "hoffmann2022",
)


def law_names() -> tuple[str, ...]:
    """Return the names of the laws that come with the package."""
    return _NAMES


def read_law(name: str | os.PathLike[str]) -> Law:
    """Return a law by its name or from a JSON file that `write_law` wrote.

    Raises
    ------
    ConfigError
        There is no such law or file, or the file does not hold a law.
    """
    if isinstance(name, str) and name in _NAMES:
        return _parse((files(__package__) / "laws" / file_name(name)).read_bytes(), name)
    path = Path(name)
    require(
        path.suffix == ".json" and path.exists(),
        f"there is no law {str(name)!r}; name one of {', '.join(_NAMES)}, or a .json file of a fitted one.",
    )
    return _parse(path.read_bytes(), str(path))


def write_law(law: Law, path: str | os.PathLike[str]) -> None:
    """Write a law as JSON, for `read_law`."""
    kind = next(name for name, of_kind in _KINDS.items() if isinstance(law, of_kind))
    with whole_file(Path(path)) as scratch:
        scratch.write_text(json.dumps({"kind": kind, **to_dict(law)}, indent=1) + "\n", encoding="utf-8")


def _parse(text: bytes, where: str) -> Law:
    try:
        values = json.loads(text)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where} is not JSON: {error}.") from None
    kind = _KINDS.get(str(values.pop("kind", ""))) if isinstance(values, dict) else None
    if kind is None:
        raise ConfigError(f"{where} holds no law: its `kind` must be one of {', '.join(_KINDS)}.")
    return from_dict(kind, values, where)


def file_name(name: str) -> str:
    return name.replace(":", "_").replace("->", "_to_") + ".json"
