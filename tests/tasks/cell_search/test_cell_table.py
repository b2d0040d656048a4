from pathlib import Path

import numpy as np
import pytest

from xtrimogene.errors import ConfigError, FieldError
from xtrimogene.tasks.cell_search.cell_table import CellTable, CellTableWriter, TextColumn


@pytest.fixture
def table(tmp_path: Path) -> CellTable:
    with CellTableWriter(tmp_path / "cells.h5") as writer:
        tissue = TextColumn(categories=("blood", "lung"), codes=np.array([0, 1, -1]))
        writer.append(np.array(["c0", "c1", "c2"]), {"tissue": tissue})
        donor = TextColumn(categories=("Å", "b"), codes=np.array([1]))
        tissue = TextColumn(categories=("lung", "blood"), codes=np.array([1]))
        writer.append(np.array(["a cell, named \n long"]), {"donor/age": donor, "tissue": tissue})
        writer.append(np.array(["c4"]), {})
    return CellTable(tmp_path / "cells.h5")


def test_rows_come_in_the_order_asked_for(table: CellTable) -> None:
    names, texts = table.take(np.array([3, 0, 3, 2, 4]))
    assert names.tolist() == ["a cell, named \n long", "c0", "a cell, named \n long", "c2", "c4"]
    assert {name: values.tolist() for name, values in texts.items()} == {
        "tissue": ["blood", "blood", "blood", None, None],
        "donor/age": ["b", None, "b", None, None],
    }
    assert len(table) == 5 and table.take(np.array([], dtype=np.int64))[0].tolist() == []


def test_cells_are_allowed_by_all_columns_and_any_value(table: CellTable) -> None:
    assert table.allowed({"tissue": "blood"}).tolist() == [True, False, False, True, False]
    assert table.allowed({"tissue": ["blood", "lung"]}).tolist() == [True, True, False, True, False]
    assert table.allowed({"tissue": "blood", "donor/age": ["b"]}).tolist() == [False, False, False, True, False]
    assert table.allowed({}).all()


def test_a_whole_number_is_itself_however_it_was_written(tmp_path: Path) -> None:
    with CellTableWriter(tmp_path / "cells.h5") as writer:
        texts = {"batch": ("1", "2"), "resolution": ("0.5", "1.0")}
        codes = np.array([0, 1])
        writer.append(
            np.array(["c0", "c1"]), {name: TextColumn(categories=own, codes=codes) for name, own in texts.items()}
        )
    written = CellTable(tmp_path / "cells.h5")
    assert written.allowed({"batch": np.float32(1)}).tolist() == written.allowed({"batch": 1}).tolist() == [True, False]
    assert written.allowed({"resolution": 1.0}).tolist() == [False, True]


def test_what_is_not_there_is_named_with_what_is(table: CellTable) -> None:
    with pytest.raises(FieldError, match="the index has no column 'organ', it has tissue, donor/age"):
        table.allowed({"organ": "lung"})
    with pytest.raises(ConfigError, match="no cell of the index has tissue='liver'; there are blood, lung"):
        table.allowed({"tissue": ["lung", "liver"]})
    with pytest.raises(ConfigError, match=r"where\['tissue'\] is empty; there are blood, lung"):
        table.allowed({"tissue": []})


def test_what_is_open_answers_though_another_has_its_name(table: CellTable, tmp_path: Path) -> None:
    """Rows of one index with names of another would be the wrong patient's."""
    with CellTableWriter(tmp_path / "other.h5") as writer:
        writer.append(np.array(["other"] * 5), {})
    (tmp_path / "other.h5").replace(tmp_path / "cells.h5")
    assert table.take(np.array([0]))[0].tolist() == ["c0"]
