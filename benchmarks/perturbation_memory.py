"""Peak memory of `fit_perturbation` and `perturb` on a synthetic screen of 200,000 cells in a file.

nice python benchmarks/perturbation_memory.py --name now          # minutes of one core, a file of 1 GB in /tmp
nice python benchmarks/perturbation_memory.py --cells 20000 --asked 4000 --name "4,000 asked for"
PYTHONPATH=OTHER:OTHER/kernels python benchmarks/perturbation_memory.py --name OTHER   # code of another commit

5,000 genes of the demo model, 500 molecules a cell; 20 knock-outs in two contexts and a tenth of control cells, in
random order; what a perturbation does is nothing, as only memory and time are measured. Each call has a process of its
own, whose peak is the kernel's (VmHWM), beside a process that has only imported the package and loaded the model.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata.io import write_elem
from memory import read_bytes
from scipy.sparse import csr_matrix
from studies import write_result

from xtrimogene.checkpoint import load

RESULT = Path(__file__).parent / "results" / "perturbation_memory.json"
NUM_GENES, MOLECULES, NUM_PERTURBED, CONTROL_SHARE, BLOCK = 5_000, 500, 20, 0.1, 5_000
SETUP = "import sys, warnings; warnings.simplefilter('ignore'); import xtrimogene.tl.perturbation as xt\n"
LOADED = "xt.load('demo')\n"
FIT = """
xt.fit_perturbation(sys.argv[1], sys.argv[2], perturbation_key='gene', control='ctrl', group_key='batch',
                    progress=False)
"""
PERTURB = """
from pathlib import Path
genes = Path(sys.argv[3]).read_text().split()
assert len(xt.perturb(sys.argv[1], sys.argv[2], genes, group_key='batch')) == 2 * len(genes)
"""
STATUS = "print(open('/proc/self/status').read())"


def main() -> None:
    options = read_options()
    report: dict[str, Any] = {
        "cells": options.cells,
        "asked": options.asked,
        "genes": NUM_GENES,
        "molecules_a_cell": MOLECULES,
    }
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        file, asked = Path(scratch) / "screen.h5ad", Path(scratch) / "asked.txt"
        asked.write_text("\n".join(write_screen(file, options.cells)[-options.asked :]))
        report["file_bytes"] = file.stat().st_size
        report["loaded_bytes"], _ = measure(LOADED)
        for name, code in (("fit", FIT), ("perturb", PERTURB)):
            peak, seconds = measure(code, file, Path(scratch) / "predictor", asked)
            report |= {f"{name}_peak_bytes": peak, f"{name}_seconds": round(seconds, 1)}
    report["load_average"] = os.getloadavg()[2]
    write_result(options.out, options.name, report)
    print(json.dumps(report, indent=1))


def measure(code: str, *arguments: Path) -> tuple[int, float]:
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-c", SETUP + code + STATUS, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return read_bytes(done.stdout, "VmHWM"), time.perf_counter() - began


def write_screen(file: Path, num_cells: int) -> list[str]:
    """Write the cells block by block; return the symbols of the genes."""
    random = np.random.default_rng(0)
    genes = load("demo").genes
    symbols = [genes.symbols[place] for place in random.permutation(len(genes))[:NUM_GENES].tolist()]
    often = random.lognormal(sigma=1.5, size=NUM_GENES)
    often = np.cumsum(often / often.sum())
    names = np.array(["ctrl", *symbols[:NUM_PERTURBED]])
    treated = 1 + random.integers(NUM_PERTURBED, size=num_cells)
    obs = pd.DataFrame(
        {
            "gene": pd.Categorical(names[np.where(random.random(num_cells) < CONTROL_SHARE, 0, treated)]),
            "batch": pd.Categorical(np.array(["one", "two"])[random.integers(2, size=num_cells)]),
        },
        index=[f"cell {number}" for number in range(num_cells)],
    )
    with h5py.File(file, "w") as root:
        root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(root, "obs", obs)
        write_elem(root, "var", pd.DataFrame(index=symbols))
        matrix = root.create_group("X")
        matrix.attrs.update(
            {"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": [num_cells, NUM_GENES]}
        )
        arrays = {
            name: matrix.create_dataset(name, shape=(0,), maxshape=(None,), dtype=kind, chunks=(1 << 18,))
            for name, kind in (("data", np.float32), ("indices", np.int32))
        }
        lengths = [np.zeros(1, dtype=np.int64)]
        for start in range(0, num_cells, BLOCK):
            size = min(BLOCK, num_cells - start)
            drawn = np.searchsorted(often, random.random(size * MOLECULES)).clip(max=NUM_GENES - 1)
            block = csr_matrix(
                (np.ones(len(drawn), np.float32), (np.repeat(np.arange(size), MOLECULES), drawn)), (size, NUM_GENES)
            )
            for name, array in arrays.items():
                array.resize((len(array) + block.nnz,))
                array[-block.nnz :] = getattr(block, name)
            lengths.append(np.diff(block.indptr))
        matrix["indptr"] = np.cumsum(np.concatenate(lengths))
    return symbols


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=200_000)
    parser.add_argument("--asked", type=int, default=10, help="genes whose knock-out is predicted")
    parser.add_argument("--name", default="now", help="of the result")
    parser.add_argument("--scratch", type=Path, default=Path("/tmp"), help="where the file is written")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
