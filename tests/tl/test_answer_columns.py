import numpy as np
import pytest

from xtrimogene.data.cell_ontology import CellOntology
from xtrimogene.tasks.annotation.annotator import Annotation
from xtrimogene.tasks.annotation.learned import Views
from xtrimogene.tl.answer_columns import ALWAYS, answer_columns, ontology_columns

T, CD4, B = "CL:0000084", "CL:0000624", "CL:0000236"


@pytest.fixture
def annotation() -> Annotation:
    possible = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 0], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    return Annotation(
        labels=("CD4", "T", "B", "mine"),
        probabilities=np.full((6, 4), 0.25),
        best=np.array([0, 1, 2, 2, 3, -1]),
        confidence=np.array([0.9, 0.5, 0.5, 0.9, 0.5, np.nan]),
        possible=possible,
        novel=np.array([False, False, False, True, False, False]),
        elsewhere=np.zeros(6, dtype=bool),
        cells=Views(embedding=np.zeros((5, 2)), components=np.zeros((5, 2))),
        aligned=True,
    )


def test_labels_are_those_of_the_reference_or_unknown(annotation: Annotation) -> None:
    columns = answer_columns(annotation)
    assert tuple(columns) == ALWAYS
    assert list(columns["label"].astype(object)) == ["CD4", "T", "B", "unknown", "mine", np.nan]
    assert list(columns["possible"].astype(object))[:3] == ["CD4", "CD4 | T", "CD4 | B"]


def test_possible_labels_get_what_they_have_in_common(annotation: Annotation) -> None:
    """Nothing for a cell of an unknown type, one that may have a label without an id, and one without counts."""
    pytest.importorskip("cellxgene_ontology_guide", reason="the extra ontology is not installed")
    columns = ontology_columns(annotation, {"labels": ["CD4", "T", "B"], "ids": [CD4, T, B]}, CellOntology())
    names = list(columns["ontology_name"].astype(object))
    assert names == ["CD4-positive, alpha-beta T cell", "T cell", "lymphocyte", np.nan, np.nan, np.nan]
    assert list(columns["ontology_id"].astype(object))[0] == CD4
