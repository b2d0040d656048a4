from pathlib import Path

import pytest

from xtrimogene.data.gene_sets import read_gene_sets
from xtrimogene.errors import ConfigError, FileFormatError


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_gmt_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "sets.gmt", "B\thttp://x\tMS4A1\tCD79A\tMS4A1\n\nT\t\tCD3D\t\r\n")
    assert read_gene_sets(path) == {"B": ("MS4A1", "CD79A"), "T": ("CD3D",)}


def test_a_dictionary_is_taken() -> None:
    assert read_gene_sets({"B": ["MS4A1", "MS4A1"]}) == {"B": ("MS4A1",)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("B\tdescription\tMS4A1\nT\n", "Line 2 of .* is no gene set"),
        ("B\tdescription\n", "Line 1 of .* is no gene set"),
        ("B,description,MS4A1\n", "Line 1 of .* is no gene set"),
        ("B\td\tMS4A1\nB\td\tCD79A\n", "has the gene set 'B' twice"),
        (b"\x1f\x8b\x08\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_damaged_gmt_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(FileFormatError, match=said):
        read_gene_sets(write(tmp_path / "sets.gmt", text))


def test_nothing_to_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot be read"):
        read_gene_sets(tmp_path / "none.gmt")
    with pytest.raises(ConfigError, match="no set of genes"):
        read_gene_sets(write(tmp_path / "empty.gmt", "\n"))
    for wrong in ({"B": "MS4A1"}, {"B": []}):
        with pytest.raises(ConfigError, match="a list of one gene or more"):
            read_gene_sets(wrong)
