from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from xtrimogene.errors import FieldError
from xtrimogene.pl.perturbation import perturbation


def changes(values: list[float], genes: list[str]) -> AnnData:
    return AnnData(np.array([values]), obs=pd.DataFrame(index=["KRAS in all cells"]), var=pd.DataFrame(index=genes))


def test_genes_in_common_are_drawn_and_named(tmp_path: Path) -> None:
    predicted, measured = changes([1.0, 2.0, 0.0], ["A", "B", "C"]), changes([9.0, 4.0, 2.0], ["D", "B", "A"])
    ax = perturbation(predicted, measured, "KRAS in all cells")
    points = np.ma.getdata(ax.collections[0].get_offsets())
    np.testing.assert_allclose(points, [[2.0, 1.0], [4.0, 2.0]])
    assert sorted(text.get_text() for text in ax.texts) == ["A", "B"]
    assert ax.get_title() == "KRAS in all cells: r = 1.00, 2 genes"
    one = perturbation(predicted, measured, "KRAS in all cells", genes=["A"], title="KRAS")
    assert [text.get_text() for text in one.texts] == ["A"] and one.get_title() == "KRAS"
    ax.figure.savefig(tmp_path / "change.png")


def test_what_cannot_be_compared_is_refused() -> None:
    predicted, measured = changes([1.0, 2.0], ["A", "B"]), changes([1.0, 2.0], ["B", "C"])
    with pytest.raises(FieldError, match="predicted has no row 'TP53'; it begins with 'KRAS in all cells'"):
        perturbation(predicted, measured, "TP53")
    with pytest.raises(FieldError, match="have 1 genes in common"):
        perturbation(predicted, measured, "KRAS in all cells")
    with pytest.raises(FieldError, match="C: not in both"):
        perturbation(predicted, changes([1.0, 2.0], ["A", "B"]), "KRAS in all cells", genes=["C"])
