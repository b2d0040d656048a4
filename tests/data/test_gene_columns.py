"""Features that are called like genes and are none."""

import numpy as np
import pytest

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import GeneMatchError

HUMAN = GeneVocabulary.human()
NAMES, IDS = list(HUMAN.symbols[:300]), list(HUMAN.ensembl_ids[:300])
FEATURES = ["CD56", "TP53-1", "TP53-2", NAMES[0], "XPC"]


def places(columns: dict[str, list[str]]) -> list[int]:
    return HUMAN.match(columns).target.tolist()[300:]


def test_feature_types_say_what_is_no_gene() -> None:
    kinds = ["Gene Expression"] * 300 + ["Antibody Capture"] * 3 + ["CRISPR Guide Capture", "Peaks"]
    columns = {"var_names": NAMES + FEATURES, "feature_types": kinds}
    found = HUMAN.match(columns)
    assert (found.target[:300] == np.arange(300)).all() and places(columns) == [-1] * 5
    report = found.report(np.r_[np.ones(300), np.full(5, 1000)])
    assert report.share_of_counts == 1 and report.num_columns == 300 and report.num_other_features == 5
    assert not report.summed and not report.unmatched and "5 features that are no genes" in str(report)


@pytest.mark.parametrize("kinds", [["Gene Expression"] * 305, ["protein_coding"] * 305, [""] * 305])
def test_other_words_leave_every_column_in(kinds: list[str]) -> None:
    assert places({"var_names": NAMES + FEATURES, "feature_types": kinds}) == places({"var_names": NAMES + FEATURES})


def test_among_ids_a_column_without_one_is_believed_by_an_exact_symbol_alone() -> None:
    names = [*NAMES, "TP53", *FEATURES]
    ids = [*IDS, HUMAN.ensembl_ids[HUMAN.symbols.index("TP53")], *FEATURES]
    found = places({"var_names": names, "gene_ids": ids})
    assert found == [HUMAN.symbols.index("TP53"), -1, -1, -1, -1, HUMAN.symbols.index("XPC")]


def test_ids_and_symbols_may_be_mixed_in_one_field() -> None:
    mixed = [*IDS[:295], *NAMES[295:], "CD56"]
    assert HUMAN.match({"var_names": mixed}).target[:300].tolist() == list(range(300))
    assert places({"var_names": mixed}) == [HUMAN.symbols.index("NCAM1")]


def test_symbols_with_ids_of_another_species_are_refused() -> None:
    found = HUMAN.match({"var_names": NAMES, "gene_ids": [f"ENSSSCG{number:011d}" for number in range(300)]})
    assert (found.target == -1).all()
    with pytest.raises(GeneMatchError, match="These are pig ids and the model is human"):
        found.require(np.ones(300))
