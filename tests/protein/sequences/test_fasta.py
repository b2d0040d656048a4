"""Records read as they were written, and what is no FASTA."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xtrimogene.errors import FileFormatError
from xtrimogene.protein.sequences.fasta import read_fasta
from xtrimogene.protein.tokenizer import LETTERS

TEXT = ">sp|P1|ONE first protein\nMKT\nAYI\n\n>two\r\nLLV\r\n>three\nG"
RECORDS = [("sp|P1|ONE", "MKTAYI"), ("two", "LLV"), ("three", "G")]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_records_are_read_zipped_or_not(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "a.fasta").write_bytes(pack(TEXT.encode()))
    assert list(read_fasta(tmp_path / "a.fasta")) == RECORDS


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_any_space_ends_a_name_and_a_byte_order_mark_is_none_of_it(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "a.fasta").write_bytes(pack(b"\xef\xbb\xbf>one\tof two\nMKT\n> two\x0bb\nG\n"))
    assert list(read_fasta(tmp_path / "a.fasta")) == [("one", "MKT"), ("two", "G")]


@given(st.lists(st.text(LETTERS, min_size=1, max_size=30), min_size=1, max_size=5), st.integers(1, 10))
def test_line_width_means_nothing(tmp_path_factory: pytest.TempPathFactory, sequences: list[str], width: int) -> None:
    file = tmp_path_factory.mktemp("fasta") / "a.fasta"
    lines = []
    for number, sequence in enumerate(sequences):
        lines += [f">s{number}", *(sequence[i : i + width] for i in range(0, len(sequence), width))]
    file.write_text("\n".join(lines))
    assert [sequence for _, sequence in read_fasta(file)] == sequences


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no record"),
        (b"MKT\n", "line 1: a FASTA begins with '>' and a name, not with 'MKT'"),
        (b">\nMKT\n", "line 1: a record has no name"),
        (b">one\nMKT\n>two\n>three\nG\n", "line 3: 'two' has no letters"),
        (b">one\nMKT\n>two\n", "line 3: 'two' has no letters"),
        (b">one\n\xff\xfe\n", "is no text"),
        (gzip.compress(TEXT.encode(), mtime=0)[:-12], "is damaged"),
    ],
)
def test_what_is_no_fasta_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.fasta").write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        list(read_fasta(tmp_path / "a.fasta"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none.fasta cannot be read \(No such file or directory\)"):
        list(read_fasta(tmp_path / "none.fasta"))
