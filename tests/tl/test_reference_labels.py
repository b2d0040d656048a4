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


@pytest.mark.parametrize(
    ("donors", "lost", "used"),
    [
        (["x", "x", "unknown", "y", "unknown", "unknown"], ".", [True, True, False, True, False, False]),
        (["x", None, "x", "y", "x", None], "; no cell is left of 'b'.", [True, False, False, True, False, False]),
    ],
)
def test_so_are_those_without_a_group_and_each_cell_is_told_of_once(
    donors: list[str | None], lost: str, used: list[bool]
) -> None:
    donors, kinds = [*donors, "y"], pd.Categorical([*KINDS, "c"])
    obs = pd.DataFrame({"kind": kinds, "donor": donors}, index=[f"cell{place}" for place in range(7)])
    with pytest.warns(UserWarning) as said:
        labels = read_labels(AnnData(obs=obs), "kind", "donor", None)
    missing = 6 - sum(used) - 2
    assert [str(one.message) for one in said] == [
        "1 cells of the reference are not used, since obs['kind'] says 'unknown' of them; if that is a name, give them "
        "another.",
        f"{missing} cells of the reference that have a label are not used, since obs['donor'] holds nothing, or "
        f"'unknown', of them{lost}",
    ]
    np.testing.assert_array_equal(labels.used, [*used, True])
