"""What a cell store is going to be made of: every file is looked at before the first is read."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xtrimogene.config import StoreConfig, to_dict
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.file_hashes import content_sha256, files_in
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.naming import naming
from xtrimogene.data.store_source import obs_codes
from xtrimogene.errors import ConfigError
from xtrimogene.long_work import progress_bar, whole_file

MIN_MATCHED = 200  # genes that a file must have in common with the vocabulary


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedSource:
    """A file as it was when the work began."""

    file: str
    name: str  # in the store: the file's name, or its path where two have the same name
    num_cells: int
    num_bytes: int
    modified: int  # ns
    sha256: str


def make_plan(config: StoreConfig, genes: GeneVocabulary, folder: Path, *, progress: bool) -> list[PlannedSource]:
    """Look at each file and make the folder, or take up the plan that stands in it.

    Raises
    ------
    ConfigError
        The plan there is of another store, a file has changed since, or two files are the same.
    CountsError, FieldError, FileFormatError, GeneMatchError
        A file that will not do.
    """
    record = folder / "plan.json"
    wanted = json.loads(json.dumps({"config": to_dict(config), "genes_sha256": genes.sha256}))
    if record.is_file():
        found = json.loads(record.read_text())
        planned = [PlannedSource(**source) for source in found.pop("sources")]
        changed = [source.file for source in planned if (source.num_bytes, source.modified) != _state(source.file)]
        if found != wanted or changed:
            what = f"{changed[0]} has changed since" if changed else "it was begun with other files or options"
            raise ConfigError(f"{folder} holds the beginning of a store and {what}; remove that folder to begin again.")
        return planned
    names = _names(config.files)
    with progress_bar("looking at files", len(config.files), shown=progress) as advance:
        planned = []
        for file, name in zip(config.files, names, strict=True):
            planned.append(_look_at(file, name, config, genes))
            advance(1)
    _refuse_copies(planned)
    folder.mkdir(exist_ok=True)
    with whole_file(record) as place:
        place.write_text(json.dumps({**wanted, "sources": [asdict(source) for source in planned]}))
    return planned


def _look_at(file: str, name: str, config: StoreConfig, genes: GeneVocabulary) -> PlannedSource:
    with open_cells(file) as cells:
        with naming(name):
            MatchedCounts.find(cells, genes).require(min_genes=MIN_MATCHED, all_rows=False)
        for key in (config.donor_key, config.batch_key):
            obs_codes(cells, key)
        num_bytes, modified = _state(file)
        return PlannedSource(
            file=file,
            name=name,
            num_cells=cells.num_cells,
            num_bytes=num_bytes,
            modified=modified,
            sha256=content_sha256(Path(file)),
        )


def _refuse_copies(sources: Sequence[PlannedSource]) -> None:
    first: dict[str, str] = {}
    for source in sources:
        other = first.setdefault(source.sha256, source.file)
        if other != source.file:
            raise ConfigError(f"{source.file} and {other} are the same to the byte; their cells would be in twice.")


def _names(files: Sequence[str]) -> list[str]:
    names = [Path(file).name for file in files]
    return [name if names.count(name) == 1 else file for name, file in zip(names, files, strict=True)]


def _state(file: str) -> tuple[int, int]:
    """Size and time of the last change, of a directory those of its files."""
    states = [path.stat() for path in files_in(Path(file))]
    return sum(state.st_size for state in states), max((state.st_mtime_ns for state in states), default=0)
