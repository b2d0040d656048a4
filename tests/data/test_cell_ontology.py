import sys

import pytest

from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.errors import MissingExtraError


@pytest.fixture(scope="module")
def ontology() -> CellOntology:
    pytest.importorskip("cellxgene_ontology_guide", reason="the extra ontology is not installed")
    return CellOntology()


def test_names_and_synonyms_of_one_type_are_found(ontology: CellOntology) -> None:
    found = ontology.find(["T cell", "b CELL", "natural killer cell", "T lymphocyte", "my favourite cell", ""])
    assert found == {
        "T cell": "CL:0000084",
        "b CELL": "CL:0000236",
        "natural killer cell": "CL:0000623",
        "T lymphocyte": "CL:0000084",
    }


@pytest.mark.parametrize(
    ("types", "common"),
    [
        (["CD4-positive, alpha-beta T cell"], "CD4-positive, alpha-beta T cell"),
        (["CD4-positive, alpha-beta T cell", "B cell", "natural killer cell"], "lymphocyte"),
        (["CD4-positive, alpha-beta T cell", "T cell"], "T cell"),
    ],
)
def test_several_types_have_their_nearest_ancestor_in_common(
    ontology: CellOntology, types: list[str], common: str
) -> None:
    ids = ontology.find(types)
    assert ontology.name(ontology.common([ids[one] for one in types])) == common
    assert ontology.name(ontology.common([ids[one] for one in reversed(types)] * 2)) == common


@pytest.mark.parametrize(
    ("term", "known"),
    [("CL:0000084", True), ("CL:9999999", False), ("UBERON:0000178", False), ("T cell", False), ("CL:0000002", False)],
)
def test_ids_are_known(ontology: CellOntology, term: str, known: bool) -> None:
    assert (term in ontology) is known


def test_a_term_that_was_given_up_has_nothing_in_common(ontology: CellOntology) -> None:
    assert ontology.common(["CL:0000002", "CL:0000084"]) is None


def test_what_is_no_text_has_no_id(ontology: CellOntology) -> None:
    assert ontology.find([float("nan"), "T cell"]) == {"T cell": "CL:0000084"}


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cellxgene_ontology_guide.ontology_parser", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[ontology\]'"):
        CellOntology()
