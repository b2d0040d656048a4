"""The memory and time of a sweep of 1,000 edits x 500 cells, and whether one that was killed has the same numbers.

python benchmarks/in_silico_memory.py --edits 60 --name screen_demo   # the demo model, minutes of one core
python benchmarks/in_silico_memory.py --small                         # 1,000 edits, an encoder of 1 x 32

Knock-outs, and over-expressions as 5 in 1,000, of genes drawn at random among those that any of 500 cells expresses.
The sweep runs in a process of its own, is killed (SIGKILL) after its second part and once more, and goes on each time.
Peak memory is the kernel's own (VmHWM), above a process that has loaded the model and read the cells. Three parts are
then made anew, in this process, and compared bit by bit with those of the sweep that was killed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from memory import read_bytes
from studies import SHARED, write_result

from xtrimogene.checkpoint import PretrainedModel, load, save
from xtrimogene.config import EncoderConfig
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.in_silico.edits import EditableCells, Level
from xtrimogene.tasks.in_silico.named import named_edits
from xtrimogene.tasks.in_silico.sweep import Reading, UneditedCells, cut, sum_part
from xtrimogene.tasks.in_silico.sweep_folder import SweepFolder
from xtrimogene.tl.edited_cells import Choice, ChosenCells, choose_cells

RESULT = Path(__file__).parent / "results" / "in_silico.json"
NUM_CELLS = 500
OPTIONS: dict[str, Any] = {"cells_per_group": NUM_CELLS, "num_random": 0, "min_cells": 1, "progress": False}
CHOICE = Choice(group_key=None, state_key=None, start=None, toward=None, cells_per_group=NUM_CELLS, seed=0)
RUN = """
import json, sys
from pathlib import Path
from xtrimogene.tl.in_silico import in_silico
asked = json.loads(Path(sys.argv[1]).read_text())
in_silico(asked.pop("cells"), out=sys.argv[2], **asked)
print(open("/proc/self/status").read())
"""
READ = """
import json, sys
from pathlib import Path
import xtrimogene.tl.in_silico
sys.path.insert(0, sys.argv[2])
from in_silico_memory import read_cells
asked = json.loads(Path(sys.argv[1]).read_text())
kept = read_cells(asked["cells"], asked["model"])
print(open("/proc/self/status").read())
"""


def main() -> None:
    options = read_options()
    cells = str(SHARED / "data" / f"{options.cells}.h5ad")
    with tempfile.TemporaryDirectory() as scratch:
        model = str(save_small(Path(scratch) / "small")) if options.small else "demo"
        asked, out = Path(scratch) / "asked.json", Path(scratch) / "sweep"
        names = draw_genes(cells, model, options.edits)
        over = names[: max(1, round(options.edits / 200))]
        edits = {"knock_out": names[len(over) :], "over_express": over}
        asked.write_text(json.dumps({"cells": cells, "model": model, **edits, **OPTIONS}))
        loaded = read_bytes(run(READ, asked, Path(__file__).parent), "VmRSS")
        started = time.perf_counter()
        killed = [run_until_parts(asked, out, parts) for parts in (2, 3)]
        peak = read_bytes(run(RUN, asked, out), "VmHWM")
        seconds = time.perf_counter() - started
        report = compare(cells, model, out, edits)
        config = load(model).config
    report |= {
        "data": options.cells,
        "edits": options.edits,
        "cells": NUM_CELLS,
        "encoder": f"{config.encoder.num_layers} x {config.encoder.dim}",
        "killed_after_parts": killed,
        "seconds": seconds,
        "cells_per_second": report["changed_cells"] / seconds,
        "loaded_bytes": loaded,
        "peak_bytes": peak,
        "above_loaded_bytes": peak - loaded,
        "cells_x_genes_x_width_bytes": NUM_CELLS * config.num_genes * config.encoder.dim * 4,
        "load_average": os.getloadavg()[2],
    }
    write_result(options.out, options.name, report)
    print(json.dumps(report, indent=1))


def save_small(folder: Path) -> Path:
    """Write a model of the demo's genes with random weights, quick to read cells with."""
    demo = load("demo")
    encoder = EncoderConfig(dim=32, num_layers=1, num_heads=1)
    config = replace(demo.config, encoder=encoder)
    return save(PretrainedModel(XTrimoGene(config).eval(), demo.genes, {"name": "small"}), folder)


def read_cells(cells: str, model: str) -> ChosenCells:
    return choose_cells(cells, load(model), CHOICE, layer=None, input_kind="auto", min_genes=200)


def draw_genes(cells: str, model: str, number: int) -> list[str]:
    chosen, symbols = read_cells(cells, model), load(model).genes.symbols
    expressed = np.flatnonzero(chosen.measured & (EditableCells(chosen.counts).num_expressing >= 1))
    return [symbols[gene] for gene in np.random.default_rng(0).permutation(expressed)[:number]]


def compare(cells: str, model: str, out: Path, asked: dict[str, list[str]]) -> dict[str, Any]:
    """Make three parts anew and count what differs from those in the folder."""
    loaded, chosen = load(model), read_cells(cells, model)
    inference, editable = Inference(loaded, device="cpu"), EditableCells(chosen.counts)
    known = {"measured": chosen.measured, "num_expressing": editable.num_expressing, "min_cells": 1}
    edits = [
        *named_edits("knock-out", asked["knock_out"], loaded.genes, **known),
        *named_edits("over-expression", asked["over_express"], loaded.genes, **known),
    ]
    reading = Reading(
        pool=loaded.config.pool,
        read_depth=loaded.config.read_depth,
        genes=np.zeros(0, dtype=np.int64),
        through="latent",
        measured=chosen.measured,
    )
    unedited = UneditedCells(
        cells=editable,
        group=chosen.group,
        vectors=reading.vectors(inference, chosen.counts),
        predicted=reading.predicted(inference, chosen.counts),
        directions=np.zeros((1, inference.embedding_dim(loaded.config.pool))),
    )
    parts, folder = cut(edits, editable), SweepFolder(out, json.loads((out / "screen.json").read_text()))
    compared = sorted({1, 2, len(parts) - 1})
    different = 0
    for number in compared:
        made = sum_part(inference, unedited, [edits[edit] for edit in parts[number]], Level.parse("q0.95"), reading)
        kept = folder.read(number)
        different += sum(int((made[name] != kept[name]).sum()) for name in made)
    changed = sum(int(folder.read(number)["num_changed"].sum()) for number in range(len(parts)))
    return {"parts": len(parts), "compared": compared, "different_numbers": different, "changed_cells": changed}


def run_until_parts(asked: Path, out: Path, number: int) -> int:
    """Kill the sweep as soon as so many parts are there, and say how many were."""
    with subprocess.Popen([sys.executable, "-c", RUN, asked, out], stdout=subprocess.DEVNULL) as process:
        while len(list(out.glob("part-*"))) < number:
            if process.poll() is not None:
                raise SystemExit(f"the sweep ended with {process.returncode} before part {number}")
            time.sleep(0.2)
        process.send_signal(signal.SIGKILL)
    return len(list(out.glob("part-*")))


def run(code: str, *arguments: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return done.stdout


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--cells", default="pbmc3k", help="a data set of ../shared/data")
    parser.add_argument("--small", action="store_true", help="a small encoder with random weights")
    parser.add_argument("--name", default="screen", help="of the result")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
