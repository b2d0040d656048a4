"""Drugs x drugs on a cell line."""

import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import FieldError
from xtrimogene.pl.synergy import synergy_matrix


@pytest.fixture
def answers() -> pd.DataFrame:
    rows = [("A", "B", "L", 0.9), ("B", "A", "L", 0.7), ("C", "A", "L", 0.2), ("B", "C", "M", 0.1)]
    table = pd.DataFrame(rows, columns=["drug1", "drug2", "cell_line", "probability"])
    return table.assign(novelty=["known pair", "known pair", "new drug", "measured"])


def test_the_square_is_symmetric_and_says_what_was_asked(answers: pd.DataFrame) -> None:
    ax = synergy_matrix(answers, "L")
    assert [text.get_text() for text in ax.get_xticklabels()] == ["B", "A", "C"]  # those that act most come first
    square = np.ma.filled(ax.images[0].get_array().astype(float), np.nan)
    np.testing.assert_allclose(square, [[np.nan, 0.8, np.nan], [0.8, np.nan, 0.2], [np.nan, 0.2, np.nan]])
    assert sorted(map(tuple, ax.collections[0].get_offsets().tolist())) == [(1, 2), (2, 1)]  # A and C
    assert ax.get_title() == "L" and ax.images[0].get_clim() == (0, 1)


def test_scores_are_centred_at_zero(answers: pd.DataFrame) -> None:
    scored = answers.rename(columns={"probability": "score"}).drop(columns="novelty").assign(score=[-4.0, -4, 2, 9])
    ax = synergy_matrix(scored, "L", title="scores")
    assert ax.images[0].get_clim() == (-4, 4) and ax.get_title() == "scores" and not ax.collections


def test_refused(answers: pd.DataFrame) -> None:
    with pytest.raises(FieldError, match="no column 'ic50'"):
        synergy_matrix(answers, "L", value_key="ic50")
    with pytest.raises(FieldError, match="no row is of cell line 'X'; there are L, M"):
        synergy_matrix(answers, "X")
    many = pd.DataFrame({"drug1": [f"d{place}" for place in range(61)], "drug2": "d0", "cell_line": "L", "score": 1.0})
    with pytest.raises(FieldError, match="61 drugs"):
        synergy_matrix(many, "L")
