"""Names of perturbations: "TP53+KRAS" is "KRAS+TP53", and "KRAS+control" is "KRAS"."""

from collections.abc import Iterable

from xtrimogene.errors import ConfigError

JOIN = "+"


def parts_of(name: str, control: str | None = None) -> tuple[str, ...]:
    """Return the parts of a perturbation in order, each once, without the control.

    Raises
    ------
    ConfigError
        The name is empty, or one of its parts is.
    """
    parts = [part.strip() for part in name.split(JOIN)]
    if not all(parts):
        raise ConfigError(f"{name!r} names no perturbation; a gene is needed, such as 'KRAS', or several, 'KRAS+TP53'.")
    return tuple(sorted({part for part in parts if part != control}))


def canonical(name: str, control: str) -> str:
    """Return the one way we write a perturbation; the control stays itself."""
    return JOIN.join(parts_of(name, control)) or control


def all_parts(names: Iterable[str]) -> tuple[str, ...]:
    """Return every part of some canonical names once, in order."""
    return tuple(sorted({part for name in names for part in parts_of(name)}))
