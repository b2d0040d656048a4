import pytest

from xtrimogene.data.gene_names import split_name


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("TP53", ("", "TP53")),
        ("AC114498.1", ("", "AC114498.1")),
        ("ENSA", ("", "ENSA")),  # a gene, not an id
        ("ENSG00000141510", ("ENSG00000141510", "")),
        ("ENSG00000141510.16", ("ENSG00000141510", "")),
        ("ENSG00000182378.15_PAR_Y", ("ENSG00000182378", "")),
        ("TBCE_ENSG00000285053", ("ENSG00000285053", "TBCE")),
        ("TBCE_ENSG00000285053.2", ("ENSG00000285053", "TBCE")),
        ("ENSG00000141510|TP53", ("ENSG00000141510", "TP53")),
        ("Y_RNA_ENSG00000141510", ("ENSG00000141510", "Y_RNA")),
        ("ENSMUSG00000051951.5", ("ENSMUSG00000051951", "")),
        ("ENST00000269305", ("", "ENST00000269305")),
    ],
)
def test_split_name(name, parts):
    assert split_name(name) == parts
