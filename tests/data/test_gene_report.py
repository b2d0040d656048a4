import json

import pytest

from xtrimogene.data.gene_report import GeneReport, describe_names, percent


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["ENSMUSG00000051951", "ENSMUSG00000102693.1"], "mouse ids"),
        (["ENSSSCG00000000001"], "pig ids"),
        (["ENSLACG00000000001"], "another species (ENSLACG)"),
        (["Cd3d", "Xkr4", "Gm1992", "0610005C13Rik"], "mouse (or rat) symbols"),
        (["cd3d", "tp53"], "zebrafish"),
        (["7157", "1956"], "Entrez numbers"),
        (["ENST00000269305.9"], "transcript"),
        (["1007_s_at", "AFFX-BioB-3_at", "ILMN_1343291"], "probe ids"),
        (["chr1:1000-2000", "chrX-5-10"], "peaks"),
        (["NM_000546.6"], "RefSeq"),
        (["P04637", "A0A024R1R8"], "UniProt"),
        (["GRCh38_TP53", "mm10___Cd3d"], "genome in front"),
        (["MALAT1", "IGKC", "LINC00115", "RP11-34P13.7", "AC114498.1"], "does not have"),
    ],
)
def test_describe_names(names, said):
    assert said in describe_names(names)


def test_describe_names_knows_when_it_does_not_know():
    assert describe_names([]) == ""
    assert describe_names(["gene A", "gene B", "gene C", "Cd3d"]) == ""


def test_describe_names_looks_at_what_carries_the_counts():
    names = ["Cd3d", "Xkr4", "Actb", "IGKC"]
    assert "mouse" in describe_names(names)
    assert "immunoglobulin" in describe_names(names, [1.0, 0.0, 1.0, 98.0])
    assert "mouse" in describe_names(names, [0.0, 0.0, 0.0, 0.0])


def test_percent_never_rounds_up_to_a_limit():
    assert percent(0.49999) == "49.9 %"
    assert percent(0.5) == "50 %"
    assert percent(0.29) == "29 %"
    assert percent(1.0) == "100 %"


def test_report_is_json_and_fits_a_terminal():
    names = [f"A-LONG-NAME-{number}" for number in range(10)]
    report = GeneReport(
        num_columns=60_000,
        num_matched_columns=20_000,
        num_genes=20_092,
        num_matched_genes=19_000,
        total_counts=1e6,
        matched_counts=912_345.0,
        by_rule={"symbol": 15_000, "ensembl_id": 4_000, "alias": 900, "previous_symbol": 100},
        by_field={"var_names": 15_000, "gene_ids": 5_000},
        num_summed=2_000,
        summed={name: (name, f"{name}-1") for name in names},
        num_ambiguous=40,
        ambiguous=names,
        unmatched=names,
    )
    assert json.loads(json.dumps(report.as_dict())) == report.as_dict()
    assert report.as_dict()["share_of_counts"] == 0.912345
    text = str(report)
    assert max(map(len, text.splitlines())) <= 80
    assert "91.2 %" in text and "19,000 of the model's 20,092" in text and "alias 900" in text
