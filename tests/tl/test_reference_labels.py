"""What is read of a reference's cells, and what is said of those that are left out."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from xtrimogene.tl.reference_labels import read_labels

KINDS = pd.Categorical(["a", "b", "unknown", "a", None, "b"])


def cells(**columns: object) -> AnnData:
    return AnnData(obs=pd.DataFrame(columns, index=[f"cell{place}" for place in range(6)]))


def test_cells_without_a_label_are_left_out_in_silence() -> None:
    labels = read_labels(cells(kind=["a", "b", "", "a", None, "nan"]), "kind", None, None)
    assert labels.used.tolist() == [True, True, False, True, False, False]


def test_those_called_unknown_are_told_of_by_their_number() -> None:
    with pytest.warns(UserWarning) as said:
        labels = read_labels(cells(kind=KINDS), "kind", None, None)
    assert [str(one.message) for one in said] == [
        "1 cells of the reference are not used, since obs['kind'] says 'unknown' of them; if that is a name, give them "
        "another."
    ]
    assert labels.used.tolist() == [True, True, False, True, False, True]


def test_so_are_those_whose_group_is_unknown_and_each_cell_is_told_of_once() -> None:
    donors = ["x", "x", "unknown", "y", "unknown", "unknown"]
    with pytest.warns(UserWarning) as said:
        labels = read_labels(cells(kind=KINDS, donor=donors), "kind", "donor", None)
    assert [str(one.message).split("; ")[0] for one in said] == [
        f"1 cells of the reference are not used, since obs['{key}'] says 'unknown' of them" for key in ("kind", "donor")
    ]
    np.testing.assert_array_equal(labels.used, [True, True, False, True, False, False])
