"""A cell's hash: a function of its genes and their counts, and of nothing else."""

import hashlib
from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary

HUMAN = GeneVocabulary.human()
GENES = GeneVocabulary(HUMAN.symbols[:30], HUMAN.ensembl_ids[:30])
KEYS = gene_keys(GENES)
ROWS = st.lists(st.lists(st.integers(0, 70_000), min_size=30, max_size=30), min_size=1, max_size=6)


def hashes(rows: list[list[int]]) -> list[int]:
    return hash_cells(csr_matrix(np.array(rows, np.float32)), KEYS).tolist()


def by_definition(row: list[int]) -> int:
    """As the docstring says it, in plain integers."""
    golden, whole = 0x9E3779B97F4A7C15, 2**64

    def mix(bits: int) -> int:
        bits = (bits + golden) % whole
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % whole
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % whole
        return bits ^ (bits >> 31)

    expressed = [(GENES.ensembl_ids[gene], count) for gene, count in enumerate(row) if count]
    total = 0
    for ensembl_id, count in expressed:
        key = int.from_bytes(hashlib.blake2b(ensembl_id.encode(), digest_size=8).digest(), "little")
        total += mix((key + count * golden) % whole)
    return mix((total + len(expressed) * golden) % whole)


@given(ROWS)
def test_it_is_what_it_is_defined_to_be_in_any_batch(rows: list[list[int]]) -> None:
    assert hashes(rows) == [by_definition(row) for row in rows]


@given(ROWS, st.randoms(use_true_random=False))
def test_gene_order_and_stored_zeros_have_no_say(rows: list[list[int]], random: "np.random.Generator") -> None:
    order = list(range(30))
    random.shuffle(order)
    whole = np.array(rows, np.float32)[:, order]
    filled = csr_matrix((whole.ravel(), np.tile(np.arange(30), len(rows)), np.arange(0, whole.size + 1, 30)))
    assert filled.nnz == whole.size
    moved = GeneVocabulary(
        tuple(GENES.symbols[gene] for gene in order), tuple(GENES.ensembl_ids[gene] for gene in order)
    )
    assert hash_cells(filled, gene_keys(moved)).tolist() == hashes(rows)


@given(ROWS, st.data())
def test_one_count_changes_it(rows: list[list[int]], data: st.DataObject) -> None:
    cell, gene = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 29))
    other = data.draw(st.integers(0, 70_000).filter(lambda count: count != rows[cell][gene]))
    before = hashes(rows)
    rows[cell][gene] = other
    after = hashes(rows)
    assert [a == b for a, b in zip(before, after, strict=True)] == [row != cell for row in range(len(rows))]


def test_it_never_changes() -> None:
    found = hashes([[gene % 4 for gene in range(30)], [0] * 30])
    assert found == [3932301741856790092, 16294208416658607535]


def test_a_gene_without_id_is_known_by_its_symbol() -> None:
    named = GeneVocabulary(("A",), ("",))
    assert gene_keys(named)[0] == int.from_bytes(hashlib.blake2b(b"A", digest_size=8).digest(), "little")


def test_large_matrices_are_hashed_in_pieces(make_counts: Callable[..., csr_matrix]) -> None:
    counts = make_counts(400, 1_000, 0.9)
    keys = np.random.default_rng(0).integers(2**64, size=1_000, dtype=np.uint64)
    alone = [hash_cells(counts[cell], keys)[0] for cell in range(400)]
    np.testing.assert_array_equal(hash_cells(counts, keys), alone)
