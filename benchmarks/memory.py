"""How much memory does it take to embed a large file? Peak above a process that has only loaded the model.

python benchmarks/memory.py                  # 200,000 x 20,000, 8.9 % of it expressed: more than an hour on two cores
python benchmarks/memory.py --rows 20000     # a slice

The file (CSR, float32, 3 GB at full size) is written to a temporary folder, slice by slice, and embedded by the
command line in a process of its own. The peak is the kernel's own (VmHWM), so this runs on Linux only.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import sparse_dataset, write_elem
from scipy import sparse

from xtrimogene.data.gene_vocabulary import GeneVocabulary

RESULT = Path(__file__).parent / "results" / "memory.json"
NUM_COLUMNS = 20_000
DENSITY = 0.089
SLICE_ROWS = 5_000
TARGET = 2e9
LOAD = "import sys, xtrimogene as xt; xt.tl.embed; xt.load(sys.argv[1]); print(open('/proc/self/status').read())"
EMBED = "from xtrimogene.cli import main; main()"


def main() -> None:
    options = read_options()
    loaded = subprocess.run(
        [sys.executable, "-c", LOAD, options.model], check=True, capture_output=True, text=True
    ).stdout
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        cells, out = Path(folder) / "cells.h5ad", Path(folder) / "embedded.h5ad"
        write_cells(cells, options.rows)
        size = cells.stat().st_size
        command = [sys.executable, "-c", EMBED, "embed", str(cells), str(out), "--model", options.model]
        peak, seconds = watch(command)
    above = peak - read_bytes(loaded, "VmRSS")
    report = {
        "rows": options.rows,
        "columns": NUM_COLUMNS,
        "density": DENSITY,
        "file_bytes": size,
        "model": options.model,
        "peak_bytes": peak,
        "above_model_bytes": above,
        "target_bytes": TARGET,
        "cells_per_second": options.rows / seconds,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(
        f"{options.rows:,} cells, a file of {size / 1e9:.2f} GB: {above / 1e9:.2f} GB above the model "
        f"(target < {TARGET / 1e9:.0f} GB), {report['cells_per_second']:.1f} cells/s"
    )


def write_cells(path: Path, num_rows: int) -> None:
    """Rows are drawn from two thousand different cells: what is in them has no say in the memory."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.lognormal(np.log(DENSITY * NUM_COLUMNS) - 0.08, 0.4, 2_000), 300, 8_000).astype(int)
    columns = np.concatenate([np.sort(random.choice(NUM_COLUMNS, length, replace=False)) for length in lengths])
    values = random.geometric(0.4, len(columns)).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    pool = sparse.csr_matrix((values, columns.astype(np.int32), starts), shape=(2_000, NUM_COLUMNS))
    genes = list(GeneVocabulary.human().symbols[:NUM_COLUMNS])
    genes += [f"NOT-A-GENE-{i}" for i in range(NUM_COLUMNS - len(genes))]
    with h5py.File(path, "w") as file:
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
        write_elem(file, "obs", pd.DataFrame(index=[f"cell{i}" for i in range(num_rows)]))
        write_elem(file, "var", pd.DataFrame(index=genes))
        for start in range(0, num_rows, SLICE_ROWS):
            rows = pool[random.integers(2_000, size=min(SLICE_ROWS, num_rows - start))]
            if start == 0:
                write_elem(file, "X", rows)
            else:
                sparse_dataset(file["X"]).append(rows)


def watch(command: list[str]) -> tuple[int, float]:
    """Return the largest memory the command ever held, and its seconds.

    Asked while it runs: what the kernel says afterwards (ru_maxrss) counts this process too, as it was at the fork.
    """
    started, peak = time.perf_counter(), 0
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, read_bytes(status, "VmHWM")) if "VmHWM" in status else peak  # a zombie has none
            time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    return peak, time.perf_counter() - started


def read_bytes(status: str, name: str) -> int:
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{name}:"))


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
