"""Named sets of genes, as MSigDB, Enrichr and others give them: a .gmt file, or a dictionary."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xtrimogene.errors import ConfigError, FileFormatError

GeneSets = Mapping[str, Sequence[str]]


def read_gene_sets(source: str | os.PathLike[str] | GeneSets) -> dict[str, tuple[str, ...]]:
    """Return the genes of each set, each once, in order.

    Parameters
    ----------
    source
        A .gmt file: a set a line, tab-separated: name, description (often an address), genes. Or a dictionary.

    Raises
    ------
    FileFormatError
        The file is missing, is no text in UTF-8, or a line is no set; or a set stands twice.
    ConfigError
        There is no set, or one without a gene.
    """
    if isinstance(source, Mapping):
        sets = {str(name): tuple(dict.fromkeys(genes)) for name, genes in source.items() if not isinstance(genes, str)}
        if len(sets) < len(source) or not all(sets.values()):
            raise ConfigError("each gene set has to be a list of one gene or more, such as {'B': ['MS4A1', 'CD79A']}.")
    else:
        sets = _read(Path(source))
    if not sets:
        raise ConfigError("gene_sets holds no set of genes; give a .gmt file or a dictionary of lists.")
    return sets


def _read(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FileFormatError(f"The gene sets {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 text, as a .gmt file is; unpack it if it is packed.") from error
    sets: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, *rest = (field.strip() for field in line.split("\t"))
        genes = tuple(dict.fromkeys(filter(None, rest[1:])))
        if not name or not genes:
            raise FileFormatError(
                f"Line {number:,} of {path} is no gene set: name, description and genes, parted by tabs, are needed."
            )
        if name in sets:
            raise FileFormatError(f"{path} has the gene set {name!r} twice; keep one.")
        sets[name] = genes
    return sets
