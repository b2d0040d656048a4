"""A study's TOML: what it may say, what is refused, and that a split by cell is never taken unasked."""

from pathlib import Path

import pytest

from xtrimogene.errors import ConfigError, MissingExtraError
from xtrimogene.evaluation import study as module
from xtrimogene.evaluation.study import AnnotationStudy, read_study

LEAST = {"files": ("a.h5ad",), "label_key": "type", "output": "out", "group_key": "donor"}


def test_names_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "study.toml").write_text(
        'files = ["a.h5ad"]\ntest_files = ["/data/b.h5ad"]\nlabel_key = "type"\noutput = "report"\nmodel = "model"\n'
        'seeds = [3]\n[label_keys]\n"a.h5ad" = "kind"\n[joined_by]\n"a.h5ad" = "batch"\n'
        '[labels."/data/b.h5ad"]\nT = ["CD4", "CD8"]\n'
    )
    study = read_study(tmp_path / "study.toml")
    first = str(tmp_path / "a.h5ad")
    assert study.files == (first,) and study.test_files == ("/data/b.h5ad",)
    assert study.output == str(tmp_path / "report") and study.model == str(tmp_path / "model")
    assert study.label_keys == {first: "kind"} and study.joined_by == {first: "batch"}
    assert study.labels == {"/data/b.h5ad": {"T": ("CD4", "CD8")}} and study.seeds == (3,)


@pytest.mark.parametrize(
    ("settings", "grouping"),
    [
        ({}, "donor"),
        ({"group_key": None, "files": ("a", "b")}, "study"),
        ({"test_files": ("b",)}, "study"),
        ({"split": "cell"}, "cell"),
        ({"split": "cell", "group_key": None}, "cell"),
    ],
)
def test_what_is_kept_apart(settings: dict[str, object], grouping: str) -> None:
    assert AnnotationStudy(**LEAST | settings).grouping == grouping


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"group_key": None}, 'nothing says what is kept apart; give group_key .* ask for split = "cell"'),
        ({"files": ()}, "files is empty"),
        ({"test_files": ("a.h5ad",)}, "a.h5ad is given twice"),
        ({"split": "cell", "test_files": ("b",)}, "leave one of the two out"),
        ({"num_folds": 3, "test_files": ("b",)}, "num_folds deals cells of `files`"),
        ({"label_keys": {"c": "x"}}, "label_keys names 'c', which is neither among files nor test_files"),
        ({"labels": {"a.h5ad": {"T": ("x",), "B": ("x",)}}}, "gives two labels to 'x'"),
        ({"seeds": ()}, "seeds is empty"),
        ({"baselines": ()}, "baselines is empty; give one at least"),
        ({"seeds": (1, 1)}, "twice"),
        ({"seeds": (-1,)}, "must not be negative"),
        ({"strengths": (0.0,)}, "C=0.0 is not possible"),
        ({"num_inner_folds": 1}, "num_inner_folds=1 must be at least 2"),
        ({"epochs": 0}, "epochs=0 must be at least 1"),
        ({"num_folds": 0}, "num_folds=0 must be at least 2, or left out"),
        ({"num_folds": 1}, "num_folds=1 must be at least 2"),
        ({"error_rate": 1.0}, "error_rate=1.0 must lie between 0 and 1"),
    ],
)
def test_refused(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        AnnotationStudy(**LEAST | settings)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour = 1", "study.toml: unknown setting 'colour'"),
        ('split = "donor"', "split: one of 'auto', 'cell' is needed, got 'donor'"),
        ("seeds = 3", "seeds: a list is needed, got 3"),
        ('outside = ["scgpt"]', r"outside\[0\]: one of 'celltypist', 'scvi', 'scanvi', 'harmony' is needed"),
        ("[", "is not TOML"),
    ],
)
def test_a_wrong_file_is_told(line: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(f'files = ["a"]\nlabel_key = "t"\noutput = "o"\ngroup_key = "d"\n{line}\n')
    with pytest.raises(ConfigError, match=words):
        read_study(tmp_path / "study.toml")


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least `files` and `label_key` and `output` is needed"):
        read_study(tmp_path / "none.toml")
    (tmp_path / "study.toml").write_text('files = ["a"]\noutput = "o"\n')
    with pytest.raises(ConfigError, match="`label_key` is missing"):
        read_study(tmp_path / "study.toml")


def test_an_outside_method_that_is_not_installed_is_an_error_only_where_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None if name == "scvi" else object())
    assert AnnotationStudy(**LEAST).outside_run == ("celltypist", "harmony")
    with pytest.raises(MissingExtraError, match=r"'scanvi', and scvi-tools is not installed; run: pip install"):
        AnnotationStudy(**LEAST, outside=("scanvi",))
    assert AnnotationStudy(**LEAST, outside=()).outside_run == ()
