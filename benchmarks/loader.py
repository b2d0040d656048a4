"""How many cells a second a training process reads: shuffled, in batches of 256, from memory and from files.

Cells per CPU-second of one thread, interleaved over rounds, the best of each; synthetic counts, 20,000 genes at 9 %.
"gather" is the bare `matrix[rows]` of scipy on random rows: what reading from memory cannot beat.

python benchmarks/loader.py --cells 50000 --out benchmarks/results/loader.json
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from scipy import sparse

from xtrimogene.config import SamplingConfig
from xtrimogene.data.cell_store import CellsInFile, CellsInMemory, CellStore
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.lane_reader import LaneReader
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.data.sampler import Sampler

NUM_GENES, DENSITY, BATCH_SIZE = 20_000, 0.09, 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=50_000)
    parser.add_argument("--steps", type=int, default=40, help="batches of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    counts = synthetic_counts(options.cells)
    genes = GeneVocabulary(tuple(f"GENE{i}" for i in range(NUM_GENES)), ("",) * NUM_GENES)
    memory = CellsInMemory(counts, np.ones((1, NUM_GENES), dtype=bool), np.zeros(options.cells, dtype=np.int64))
    with tempfile.TemporaryDirectory() as folder:
        stores: dict[str, CellStore] = {"memory": memory}
        for name, compression in (("h5ad", None), ("h5ad gzip", "gzip")):
            file = Path(folder) / f"{name}.h5ad"
            adata = anndata.AnnData(counts, var=pd.DataFrame(index=list(genes.symbols)))
            adata.write_h5ad(file, compression=compression)
            stores[name] = CellsInFile(file, genes, min_genes=1)
        sources: dict[str, Iterator[int]] = {"gather": gather(counts)}
        sources |= {name: read(store) for name, store in stores.items()}
        sources["memory, packed"] = read(memory, finish=pack_cells)
        best = measure(sources, options.steps, options.rounds)
    result = {
        "cells": options.cells,
        "genes": NUM_GENES,
        "density": DENSITY,
        "batch_size": BATCH_SIZE,
        "cells_per_cpu_second": {name: round(rate) for name, rate in best.items()},
        "memory_over_gather": round(best["memory"] / best["gather"], 3),
        "targets": {"memory_over_gather": 0.85, "memory, packed": 40_000, "zarr": 40_000},
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def synthetic_counts(num_cells: int) -> sparse.csr_matrix:
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(NUM_GENES * DENSITY * 0.92), 0.4, num_cells), 200, 8_000).astype(int)
    indptr = np.concatenate([[0], lengths.cumsum()])
    indices = np.empty(indptr[-1], np.int32)
    for start, stop in zip(indptr[:-1], indptr[1:], strict=True):  # strides of random genes: sorted and distinct
        steps = random.random(stop - start) + 0.02
        indices[start:stop] = (steps.cumsum() / (steps.sum() + 0.1) * (NUM_GENES - (stop - start))).astype(np.int32)
        indices[start:stop] += np.arange(stop - start, dtype=np.int32)
    values = random.geometric(0.6, len(indices)).astype(np.float32)
    return sparse.csr_matrix((values, indices, indptr), shape=(num_cells, NUM_GENES))


def gather(counts: sparse.csr_matrix) -> Iterator[int]:
    random = np.random.default_rng(1)
    while True:
        yield counts[random.integers(counts.shape[0], size=BATCH_SIZE)].shape[0]


def read(store: CellStore, finish: Callable[[sparse.csr_matrix], object] = lambda counts: counts) -> Iterator[int]:
    sampler = Sampler([(len(store.panel), 1.0)], batch_size=BATCH_SIZE, config=SamplingConfig(), seed=0)
    readers = [LaneReader(store, sampler, lane) for lane in range(sampler.config.num_lanes)]
    step = 0
    while True:
        parts = [reader.read(step)[0] for reader in readers]
        for part in parts:
            finish(part)
        step += 1
        yield sum(part.shape[0] for part in parts)


def measure(sources: dict[str, Iterator[int]], num_steps: int, num_rounds: int) -> dict[str, float]:
    best: dict[str, float] = {}
    for source in sources.values():
        next(source)  # the first buffers
    for _ in range(num_rounds):
        for name, source in sources.items():
            began, cells = time.process_time(), 0
            for _ in range(num_steps):
                cells += next(source)
            best[name] = max(best.get(name, 0.0), cells / (time.process_time() - began))
    return best


if __name__ == "__main__":
    main()
