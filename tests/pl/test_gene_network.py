import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import FieldError, GeneMatchError
from xtrimogene.pl.gene_network import enrichment, network


def star(group: str = "all") -> pd.DataFrame:
    targets = ["A", "B", "C", "D"]
    table = pd.DataFrame({"source": "TF", "target": targets, "weight": [4.0, 3.0, 2.0, 1.0], "group": group})
    others = pd.DataFrame({"source": ["A", "X"], "target": ["TF", "Y"], "weight": [4.0, 9.0], "group": group})
    return pd.concat([table, others], ignore_index=True)


def test_edges_around_the_genes_are_lines_and_both_ways_are_one() -> None:
    ax = network(star(), ["TF"], top=3)
    (lines,) = [drawn for drawn in ax.collections if hasattr(drawn, "get_segments")]
    assert len(lines.get_segments()) == 3 and np.argmax(lines.get_linewidths()) == 0
    assert {text.get_text() for text in ax.texts} == {"TF", "A", "B", "C"}


def test_a_group_is_named_where_there_are_several() -> None:
    both = pd.concat([star("T"), star("B")])
    assert network(both, ["TF"], group="B").get_title() == "B"
    with pytest.raises(FieldError, match="edges has 2 groups"):
        network(both, ["TF"])
    with pytest.raises(FieldError, match="no group 'NK'; it has T, B"):
        network(both, ["TF"], group="NK")
    with pytest.raises(FieldError, match="edges has no group, weight"):
        network(star()[["source", "target"]], ["TF"])
    with pytest.raises(GeneMatchError, match="NONE: no edge here"):
        network(star(), ["TF", "NONE"])
    with pytest.raises(GeneMatchError, match="a list of symbols"):
        network(star(), "TF")


def test_enrichment_draws_modules_and_their_best_sets() -> None:
    table = pd.DataFrame(
        {
            "module": [0, 0, 2, 2],
            "gene_set": ["S1", "S2", "S1", "S3"],
            "overlap": [5, 2, 1, 4],
            "set_size": [10, 10, 10, 8],
            "adjusted_p": [1e-9, 1e-2, 4e-2, 1e-3],
        }
    )
    ax = enrichment(table, top=1)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["0", "2"]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["S1", "S3"]
    dots = ax.collections[0]
    np.testing.assert_allclose(dots.get_offsets(), [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(dots.get_array(), -np.log10([1e-9, 4e-2, 1e-3]))
    with pytest.raises(FieldError, match="no gene set"):
        enrichment(table.iloc[:0])
    with pytest.raises(FieldError, match="no adjusted_p"):
        enrichment(table.drop(columns="adjusted_p"))
