from pathlib import Path

import anndata
import pytest

from xtrimogene.checkpoint import load
from xtrimogene.evaluation.benchmark_sets import TEST, VALIDATION
from xtrimogene.evaluation.tasks import Source

HELD_OUT = ("hao_", "kang_", "sc_mixology", "baron_h2to4", "scdeconr", "camp_", "papalexi", "lemur")
SOURCES = [(plan.name, source) for plan in (*VALIDATION, *TEST) for source in plan.sources]


def test_validation_never_opens_a_test_study_and_no_test_learns_from_one_alone() -> None:
    for plan in VALIDATION:
        assert not any(source.study.startswith(HELD_OUT) for source in plan.sources)
    for plan in TEST:
        assert plan.sources[-1].study.startswith(HELD_OUT)


def test_the_demo_model_was_trained_on_no_test_study() -> None:
    files = [source["file"] for source in load("demo").card["trained_on"]]
    assert len(files) == 17 and not any(file.startswith(HELD_OUT) for file in files)


def test_names_are_unique_and_short_enough_for_the_report() -> None:
    names = [plan.name for plan in (*VALIDATION, *TEST)]
    assert len(set(names)) == len(names) and max(map(len, names)) <= 28


def test_every_test_label_can_be_learned_between_two_studies() -> None:
    for plan in (*VALIDATION, *TEST):
        if len(plan.sources) == 2 and plan.sources[1].rename is not None:
            train, test = (set((source.rename or {}).values()) for source in plan.sources)
            assert test <= train, plan.name


@pytest.mark.shared
@pytest.mark.parametrize(("name", "source"), SOURCES, ids=[f"{name}: {source.study}" for name, source in SOURCES])
def test_label_maps_use_names_that_the_files_have(name: str, source: Source, shared: Path) -> None:
    obs = anndata.read_h5ad(shared / "data" / f"{source.study}.h5ad", backed="r").obs
    labels = set(obs[source.label_key].astype(str))
    assert set(source.rename or ()) <= labels
    grouping = next(plan.grouping for plan in (*VALIDATION, *TEST) if plan.name == name)
    assert grouping in ("study", "cell") or grouping in obs
