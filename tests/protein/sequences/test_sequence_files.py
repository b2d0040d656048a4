"""FASTA and parquet are told apart by what they hold."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from xtrimogene.errors import FileFormatError, MissingExtraError
from xtrimogene.protein.sequences.sequence_files import read_sequences
from xtrimogene.protein.sequences.sequence_store import SequenceStore
from xtrimogene.protein.tokenizer import ProteinTokenizer


def test_a_fasta_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text(">one\nMKT\n")
    assert list(read_sequences(tmp_path / "a.parquet")) == [("one", "MKT")]


def test_a_parquet_is_read_by_its_column(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "a"
    pd.DataFrame({"id": [1, 2], "protein": ["MKT", "LLV"]}).to_parquet(file)
    assert list(read_sequences(file, "protein")) == [("row 1", "MKT"), ("row 2", "LLV")]
    with pytest.raises(FileFormatError, match="has no column 'sequence'; it has id, protein: name one as column"):
        list(read_sequences(file))
    with pytest.raises(FileFormatError, match="row 1 of 'id': a sequence is needed, got 1"):
        list(read_sequences(file, "id"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(FileFormatError, match="is a damaged parquet"):
        list(read_sequences(file))


def test_a_parquet_without_its_reader_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[parquet\]'"):
        list(read_sequences(tmp_path / "a"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="none cannot be read"):
        list(read_sequences(tmp_path / "none"))


def test_files_without_a_sequence_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pd.DataFrame({"sequence": pd.Series([], dtype=str)}).to_parquet(tmp_path / "a.parquet")
    tokenizer = ProteinTokenizer.xtrimopglm()
    with pytest.raises(FileFormatError, match="a.parquet hold no sequence"):
        SequenceStore.from_files([str(tmp_path / "a.parquet")], tokenizer, max_length=32)
