"""How fast is a cell store read in blocks of rows drawn at random?  Cells per CPU-second, one thread.

python benchmarks/store_read.py                                  # 40,000 cells x 20,000 genes, 8.9 % of it expressed
python benchmarks/store_read.py --annbatch ENV/bin/python        # beside annbatch's own loader, which needs 3.12

The store is built from four files written to a temporary folder. Beside it: the same blocks through zarr without zarrs,
from an uncompressed .h5ad, and what reading the bytes of the store costs without decoding them.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
import zarr
from annbatch_loader import annbatch_rate
from anndata import AnnData
from scipy import sparse

from xtrimogene.config import StoreConfig
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.data.store_builder import build_store
from xtrimogene.data.store_reader import StoreReader

RESULT = Path(__file__).parent / "results" / "store_read.json"
NUM_COLUMNS = 20_000
DENSITY = 0.089
NUM_FILES = 4
REPEATS = 3
TARGET = 40_000


def main() -> None:
    options = read_options()
    os.environ["RAYON_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    zarr.config.set({"threading.max_workers": 1})
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        files = [write_cells(Path(folder) / f"cells{n}.h5ad", options.rows // NUM_FILES, n) for n in range(NUM_FILES)]
        path = Path(folder) / "store.zarr"
        start = time.process_time()
        build_store(StoreConfig(files=tuple(files), output=str(path)), progress=False)
        built = options.rows / (time.process_time() - start)
        report = {
            "rows": options.rows,
            "columns": NUM_COLUMNS,
            "density": DENSITY,
            "target_cells_per_cpu_second": TARGET,
            "build_cells_per_cpu_second": built,
            "bytes_per_cell": size(path) / options.rows,
            "h5ad_bytes_per_cell": sum(Path(file).stat().st_size for file in files) / options.rows,
            "read_cells_per_cpu_second": measure(path, files[0], options),
            "versions": {name: version_of(name) for name in ("zarr", "zarrs", "numcodecs", "anndata", "h5py")},
        }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def measure(path: Path, file: str, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Cells per CPU-second of each way to read, by the number of rows in a block; ways take turns."""
    found: dict[str, dict[str, float]] = {}
    for rows in (256, 1024):
        ways: dict[str, Callable[[], float]] = {"bytes only": partial(read_bytes, path)}
        with patch.dict(sys.modules, {"zarrs": None}):
            ways["store, zarr"] = reading(StoreReader(path).read, options.rows, rows)
        if version_of("zarrs"):
            ways["store, zarr + zarrs"] = reading(StoreReader(path).read, options.rows, rows)
        ways["store, packed batches"] = reading(partial(read_packed, StoreReader(path)), options.rows, rows)
        with open_cells(file) as cells:
            matched = MatchedCounts.find(cells, GeneVocabulary.human())
            ways["h5ad, uncompressed"] = reading(partial(read_matched, matched), cells.num_cells, rows)
            best = dict.fromkeys(ways, 0.0)
            for _ in range(REPEATS):
                for name, way in ways.items():
                    best[name] = max(best[name], way())
        if options.annbatch:
            best["annbatch's loader"] = annbatch_rate(options.annbatch, path, rows, rows)
        found[f"{rows} rows"] = best
    return found


def reading(read: Callable[[int, int], sparse.csr_matrix], num_cells: int, rows: int) -> Callable[[], float]:
    starts = np.random.default_rng(0).permutation(num_cells // rows) * rows

    def once() -> float:
        begin = time.process_time()
        cells = sum(read(int(start), int(start) + rows).shape[0] for start in starts)
        return cells / (time.process_time() - begin)

    return once


def read_packed(store: StoreReader, start: int, stop: int) -> sparse.csr_matrix:
    """As training does, up to the tensors of a batch."""
    block = store.read(start, stop)
    pack_cells(block, measured=store.measured, panel=store.panel[start:stop])
    return block


def read_matched(matched: MatchedCounts, start: int, stop: int) -> sparse.csr_matrix:
    return matched.match.apply(matched.cells.block("X", start, stop))


def read_bytes(path: Path) -> float:
    """Ten times, as once is over too soon for the clock."""
    num_cells = StoreReader(path).num_cells
    shards = [file for part in ("data", "indices") for file in path.glob(f"dataset_*/X/{part}/c/*")] * 10
    begin = time.process_time()
    for shard in shards:
        shard.read_bytes()
    return 10 * num_cells / (time.process_time() - begin)


def write_cells(path: Path, num_rows: int, seed: int) -> str:
    """Genes differ in how often they are expressed, as real ones do; counts are geometric with a few large ones."""
    random = np.random.default_rng(seed)
    weight = np.log(np.random.default_rng(0).gamma(0.3, 1.0, NUM_COLUMNS) + 1e-9).astype(np.float32)
    lengths = np.clip(random.lognormal(np.log(DENSITY * NUM_COLUMNS) - 0.08, 0.4, num_rows), 300, 8_000).astype(int)
    genes = []
    for length in lengths:
        score = weight - np.log(random.standard_exponential(NUM_COLUMNS))  # Gumbel top-k
        genes.append(np.sort(np.argpartition(-score, length)[:length]).astype(np.int32))
    columns = np.concatenate(genes)
    values = random.geometric(0.4, len(columns)).astype(np.float32)
    values[random.random(len(values)) < 1e-3] *= 100
    counts = sparse.csr_matrix((values, columns, np.concatenate([[0], lengths.cumsum()])), (num_rows, NUM_COLUMNS))
    var = pd.DataFrame(index=list(GeneVocabulary.human().symbols[:NUM_COLUMNS]))
    AnnData(counts, obs=pd.DataFrame(index=[f"cell{row}" for row in range(num_rows)]), var=var).write_h5ad(path)
    return str(path)


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def version_of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--annbatch", help="a Python that has annbatch and zarrs")
    parser.add_argument("--folder", help="where the temporary files go")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
