"""Ask whether an atlas comes out the same when its workers are killed, and what Ray costs.

python benchmarks/atlas.py --part kills      --shards 40 --cells 100   # ten kills of each
python benchmarks/atlas.py --part overhead   # sixteen shards in a loop and on Ray
python benchmarks/atlas.py --part speed      # thinned sample cells through the 3M preset, extrapolated
python benchmarks/atlas.py --part million --shards 100 --cells 10000 --genes 50   # and a million synthetic ones

Shards are drawn from the sample cells, the molecules of each thinned anew. "The same" is by the sha256 of every output.
Synthetic cells express genes drawn at random. Core seconds are those of the whole command, so that other work on the
machine does not count. Of a hundred million cells the operations are counted and the hours follow from an assumed speed
of a GPU, which has not been measured; reading and writing come on top.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from embed import describe_machine
from processes import descendants, words
from pyarrow.parquet import read_table
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import PretrainedModel, save
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.read_depth import thin_counts
from xtrimogene.demo import sample_cells
from xtrimogene.model.flops import cell_embedding_flops
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.presets import model_config

RESULTS = Path(__file__).parent / "results"
GPU = 2e14  # about a fifth of what an H100 is said to do in bfloat16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--cells", type=int, default=200, help="of a shard")
    parser.add_argument("--shards", type=int, default=16)
    parser.add_argument("--genes", type=int, default=50, help="expressed by a synthetic cell")
    parser.add_argument("--out", type=Path, default=RESULTS / "atlas.json")
    options = parser.parse_args()
    with TemporaryDirectory() as place:
        found = PARTS[options.part](Path(place), options)
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    report[options.part] = {**found, "machine": describe_machine()}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def write_shards(place: Path, number: int, num_cells: int) -> list[Path]:
    cells, random = sample_cells(), np.random.default_rng(0)
    paths = []
    for shard in range(number):
        rows = random.integers(0, cells.n_obs, num_cells)
        counts = thin_counts(csr_matrix(cells.X[rows]), 0.8, random)
        paths.append(place / f"shard{shard:04d}.h5ad")
        obs = cells.obs.iloc[rows].copy()
        obs.index = [f"{shard}-{row}" for row in range(num_cells)]
        AnnData(counts, obs=obs, var=cells.var).write_h5ad(paths[-1])
    return paths


def embed(shards: list[Path], out: Path, *options: str) -> subprocess.Popen[bytes]:
    program = Path(sys.executable).parent / "xtrimogene"
    command = [program, "atlas", "embed", *map(str, shards), str(out), *options]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def digests(folder: Path) -> dict[str, str]:
    return {path.stem: json.loads(path.read_text())["sha256"] for path in folder.glob("shard*.json")}


def is_actor(pid: int) -> bool:
    """Say whether Ray calls this process after our worker."""
    return any(word.startswith("ray::_Worker") for word in words(Path(f"/proc/{pid}/cmdline")))


def wait_for_a_shard(process: subprocess.Popen[bytes], out: Path) -> None:
    """Wait until one more is done, so that a kill falls into the work."""
    before = len(digests(out))
    while process.poll() is None and len(digests(out)) == before:
        time.sleep(0.05)


def kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def kills(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    shards, random = write_shards(place, options.shards, options.cells), np.random.default_rng(0)
    assert embed(shards, place / "whole").wait() == 0
    whole = digests(place / "whole")
    found: dict[str, Any] = {"shards": options.shards, "cells of a shard": options.cells}
    for name, extra in (("loop", ()), ("ray", ("--ray", "2"))):
        out, killed, done = place / name, {"driver": 0, "worker": 0}, []
        while sum(killed.values()) < 10:
            process = embed(shards, out, *extra)
            wait_for_a_shard(process, out)
            time.sleep(random.uniform(0, 3))
            actors = [one for one in descendants(process.pid) if is_actor(one)]
            if actors and random.random() < 0.5:
                killed["worker"] += kill(int(random.choice(actors)))
                time.sleep(random.uniform(1, 4))
            started = descendants(process.pid)  # which outlive it
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                killed["driver"] += 1
            process.wait()
            for one in started:
                kill(one)
            done.append(len(digests(out)))
        assert embed(shards, out, *extra).wait() == 0
        again = subprocess.run(
            [Path(sys.executable).parent / "xtrimogene", "atlas", "embed", *map(str, shards), str(out), *extra],
            capture_output=True,
            text=True,
            check=True,
        )
        found[name] = {
            "kills": killed,
            "shards done after each start": done,
            "identical": digests(out) == whole,
            "temporary files left": len(list(out.glob(".*"))),
            "a rerun": again.stdout.splitlines()[0],
        }
    return found


def overhead(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    shards = write_shards(place, options.shards, options.cells)
    seconds = {}
    for name, extra in (("loop", ()), ("ray, 1 actor", ("--ray", "1")), ("ray, 2 actors", ("--ray", "2"))):
        began = time.perf_counter()
        assert embed(shards, place / name.replace(" ", "-"), *extra).wait() == 0
        seconds[name] = round(time.perf_counter() - began, 1)
    return {"shards": options.shards, "cells of a shard": options.cells, "seconds": seconds}


def speed(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    expressed = int(np.diff(csr_matrix(sample_cells().X).indptr).mean())
    return embed_with_3m(place, write_shards(place, options.shards, options.cells), options.cells, expressed)


def million(place: Path, options: argparse.Namespace) -> dict[str, Any]:
    symbols = GeneVocabulary.human().symbols
    var, random = pd.DataFrame(index=list(symbols)), np.random.default_rng(0)
    shards = []
    for shard in range(options.shards):
        indices = random.integers(0, len(symbols), options.cells * options.genes)
        indptr = options.genes * np.arange(options.cells + 1)
        counts = random.geometric(0.5, len(indices)).astype(np.float32)
        matrix = csr_matrix((counts, indices, indptr), shape=(options.cells, len(symbols)))
        matrix.sum_duplicates()
        obs = pd.DataFrame(index=[f"{shard}-{row}" for row in range(options.cells)])
        shards.append(place / f"shard{shard:04d}.h5ad")
        AnnData(matrix, obs=obs, var=var).write_h5ad(shards[-1])
    return embed_with_3m(place, shards, options.cells, options.genes)


def embed_with_3m(place: Path, shards: list[Path], num_cells: int, expressed: int) -> dict[str, Any]:
    """Embed shards in a loop, each cell with about so many genes; say what 100M cells of 1,000 genes would take."""
    genes = GeneVocabulary.human()
    network = XTrimoGene(model_config("3M", len(genes))).eval()
    save(PretrainedModel(network, genes, {"name": "3M, random weights"}), place / "model")
    before, began = getrusage(RUSAGE_CHILDREN), time.perf_counter()
    assert embed(shards, place / "out", "--model", str(place / "model")).wait() == 0
    seconds, used = time.perf_counter() - began, getrusage(RUSAGE_CHILDREN)
    core_seconds = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    number = len(shards) * num_cells
    rows = sum(json.loads(path.read_text())["cells"] for path in (place / "out").glob("shard*.json"))
    names = {name for path in (place / "out").glob("*.parquet") for name in read_table(path)["cell"].to_pylist()}
    rate = number * cell_embedding_flops(network.config, expressed) / core_seconds
    total = 1e8 * cell_embedding_flops(network.config, 1000)
    return {
        "cells": number,
        "expressed genes of a cell": expressed,
        "shards": len(shards),
        "rows written": rows,
        "different cells among them": len(names),
        "seconds": round(seconds, 1),
        "core seconds": round(core_seconds, 1),
        "cells a core second": round(number / core_seconds, 1),
        "operations a core second": round(rate),
        "peak memory, MiB": round(used.ru_maxrss / 1024),
        "output, bytes a cell": round(sum(path.stat().st_size for path in (place / "out").glob("*.parquet")) / number),
        "100M cells of 1,000 genes": {
            "operations": total,
            "core hours at the operations a second measured here": round(total / rate / 3600),
            "assumed operations a second of a GPU": GPU,
            "hours on 8 of them": round(total / (8 * GPU) / 3600, 2),
        },
    }


PARTS: dict[str, Callable[[Path, argparse.Namespace], dict[str, Any]]] = {
    "kills": kills,
    "overhead": overhead,
    "speed": speed,
    "million": million,
}

if __name__ == "__main__":
    main()
