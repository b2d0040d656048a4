import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from xtrimogene.data.gene_table import human_gene_table
from xtrimogene.data.gene_vocabulary import GeneMatch, GeneVocabulary
from xtrimogene.errors import ConfigError, FileFormatError, GeneMatchError

HUMAN = GeneVocabulary.human()
TP53 = HUMAN.symbols.index("TP53")
NAMES = st.sampled_from(
    [name for gene in human_gene_table().genes[::97] for name in (gene.symbol, gene.ensembl_id, *gene.aliases[:1])]
    + ["Cd3d", "MALAT1", "SEPT2", "TBCE", "TBCE-1", "TBCE.1", "HLA.A", "7157", "", "ENSMUSG00000051951"]
)


def names_of(match: GeneMatch) -> list[str]:
    return [match.vocabulary.symbols[gene] if gene >= 0 else "" for gene in match.target.tolist()]


def match(*names: str, **fields: list[str]) -> list[str]:
    return names_of(HUMAN.match({"var_names": list(names), **fields}))


@pytest.fixture(scope="module")
def scfoundation(shared) -> GeneVocabulary:
    return GeneVocabulary.read(shared / "data" / "tables" / "scfoundation_genes_19264.tsv")


def test_genes_are_shown_in_a_line():
    assert repr(GeneVocabulary.human()) == "GeneVocabulary(20,092 genes: TSPAN6, TNMD, DPM1, ...)"
    assert repr(GeneVocabulary(("A", "B"), ("", ""))) == "GeneVocabulary(2 genes: A, B)"


def test_human_size():
    assert len(HUMAN) == 20_092
    assert all(HUMAN.ensembl_ids)
    assert HUMAN.sha256 == "27896fd05402f8216bba8aec1ed97b7b55a4f78c231374e4f9c6e6a837874051"


@pytest.mark.parametrize(
    ("name", "symbol", "rule"),
    [
        ("TP53", "TP53", "symbol"),
        (" TP53 ", "TP53", "symbol"),
        ("ENSG00000141510", "TP53", "ensembl_id"),
        ("ENSG00000141510.16", "TP53", "ensembl_id"),
        ("ENSG00000229215", "HLA-A", "ensembl_id"),  # on an alternative haplotype
        ("TP53_ENSG00000141510", "TP53", "ensembl_id"),
        ("TP53_ENSG99999999999", "TP53", "symbol"),
        ("P53", "TP53", "alias"),
        ("DDX58", "RIGI", "alias"),
        ("C1orf112", "FIRRM", "previous_symbol"),
        ("HLA.A", "HLA-A", "symbol"),  # R's make.names
        ("tp53", "", ""),
        ("Cd3d", "", ""),
        ("CD3D", "CD3D", "symbol"),
        ("SEPT2", "", ""),  # SEPTIN2 or SEPTIN6
        ("OPN3_ENSMUSG00000026525", "", ""),
        ("7157", "", ""),
        ("", "", ""),
    ],
)
def test_rules(name, symbol, rule):
    found = HUMAN.match({"var_names": [name]})
    assert names_of(found) == [symbol]
    assert found.rule.tolist() == [rule]
    assert found.field.tolist() == ["var_names" if rule else ""]


def test_symbols_come_before_old_names():
    taken = GeneVocabulary(("TP53", "P53"), ("ENSG00000141510", ""))
    assert names_of(taken.match({"var_names": ["P53", "TRP53"]})) == ["P53", "TP53"]


def test_a_made_unique_name_needs_its_first():
    assert match("TBCE", "TBCE-1", "TBCE-2") == ["TBCE", "TBCE", "TBCE"]
    assert match("TBCE", "TBCE.1") == ["TBCE", "TBCE"]
    assert match("TBCE-1") == [""]
    assert match("TBCE", "TBCE-2") == ["TBCE", ""]  # no -1: somebody's own numbering
    assert match("CAND1", "CAND1.11") == ["CAND1", ""]  # a gene of its own
    assert match("NKX2-1", "KRTAP5-1") == ["NKX2-1", "KRTAP5-1"]


def test_a_known_name_is_no_made_unique_one():
    assert "CS-1" in human_gene_table().ambiguous
    assert match("CS", "CS-1", "MIF", "MIF-2") == ["CS", "", "MIF", "DDT"]


def test_identifiers_are_found_wherever_they_are():
    ids = ["ENSG00000141510.16", "ENSG00000010610.9"]
    for field in (
        "gene_ids",
        "gene_id",
        "feature_id",
        "ensembl_id",
        "ensembl",
        "Ensembl.ID",
        "GeneID",
        "_index",
        "index",
    ):
        assert match("0", "1", **{field: ids}) == ["TP53", "CD4"], field
    for field in (
        "feature_name",
        "gene_name",
        "gene_symbol",
        "gene_symbols",
        "symbol",
        "hgnc_symbol",
        "gene_short_name",
    ):
        assert match("0", "1", **{field: ["TP53", "CD4"]}) == ["TP53", "CD4"], field


def test_columns_that_are_about_other_genes_are_not_used():
    assert match("0", "1", nearest_gene=["TP53", "CD4"]) == ["", ""]


def test_unknown_fields_are_used_when_there_is_nothing_else():
    assert names_of(HUMAN.match({"my_genes": ["TP53"]})) == ["TP53"]


def test_mixed_names_and_fields():
    found = HUMAN.match({"var_names": ["TP53", "ENSG00000010610", "x"], "gene_ids": ["", "", "ENSG00000156738.4"]})
    assert names_of(found) == ["TP53", "CD4", "MS4A1"]
    assert found.field.tolist() == ["var_names", "var_names", "gene_ids"]
    assert found.rule.tolist() == ["symbol", "ensembl_id", "ensembl_id"]


def test_the_better_matching_field_is_believed():
    fields = {"var_names": ["TP53", "x", "y"], "gene_ids": ["ENSG00000010610", "ENSG00000156738", "ENSG00000167286"]}
    assert names_of(HUMAN.match(fields)) == ["CD4", "MS4A1", "CD3D"]
    assert names_of(HUMAN.match(dict(reversed(fields.items())))) == ["CD4", "MS4A1", "CD3D"]


def test_an_exact_name_is_believed_before_an_old_one():
    assert match("P53", "CD4", gene_ids=["ENSG00000156738", ""]) == ["MS4A1", "CD4"]


def test_fields_of_different_lengths_are_refused():
    with pytest.raises(GeneMatchError, match="One identifier per column"):
        HUMAN.match({"var_names": ["TP53"], "gene_ids": []})


def test_a_model_with_an_old_symbol_meets_data_with_the_new_and_back():
    old = GeneVocabulary.from_symbols(["C1orf112", "DDX58", "GAPDH"])
    found = old.match({"var_names": ["FIRRM", "RIGI", "ENSG00000111640", "RIG-I"]})
    assert names_of(found) == ["C1orf112", "DDX58", "GAPDH", "DDX58"]
    assert found.rule.tolist() == ["previous_symbol", "alias", "ensembl_id", "alias"]
    assert match("C1orf112", "DDX58") == ["FIRRM", "RIGI"]


def test_two_ids_of_one_gene_in_a_vocabulary_keep_their_own_columns():
    both = GeneVocabulary(("SHOX", "SHOXY"), ("ENSG00000185960", "ENSG00000292354"))
    names = ["ENSG00000292354", "ENSG00000185960", "SHOX", "GCFX"]
    assert names_of(both.match({"var_names": names})) == ["SHOXY", "SHOX", "SHOX", "SHOX"]


@pytest.mark.shared
def test_scfoundation_list(scfoundation):
    assert len(scfoundation) == 19_264
    assert sum(map(bool, scfoundation.ensembl_ids)) == 19_157
    assert scfoundation.symbols[:3] == ("A1BG", "A1CF", "A2M")
    found = scfoundation.match({"var_names": ["RIGI", "MT-CO1", "MT-CO1__chrM", "ENSG00000198804"]})
    assert names_of(found) == ["DDX58", "MT-CO1", "MT-CO1__chrM", "MT-CO1"]


@pytest.mark.parametrize("versions", ["", ".7"])
def test_the_human_genes_match_themselves(versions):
    check_identity(HUMAN, versions)


@pytest.mark.shared
@pytest.mark.parametrize("versions", ["", ".7"])
def test_the_scfoundation_genes_match_themselves(scfoundation, versions):
    check_identity(scfoundation, versions)


def check_identity(vocabulary: GeneVocabulary, versions: str) -> None:
    places = np.arange(len(vocabulary))
    ids = [i and i + versions for i in vocabulary.ensembl_ids]
    assert (vocabulary.match({"var_names": vocabulary.symbols}).target == places).all()
    assert (vocabulary.match({"var_names": vocabulary.symbols, "gene_ids": ids}).target == places).all()
    by_id = vocabulary.match({"gene_ids": ids}).target
    assert (by_id == np.where(np.array(vocabulary.ensembl_ids) == "", -1, places)).all()


@given(names=st.lists(NAMES, max_size=30), data=st.data())
def test_order_of_columns_does_not_matter(names, data):
    ids = data.draw(st.lists(NAMES, min_size=len(names), max_size=len(names)))
    order = data.draw(st.permutations(range(len(names))))
    here = HUMAN.match({"var_names": names, "gene_ids": ids})
    there = HUMAN.match({"gene_ids": [ids[i] for i in order], "var_names": [names[i] for i in order]})
    assert (there.target == here.target[list(order)]).all()
    assert (there.rule == here.rule[list(order)]).all()


@given(ids=st.lists(st.sampled_from(HUMAN.ensembl_ids), max_size=20), version=st.integers(1, 99))
def test_versions_do_not_matter(ids, version):
    plain = HUMAN.match({"var_names": ids})
    assert (HUMAN.match({"var_names": [f"{i}.{version}" for i in ids]}).target == plain.target).all()


@given(names=st.lists(NAMES, min_size=1, max_size=30), seed=st.integers(0, 1000))
@settings(max_examples=50)
def test_apply_sums_duplicates_and_keeps_every_matched_count(names, seed):
    counts = np.random.default_rng(seed).poisson(0.7, (4, len(names))).astype(np.float32)
    found = HUMAN.match({"var_names": names})
    genes = found.apply(csr_matrix(counts))

    expected = np.zeros((4, len(HUMAN)), np.float32)
    for column, gene in enumerate(found.target):
        if gene >= 0:
            expected[:, gene] += counts[:, column]
    assert genes.dtype == np.float32 and genes.shape == (4, len(HUMAN))
    assert genes.has_canonical_format and (np.diff(genes.indptr) >= 0).all()
    assert (genes.toarray() == expected).all()

    report = found.report(counts.sum(0))
    assert genes.sum() == report.matched_counts == counts[:, found.target >= 0].sum()
    assert found.measured.sum() == report.num_matched_genes == len({name for name in names_of(found) if name})
    assert sum(report.by_rule.values()) == sum(report.by_field.values()) == report.num_matched_columns


def test_apply_sorts_and_says_when_the_width_is_wrong():
    found = HUMAN.match({"var_names": ["ZYX", "x", "TSPAN6"]})
    genes = found.apply(csr_matrix(np.array([[5, 7, 3]], np.float32)))
    assert genes.has_sorted_indices and genes.data.tolist() == [3, 5]
    with pytest.raises(AssertionError):
        found.apply(csr_matrix(np.ones((1, 2), np.float32)))


def test_report():
    found = HUMAN.match({"var_names": ["TP53", "x", "P53", "SEPT2", "CD4"]})
    report = found.report(np.array([1, 2, 3, 10, 4]))
    assert (report.num_columns, report.num_matched_columns, report.num_matched_genes) == (5, 3, 2)
    assert (report.total_counts, report.matched_counts, report.share_of_counts) == (20, 8, 0.4)
    assert report.by_rule == {"symbol": 2, "ensembl_id": 0, "alias": 1, "previous_symbol": 0}
    assert (report.num_summed, report.summed) == (2, {"TP53": ["TP53", "P53"]})
    assert report.ambiguous == ["SEPT2"]
    assert report.unmatched == ["SEPT2", "x"]  # the heavier first
    assert found.report().unmatched == ["x", "SEPT2"]
    assert found.report().share_of_counts is None


def test_no_counts_at_all_have_no_share():
    assert HUMAN.match({"var_names": ["TP53"]}).report(np.zeros(1)).share_of_counts is None


def test_mouse_is_refused():
    names = [*HUMAN.symbols[:812], *(f"ENSMUSG{number:011d}" for number in range(20_000))]
    counts = np.r_[np.full(812, 3 / 812), np.full(20_000, 97 / 20_000)]
    with pytest.raises(GeneMatchError) as error:
        HUMAN.match({"var_names": names}).require(counts)
    first, second = str(error.value).splitlines()
    assert first == (
        "812 of 20,812 genes (3 % of the counts) are in the vocabulary; at least half of the counts are needed."
    )
    assert second.startswith("First unmatched: 'ENSMUSG00000000000', ")
    assert second.endswith("These are mouse ids and the model is human: map them to human orthologs first.")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([f"Gene{number}" for number in range(300)], "mouse"),
        ([str(number) for number in range(300)], "Entrez numbers"),
        (["Cd3d"], "mouse"),
        (HUMAN.symbols[:9], "has only 9 genes"),
        (["a gene"] * 300, "Put gene symbols or Ensembl ids in var_names"),
        ([], "0 genes"),
    ],
)
def test_too_few_genes_are_refused(names, said):
    found = HUMAN.match({"var_names": names})
    with pytest.raises(GeneMatchError, match=r"at least 200 genes are needed \(min_genes\)") as error:
        found.require(np.ones(len(names)))
    assert said in str(error.value)


def test_limits():
    found = HUMAN.match({"var_names": [*HUMAN.symbols[:200], "IGKC"]})
    weights = np.r_[np.ones(200), 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert found.require().num_matched_genes == 200
        assert found.require(weights + np.r_[np.zeros(200), 50]).share_of_counts == 0.8
    with pytest.warns(UserWarning, match="less sure below 80 %.*\n.*'IGKC'.*immunoglobulin"):
        found.require(weights + np.r_[np.zeros(200), 200])  # exactly half
    with pytest.raises(GeneMatchError, match=r"\(49.9 % of the counts\)"):
        found.require(weights + np.r_[np.zeros(200), 200.1])
    with pytest.raises(GeneMatchError, match="at least 201 genes"):
        found.require(min_genes=201)


def test_write_and_read(tmp_path):
    vocabulary = GeneVocabulary(("TP53", "CD4", "no id"), ("ENSG00000141510", "ENSG00000010610", ""))
    vocabulary.write(tmp_path / "genes.tsv")
    assert (tmp_path / "genes.tsv").read_bytes() == (
        b"symbol\tensembl_id\nTP53\tENSG00000141510\nCD4\tENSG00000010610\nno id\t\n"
    )
    assert GeneVocabulary.read(tmp_path / "genes.tsv") == vocabulary
    assert GeneVocabulary.read(tmp_path / "genes.tsv").sha256 == vocabulary.sha256


def test_read_looks_up_ids_and_takes_windows_lines(tmp_path):
    (tmp_path / "genes.tsv").write_bytes(b"gene_name\tindex\r\nTP53\t0\r\nDDX58\t1\r\n")
    genes = GeneVocabulary.read(tmp_path / "genes.tsv")
    assert genes == GeneVocabulary(("TP53", "DDX58"), ("ENSG00000141510", "ENSG00000107201"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no gene list"),
        (b"name\nTP53\n", "no gene list"),
        (b"symbol\tensembl_id\nTP53\n", "no gene list"),
        (b"gene_name\tindex\nTP53\t1\n", "does not count from 0"),
        (b"symbol\nTP53\nTP53\n", "'TP53' stands twice"),
        (b"symbol\tensembl_id\nA\tENSG00000141510\nB\tENSG00000141510.2\n", "'ENSG00000141510' stands twice"),
        (b"symbol\tensembl_id\n\tENSG00000141510\n", "has no symbol"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_bad_gene_lists_are_refused(tmp_path, content, said):
    path = tmp_path / "genes.tsv"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=said) as error:
        GeneVocabulary.read(path)
    assert str(path) in str(error.value)


def test_a_missing_gene_list_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="cannot be read"):
        GeneVocabulary.read(tmp_path / "none.tsv")


def test_symbols_and_ids_go_together():
    with pytest.raises(ConfigError, match="2 symbols came with 1 Ensembl ids"):
        GeneVocabulary(("A", "B"), ("",))


@pytest.mark.shared
@pytest.mark.parametrize(("file", "least"), [("pbmc3k", 0.96), ("hao_pbmc_1336", 0.93), ("baron_h1", 0.99)])
def test_real_cells(shared, file, least):
    h5py = pytest.importorskip("h5py")
    with h5py.File(shared / "data" / f"{file}.h5ad") as content:
        names = content["var"][content["var"].attrs["_index"]].asstr()[:]
        counts = np.bincount(content["X/indices"][:], weights=content["X/data"][:], minlength=len(names))
    report = HUMAN.match({"var_names": list(names)}).require(counts)
    assert report.share_of_counts is not None and report.share_of_counts >= least
