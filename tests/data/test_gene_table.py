import gzip
import hashlib
import subprocess
import sys
from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from xtrimogene.data.gene_table import ASSET, human_gene_table

ROOT = Path(__file__).resolve().parents[2]
SHA256 = "16e55852a5dfbf878dc933d55b138f1ed10400d6999310ecbec72a3d98b5f419"


def test_packaged_table_is_the_documented_one():
    content = (Path(str(files("xtrimogene"))) / ASSET).read_bytes()
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert SHA256 in (ROOT / "data" / "README.md").read_text(encoding="utf-8")


@pytest.mark.shared
def test_rebuilding_gives_the_same_bytes(shared, tmp_path):
    out = tmp_path / "genes.tsv.gz"
    script = ROOT / "data" / "build_gene_table.py"
    subprocess.run([sys.executable, script, shared / "data" / "tables", "--out", out], check=True)
    packaged = (Path(str(files("xtrimogene"))) / ASSET).read_bytes()
    assert gzip.decompress(out.read_bytes()) == gzip.decompress(packaged)
    assert out.read_bytes() == packaged


def test_no_two_genes_share_a_name():
    genes = human_gene_table().genes
    symbols = [gene.symbol for gene in genes]
    ids = [i for gene in genes for i in (gene.ensembl_id, *gene.other_ensembl_ids)]
    old = [name for gene in genes for name in (*gene.aliases, *gene.previous_symbols)]
    assert [name for name, number in Counter(symbols).items() if number > 1] == []
    assert [name for name, number in Counter(ids).items() if number > 1] == []
    assert [name for name, number in Counter(old).items() if number > 1] == []
    assert not set(old) & set(symbols)
    assert not human_gene_table().ambiguous & (set(old) | set(symbols))


def test_size():
    assert Counter(gene.biotype for gene in human_gene_table().genes) == {
        "protein_coding": 20_092,
        "Mt_tRNA": 22,
        "Mt_rRNA": 2,
    }


def test_known_genes():
    table = human_gene_table()
    assert table.by_symbol["TP53"].ensembl_id == "ENSG00000141510"
    assert table.by_old_name["P53"].symbol == "TP53"
    assert table.by_symbol["FIRRM"].previous_symbols == ("C1orf112",)
    assert table.by_old_name["COX1"].symbol == "MT-CO1"  # RefSeq's symbol, though NCBI also lists it as alias of PTGS1
    assert "SEPT2" in table.ambiguous  # SEPTIN2 and SEPTIN6


def test_of_several_ids_the_lowest_is_the_genes_own():
    table = human_gene_table()
    assert table.by_symbol["SHOX"].ensembl_id == "ENSG00000185960"  # on X; ENSG00000292354 is its copy on Y
    assert table.by_id["ENSG00000292354"].symbol == "SHOX"
    assert table.by_id["ENSG00000229215"].symbol == "HLA-A"  # an alternative haplotype


def test_an_alias_that_is_another_genes_symbol_is_left_out():
    # NCBI lists OPN3 among the symbols of the Ensembl id that is CHML.
    table = human_gene_table()
    assert "OPN3" not in {*table.by_symbol["CHML"].previous_symbols, *table.by_symbol["CHML"].aliases}


def test_ids_are_given_once():
    table = human_gene_table()
    own = table.by_symbol["BTBD8"].ensembl_id
    assert table.ids_of(["KIAA1107", "BTBD8"]) == ("", own)
    assert table.ids_of(["KIAA1107"]) == (own,)
    assert table.ids_of(["P53", "TRP53"]) == ("", "")  # two old names of one gene: neither is preferred
    assert table.ids_of(["SEPT2", "no gene"]) == ("", "")
