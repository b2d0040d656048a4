"""What a study of annotation is: which labelled cells, what is kept apart, what is run and chosen."""

import importlib.util
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from xtrimogene.config import from_dict, read_toml, require
from xtrimogene.errors import MissingExtraError

StudySplit = Literal["auto", "cell"]
Baseline = Literal["pca", "all_genes", "random_weights", "majority"]
Outside = Literal["celltypist", "scvi", "scanvi", "harmony"]
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
PACKAGES: Mapping[Outside, tuple[str, str]] = MappingProxyType(  # what is imported, and what pip calls it
    {
        "celltypist": ("celltypist", "celltypist"),
        "scvi": ("scvi", "scvi-tools"),
        "scanvi": ("scvi", "scvi-tools"),
        "harmony": ("harmonypy", "harmonypy"),
    }
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotationStudy:
    """Labelled cells, and what is learned from some of them to label the others.

    What is kept apart: with ``test_files``, studies; else with ``group_key``, its groups, each held out in turn; else
    with several ``files``, these. ``split="cell"`` holds out cells of the same donors, which is an easier question,
    and is never taken unasked.
    """

    files: tuple[str, ...]  # to learn from, and without test_files to test on
    label_key: str  # column of obs
    output: str  # the folder of the report
    test_files: tuple[str, ...] = ()
    group_key: str | None = None  # column of obs: donors, batches, ...; one name is one group, in all files
    split: StudySplit = "auto"
    num_folds: int | None = None  # groups are dealt to so many folds; None: each is one (of cells: 5)
    label_keys: Mapping[str, str] = field(default_factory=dict)  # file: its column, where it has another name
    labels: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)  # file: {label: its names there}
    left_out: tuple[str, ...] = ("unlabelled",)  # labels that are none
    joined_by: Mapping[str, str] = field(default_factory=dict)  # file: obs column of the batches it joins
    model: str = "demo"
    methods: tuple[str, ...] = ("ensemble", "linear", "knn")  # of annotate; one of them is chosen on inner folds
    align: bool = True  # as annotate does: an answer depends on the other cells asked for
    baselines: tuple[Baseline, ...] = get_args(Baseline)
    outside: tuple[Outside, ...] | None = None  # None: those that are installed
    strengths: tuple[float, ...] = STRENGTHS  # C of logistic regressions, chosen on inner folds
    num_inner_folds: int = 3
    seeds: tuple[int, ...] = (0, 1, 2)
    epochs: int | None = None  # of scVI, None: its own rule; scANVI goes on for a fifth of them, and maps in as many
    error_rate: float = 0.1  # at which possible labels are given
    min_genes: int = 200  # fewer in common with the model are refused
    device: str | None = None

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "files is empty; name at least one .h5ad or .zarr of labelled cells.")
        given = [*self.files, *self.test_files]
        for file in given:
            require(given.count(file) == 1, f"{file} is given twice; its cells would be on both sides.")
        for name in ("label_keys", "labels", "joined_by"):
            strangers = sorted(set(getattr(self, name)) - set(given))
            require(
                not strangers,
                f"{name} names {', '.join(map(repr, strangers))}, which is neither among files nor test_files.",
            )
        for file, names in self.labels.items():
            own = [name for theirs in names.values() for name in theirs]
            twice = sorted({name for name in own if own.count(name) > 1})
            require(not twice, f"labels: {file!r} gives two labels to {', '.join(map(repr, twice))}; one is needed.")
        apart = self.test_files or self.group_key is not None or len(self.files) > 1
        require(
            self.split == "cell" or bool(apart),
            "nothing says what is kept apart; give group_key (donors, batches) or test_files (another study), or ask "
            'for split = "cell", which answers an easier question.',
        )
        require(
            self.split != "cell" or not self.test_files,
            'split = "cell" holds out cells of `files`, and test_files names others; leave one of the two out.',
        )
        require(
            self.num_folds is None or not self.test_files,
            "num_folds deals cells of `files`, and test_files names those to test; leave one of the two out.",
        )
        for name in ("methods", "baselines", "strengths", "seeds"):
            values = getattr(self, name)
            require(len(values) > 0, f"{name} is empty; give one at least.")
            require(len(set(values)) == len(values), f"{name} names one of {values} twice; give each once.")
        for strength in self.strengths:
            require(0 < strength < math.inf, f"strengths: C={strength} is not possible; give positive numbers.")
        require(min(self.seeds) >= 0, f"seeds={self.seeds} must not be negative.")
        for name, least in (("num_inner_folds", 2), ("min_genes", 1)):
            require(getattr(self, name) >= least, f"{name}={getattr(self, name)} must be at least {least}.")
        for name, least in (("num_folds", 2), ("epochs", 1)):
            value = getattr(self, name)
            require(value is None or value >= least, f"{name}={value} must be at least {least}, or left out.")
        require(0 < self.error_rate < 1, f"error_rate={self.error_rate} must lie between 0 and 1; 0.1 is usual.")
        for name in self.outside or ():
            module, package = PACKAGES[name]
            if importlib.util.find_spec(module) is None:
                raise MissingExtraError(
                    f"outside names {name!r}, and {package} is not installed; run: pip install 'xtrimogene[eval]', or "
                    "leave it out."
                )

    @property
    def grouping(self) -> str:
        """What is kept apart: "cell", "study", or what ``group_key`` names."""
        if self.split == "cell":
            return "cell"
        return "study" if self.test_files or self.group_key is None else self.group_key

    @property
    def outside_run(self) -> tuple[Outside, ...]:
        """The outside methods asked for, or else those that are installed."""
        if self.outside is not None:
            return self.outside
        return tuple(name for name, (module, _) in PACKAGES.items() if importlib.util.find_spec(module) is not None)


def read_study(path: str | os.PathLike[str]) -> AnnotationStudy:
    """Read a study's TOML; file names in it are relative to the TOML's folder.

    Raises
    ------
    ConfigError
        No such file, no TOML, an unknown setting or a wrong value.
    MissingExtraError
        An outside method is asked for whose package is not installed.
    """
    file = Path(path)
    study = from_dict(AnnotationStudy, read_toml(file, ("files", "label_key", "output")), file.name)
    folder = file.parent.resolve()

    def beside(entry: str) -> str:
        return os.path.normpath(folder / entry)

    return replace(
        study,
        files=tuple(map(beside, study.files)),
        test_files=tuple(map(beside, study.test_files)),
        label_keys={beside(entry): key for entry, key in study.label_keys.items()},
        labels={beside(entry): names for entry, names in study.labels.items()},
        joined_by={beside(entry): key for entry, key in study.joined_by.items()},
        output=beside(study.output),
        model=beside(study.model) if (folder / study.model).is_dir() else study.model,
    )
