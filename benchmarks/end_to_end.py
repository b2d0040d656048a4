"""From a file to cell vectors on a CPU: `xt.tl.embed` beside what a notebook does, with the same weights.

python benchmarks/end_to_end.py                 # 500 cells with the demo model: a minute on a quiet core
python benchmarks/end_to_end.py --preset 10M    # random weights of that shape

The notebook reads the file with anndata, makes a pandas frame of it, brings each row into the model's order of genes,
normalises it, and runs PyTorch's own encoder on the expressed genes of one cell at a time. One thread, process CPU
time, minimum of interleaved rounds; the vectors are compared. The share of a GEMM is given by torch.mm and by oneDNN
(gemm.py), by the operations of the network alone.
"""

import argparse
import json
import math
import tempfile
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import torch
from cells import make_counts
from embed import as_torch_encoder, describe_machine, pool
from gemm import SHARES, Gemm, show_shares, timed
from rich.console import Console
from rich.table import Table

from xtrimogene import tl
from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.model.flops import cell_embedding_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import PRESETS, model_config

RESULT = Path(__file__).parent / "results" / "end_to_end.json"


def main() -> None:
    options = read_options()
    torch.set_num_threads(1)
    genes = GeneVocabulary.human()
    model = load("demo")
    if options.preset != "demo":
        config = model_config(options.preset, len(genes))
        model = PretrainedModel(XTrimoGene(config).eval().requires_grad_(False), genes, name=options.preset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        counts = make_counts(options.cells, seed=0, num_genes=len(genes))
        order = np.random.default_rng(1).permutation(len(genes))[: len(genes) - 1_000]  # another order, some missing
        names = [genes.symbols[i] for i in order]
        counts = counts[:, order]
        anndata.AnnData(counts, var=pd.DataFrame(index=names)).write_h5ad(path)

        def ours() -> np.ndarray:
            return tl.embed(path, model, pool="all", read_depth="t4", device="cpu", progress=False).obsm["X_xtrimogene"]

        def notebook() -> np.ndarray:
            return embed_by_rows(path, model)

        gemm = Gemm(model.config.encoder.dim)
        runs = {"xt.tl.embed": ours, "notebook": notebook}
        seconds: dict[str, float] = {}
        results = {}
        for _ in range(options.rounds):
            for name, run in runs.items():
                gemm.measure()
                took, results[name] = timed(run)
                seconds[name] = min(took, seconds.get(name, took))
    difference = float(np.abs(results["xt.tl.embed"] - results["notebook"]).max())
    assert difference < 1e-3, difference
    flops = sum(cell_embedding_flops(model.config, length + 2, "all") for length in np.diff(counts.indptr).tolist())
    rates = {name: options.cells / took for name, took in seconds.items()}
    shares = {name: gemm.shares(flops, took) for name, took in seconds.items()}
    report = {
        "preset": options.preset,
        "cells": options.cells,
        "cells_per_cpu_second": rates,
        "faster_by": rates["xt.tl.embed"] / rates["notebook"],
        "largest_difference": difference,
        "gflop_a_cell": flops / options.cells / 1e9,
        **gemm.report(),
        "shares": shares,
        "machine": describe_machine(),
    }
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    table = Table(
        "", "cells/CPU-s", *SHARES.values(), title=f"{options.preset}, {options.cells} cells of a file, one thread"
    )
    for name, rate in rates.items():
        table.add_row(name, f"{rate:.1f}", *show_shares(shares[name]))
    Console().print(table)
    print(f"Faster by {report['faster_by']:.2f}.")


def embed_by_rows(path: Path, model: PretrainedModel) -> np.ndarray:
    network, encoder = model.network, as_torch_encoder(model.network)
    frame = anndata.read_h5ad(path).to_df()
    vectors = []
    with torch.inference_mode():
        for row in range(len(frame)):
            cell = frame.iloc[row].reindex(model.genes.symbols, fill_value=0.0)
            total = cell.sum()
            values = np.log1p(cell / total * 1e4).to_numpy()
            shown = np.flatnonzero(values)
            depths = [network.gene_embedding.target_depth_id, network.gene_embedding.source_depth_id]
            ids = torch.tensor([*shown, *depths])
            tokens = torch.tensor([*values[shown], 4.0, math.log10(total)], dtype=torch.float32)
            x = network.value_embedding(tokens) + network.gene_embedding(ids)
            vectors.append(pool(encoder(x[None])[0]).numpy())
    return np.stack(vectors)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="demo")
    parser.add_argument("--cells", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
