from pathlib import Path

import numpy as np
import pytest

from xtrimogene.errors import ConfigError, FieldError
from xtrimogene.tasks.cell_search.cell_table import CellTable, TextColumn


@pytest.fixture
def table(tmp_path: Path) -> CellTable:
    columns = {
        "tissue": TextColumn(categories=("blood", "lung"), codes=np.array([0, 1, -1, 0])),
        "donor/age": TextColumn(categories=("Å", "b"), codes=np.array([1, 1, 1, 0])),
    }
    return CellTable.write(tmp_path / "cells.h5", np.array(["c0", "c1", "c2", "c3"]), columns)


def test_rows_come_in_the_order_asked_for(table: CellTable) -> None:
    taken = CellTable.open(table.path).take(np.array([3, 0, 3, 2]))
    assert {name: values.tolist() for name, values in taken.items()} == {
        "names": ["c3", "c0", "c3", "c2"],
        "tissue": ["blood", "blood", "blood", None],
        "donor/age": ["Å", "b", "Å", "b"],
    }
    assert len(table) == 4 and table.take(np.array([], dtype=np.int64))["tissue"].tolist() == []


def test_cells_are_allowed_by_all_columns_and_any_value(table: CellTable) -> None:
    assert table.allowed({"tissue": "blood"}).tolist() == [True, False, False, True]
    assert table.allowed({"tissue": ["blood", "lung"]}).tolist() == [True, True, False, True]
    assert table.allowed({"tissue": "blood", "donor/age": ["b"]}).tolist() == [True, False, False, False]
    assert table.allowed({}).all()


def test_what_is_not_there_is_named_with_what_is(table: CellTable) -> None:
    with pytest.raises(FieldError, match="the index has no column 'organ', it has tissue, donor/age"):
        table.allowed({"organ": "lung"})
    with pytest.raises(ConfigError, match="no cell of the index has tissue='liver'; there are blood, lung"):
        table.allowed({"tissue": ["lung", "liver"]})
