"""What is drawn of a sweep of edits."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from xtrimogene.errors import FieldError
from xtrimogene.pl.in_silico import screen


@pytest.fixture
def table() -> pd.DataFrame:
    z = np.array([0.5, 6.0, -4.0, np.nan, 1.0, 0.0])
    return pd.DataFrame(
        {
            "edit": "knock-out",
            "genes": list("ABCDEF"),
            "group": ["blood"] * 5 + ["lung"],
            "shift_z": z,
            "shift_q": np.where(np.abs(z) > 3, 0.01, 0.6),
        }
    )


def test_edits_are_ranked_and_named_at_both_ends(table: pd.DataFrame, tmp_path: Path) -> None:
    ax = screen(table, label=1)
    others, sure = (collection.get_offsets().data for collection in ax.collections)
    np.testing.assert_allclose(others, [[2, 0.0], [3, 0.5], [4, 1.0]])
    np.testing.assert_allclose(sure, [[1, -4.0], [5, 6.0]])
    assert [text.get_text() for text in ax.texts] == ["C, blood", "B, blood"]
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["random genes ± 1.96 s.d.", "q > 0.05: 3", "q ≤ 0.05: 2"]
    ax.figure.savefig(tmp_path / "sweep.png")


def test_kinds_are_told_apart(table: pd.DataFrame) -> None:
    table.loc[1, "edit"] = "over-expression"
    ax = screen(table, group="blood", label=1)
    assert [text.get_text() for text in ax.texts] == ["C ko", "B oe"]


def test_refused(table: pd.DataFrame) -> None:
    with pytest.raises(FieldError, match="no column 'toward_z'; .* and a state to go toward"):
        screen(table, "toward")
    with pytest.raises(FieldError, match="no group 'skin'"):
        screen(table, group="skin")
    with pytest.raises(FieldError, match="no edit changed a cell"):
        screen(table.iloc[3:4])
