"""Names become edits, or one clear sentence."""

import numpy as np
import pytest

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import ConfigError, GeneMatchError
from xtrimogene.tasks.in_silico.edits import Edit
from xtrimogene.tasks.in_silico.named import GeneNames, label, named_edits

GENES = GeneVocabulary(("A", "B", "C", "D"), ("ENSG00000000001", "", "", ""))
KNOWN = {"measured": np.array([True, True, True, False]), "num_expressing": np.array([20, 9, 0, 0])}


def edits(names: GeneNames, min_cells: int = 5) -> tuple[Edit, ...]:
    return named_edits("knock-out", names, GENES, **KNOWN, min_cells=min_cells)


def test_a_name_is_an_edit_and_a_tuple_a_combination() -> None:
    found = edits(["B", ("B", "ENSG00000000001")])
    assert [edit.genes for edit in found] == [(1,), (0, 1)]
    assert [label(edit, GENES) for edit in found] == ["B", "A + B"]
    assert edits([]) == ()


def test_all_are_those_that_enough_cells_express() -> None:
    assert [edit.genes for edit in edits("all")] == [(0,), (1,)]
    assert [edit.genes for edit in edits("all", min_cells=10)] == [(0,)]


def test_a_level_of_counts_asks_for_no_cell_that_has_the_gene() -> None:
    assert named_edits("over-expression", ["C"], GENES, **KNOWN, min_cells=0)[0].genes == (2,)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("A", ConfigError, "'A' is one name; a list is needed"),
        (["X"], GeneMatchError, "The model has no gene 'X'"),
        (["A", "D"], GeneMatchError, "D: not measured in these cells"),
        (["C"], ConfigError, "C: no cell expresses it .*; leave it out.$"),
        ([()], ConfigError, "an empty combination"),
        (["A", "ENSG00000000001"], ConfigError, "A is given twice"),
        ([("A", "A")], ConfigError, r"A \+ A is given twice"),
        ([("A", "B"), ("B", "A")], ConfigError, r"A \+ B is given twice"),
    ],
)
def test_refused(names: GeneNames, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        edits(names)


def test_a_gene_of_too_few_cells_is_refused() -> None:
    with pytest.raises(ConfigError, match="B: at most 9 cells express it, and 10 are needed .* or lower min_cells"):
        edits(["B"], min_cells=10)
    with pytest.raises(ConfigError, match="C: no cell expresses it .* or give a level of counts, such as level='c20'"):
        named_edits("over-expression", ["C"], GENES, **KNOWN, min_cells=1)
