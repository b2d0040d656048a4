"""A 64-bit hash of a cell's counts, by which a cell is recognized whatever file it comes in.

It is a function of the pairs (gene, count) with a count above zero: the order of the genes, stored zeros and the other
cells have no say. Numbers of the hash are kept in stores and cards, so it never changes.
Letters: B cells, G genes.
"""

import hashlib

import numpy as np
from jaxtyping import Bool, UInt64
from scipy.sparse import csr_matrix

from xtrimogene.data.block_readers import blocks_by_offsets
from xtrimogene.data.gene_vocabulary import GeneVocabulary

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_IN_CACHE = 1 << 17  # entries


def gene_keys(genes: GeneVocabulary) -> UInt64[np.ndarray, "G"]:
    """Return 64 bits for each gene: BLAKE2b of its Ensembl id, or of its symbol where it has none."""
    names = (ensembl_id or symbol for symbol, ensembl_id in zip(genes.symbols, genes.ensembl_ids, strict=True))
    digests = (hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)


def hash_cells(counts: csr_matrix, keys: UInt64[np.ndarray, "G"]) -> UInt64[np.ndarray, "B"]:
    """Hash each cell.

    Parameters
    ----------
    counts
        Cells x genes: whole numbers, one entry a gene.
    keys
        From `gene_keys`, of the genes of the columns.
    """
    hashes = np.empty(counts.shape[0], dtype=np.uint64)
    for start, stop in blocks_by_offsets(counts.indptr, _IN_CACHE):
        low, high = counts.indptr[start], counts.indptr[stop]
        number = counts.data[low:high].astype(np.uint64)
        pairs = _mix(keys[counts.indices[low:high]] + number * _GOLDEN)
        pairs[number == 0] = 0
        hashes[start:stop] = _sums(pairs, counts.indptr[start : stop + 1] - low)
        expressed = _sums((number > 0).astype(np.uint64), counts.indptr[start : stop + 1] - low)
        hashes[start:stop] = _mix(hashes[start:stop] + expressed * _GOLDEN)
    return hashes


def are_among(hashes: UInt64[np.ndarray, "B"], known: UInt64[np.ndarray, "cells"]) -> Bool[np.ndarray, "B"]:
    """Say of each hash whether it is among ``known``, which is sorted and may lie on disk."""
    if len(known) == 0:
        return np.zeros(len(hashes), dtype=bool)
    place = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
    return known[place] == hashes


def _mix(bits: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """The finalizer of splitmix64 (Steele, Lea and Flood, 2014); arithmetic modulo 2^64."""
    bits = bits + _GOLDEN
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _sums(values: UInt64[np.ndarray, "n"], offsets: np.ndarray) -> UInt64[np.ndarray, "b"]:
    """Sum modulo 2^64 between the offsets; of nothing, 0."""
    sums = np.zeros(len(offsets) - 1, dtype=np.uint64)
    filled = np.flatnonzero(np.diff(offsets))  # reduceat gives a value, and no 0, where two offsets are equal
    if len(filled):
        sums[filled] = np.add.reduceat(values, offsets[filled])
    return sums
