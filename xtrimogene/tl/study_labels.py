"""What the files of a study say of their cells, checked before anything is embedded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Shaped

from xtrimogene.data.blocks import open_cells
from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.tl.reference_labels import text_column, warn_of_unknown, with_name


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LabelledFile:
    """Labels, groups and batches of the cells of a file; ``used``: they have a label, and what else is asked for."""

    path: str
    name: str
    tested: bool
    labels: Shaped[np.ndarray, " n"]
    groups: Shaped[np.ndarray, " n"] | None
    batches: Shaped[np.ndarray, " n"] | None
    used: Bool[np.ndarray, " n"]


def read_labelled_files(study: AnnotationStudy) -> tuple[LabelledFile, ...]:
    """Read the labels of all files, under the names that the study gives them.

    Raises
    ------
    FieldError
        No such column, or it holds decimal numbers.
    ConfigError
        A label is renamed that no cell has, or no cell of a file is used.

    Warns
    -----
    UserWarning
        Cells are not used since they, or their group, are "unknown", which no ``left_out`` or ``labels`` leaves out.
    """
    paths = [*study.files, *study.test_files]
    names = [Path(path).stem for path in paths]
    if len(set(names)) < len(names):
        names = [f"{Path(path).parent.name}/{name}" for path, name in zip(paths, names, strict=True)]
    if len(set(names)) < len(names):
        names = paths
    return tuple(_read_labels(path, name, study) for path, name in zip(paths, names, strict=True))


def _read_labels(path: str, name: str, study: AnnotationStudy) -> LabelledFile:
    with open_cells(path) as cells:
        obs = cells.obs
    label_key = study.label_keys.get(path, study.label_key)
    labels, used = text_column(obs, label_key, name)
    asked = ~np.isin(labels, study.left_out)
    ours = {theirs: label for label, names in study.labels.get(path, {}).items() for theirs in names}
    if missing := sorted(set(ours) - set(labels.tolist())):
        there = ", ".join(np.unique(labels[used & asked]).tolist())
        raise ConfigError(f"labels names {', '.join(map(repr, missing))}, which no cell of {name} has; it has {there}.")
    if path in study.labels:
        asked &= np.isin(labels, list(ours))
    warn_of_unknown(labels[asked], label_key, name)
    used &= asked
    labels = np.array([ours.get(label, label) for label in labels.tolist()])
    tested = not study.test_files or path in study.test_files
    groups = batches = None
    if study.group_key is not None and not (study.test_files and tested):
        groups, grouped = text_column(obs, study.group_key, name)
        used = with_name(labels, used, grouped, study.group_key, name)
    if path in study.joined_by:
        batches, joined = text_column(obs, study.joined_by[path], name)
        used = with_name(labels, used, joined, study.joined_by[path], name)
    if not used.any():
        raise ConfigError(f"no cell of {name} has a label that is asked for; look at label_key, labels and left_out.")
    return LabelledFile(path=path, name=name, tested=tested, labels=labels, groups=groups, batches=batches, used=used)
