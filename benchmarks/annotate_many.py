"""What does it take to annotate 100,000 cells from a file? Seconds, and the most memory that the process held.

python benchmarks/annotate_many.py --out benchmarks/results/annotate_many.json

The bundled cells of eight lanes are the reference; those of the five others are repeated until they are as many as
asked for, in an .h5ad. The annotator is fitted once (`xt.tl.fit_annotator`); then `xtrimogene annotate` runs as a
process of its own with one thread, on a tenth of the cells and on all, so that what grows with them can be seen.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import anndata
import numpy as np
from embed import describe_machine

import xtrimogene as xt
from xtrimogene.demo import HELD_OUT_LANES, sample_cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=100_000)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    cells = sample_cells()
    held_out = cells.obs["lane"].isin(HELD_OUT_LANES).to_numpy()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        annotator = xt.tl.fit_annotator(
            cells[~held_out].copy(), folder / "annotator", label_key="cell_type", group_key="lane", progress=False
        )
        for number in (options.cells // 10, options.cells):
            rows = np.resize(np.flatnonzero(held_out), number)
            query = anndata.AnnData(cells.X[rows], var=cells.var)
            query.write_h5ad(folder / "query.h5ad")
            del query
            results.append({"cells": number} | annotate(folder, annotator))
            print(results[-1], flush=True)
    if options.out is not None:
        report = {"machine": describe_machine() | {"threads": 1}, "runs": results}
        options.out.write_text(json.dumps(report, indent=1) + "\n")


def annotate(folder: Path, annotator: Path) -> dict[str, float]:
    """Run the command; its memory is that of the largest child so far, so smaller runs come first."""
    command = [sys.executable, "-W", "ignore", "-c", "from xtrimogene.cli import main; main()", "annotate"]
    command += [str(folder / "query.h5ad"), str(folder / "out.h5ad"), "--annotator", str(annotator), "--overwrite"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "core_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_gigabytes": round(after.ru_maxrss * 1024 / 1e9, 3),
        "file_gigabytes": round((folder / "query.h5ad").stat().st_size / 1e9, 3),
    }


if __name__ == "__main__":
    main()
