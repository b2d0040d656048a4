"""The memory and time of a screen of 1,000 edits x 500 cells, and whether one that was killed has the same numbers.

python benchmarks/in_silico_memory.py            # two minutes of CPU time

995 knock-outs and 5 over-expressions of genes drawn at random among those that any of 500 cells of a breast tumour
(Wu 2021, shallow: a few hundred genes a cell) expresses. The screen runs in a process of its own, with three workers,
is killed (SIGKILL) after its second part and after its fifth, and goes on each time. Peak memory is the kernel's own
(VmHWM), above a process that has loaded the model and read the cells. Three parts are then made anew, in this process,
and compared bit by bit with those of the screen that was killed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from memory import read_bytes
from studies import SHARED, write_result

from xtrimogene.checkpoint import load
from xtrimogene.inference import Inference
from xtrimogene.tasks.in_silico.edits import EditableCells, Level
from xtrimogene.tasks.in_silico.named import named_edits
from xtrimogene.tasks.in_silico.parts import PartsFolder
from xtrimogene.tasks.in_silico.screen import Reading, UneditedCells, cut, sum_part
from xtrimogene.tl.edited_cells import Choice, choose_cells

RESULT = Path(__file__).parent / "results" / "in_silico.json"
NUM_CELLS, NUM_OVER_EXPRESSED = 500, 5
OPTIONS: dict[str, Any] = {
    "devices": ["cpu"] * 3,
    "cells_per_group": NUM_CELLS,
    "num_random": 0,
    "min_cells": 1,
    "progress": False,
}
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
kept = read_cells(json.loads(Path(sys.argv[1]).read_text())["cells"])
print(open("/proc/self/status").read())
"""


def main() -> None:
    options = read_options()
    cells = str(SHARED / "data" / "wu2021_breast_CID4465.h5ad")
    with tempfile.TemporaryDirectory() as scratch:
        asked, out = Path(scratch) / "asked.json", Path(scratch) / "screen"
        names = draw_genes(cells, options.edits)
        over = names[:NUM_OVER_EXPRESSED]
        edits = {"knock_out": names[len(over) :], "over_express": over}
        asked.write_text(json.dumps({"cells": cells, **edits, **OPTIONS}))
        loaded = read_bytes(run(READ, asked, Path(__file__).parent), "VmRSS")
        started = time.perf_counter()
        killed = [run_until_parts(asked, out, parts) for parts in (2, 5)]
        peak = read_bytes(run(RUN, asked, out), "VmHWM")
        seconds = time.perf_counter() - started
        report = compare(cells, out, edits)
    dense = NUM_CELLS * len(load("demo").genes) * load("demo").config.encoder.dim * 4
    report |= {
        "edits": options.edits,
        "cells": NUM_CELLS,
        "workers": len(OPTIONS["devices"]),
        "killed_after_parts": killed,
        "seconds": seconds,
        "cells_per_second": report["changed_cells"] / seconds,
        "loaded_bytes": loaded,
        "peak_bytes": peak,
        "above_loaded_bytes": peak - loaded,
        "cells_x_genes_x_width_bytes": dense,
        "load_average": os.getloadavg()[2],
    }
    write_result(options.out, "screen", report)
    print(json.dumps(report, indent=1))


def read_cells(cells: str) -> Any:
    return choose_cells(cells, load("demo"), CHOICE, layer=None, input_kind="auto", min_genes=200)


def draw_genes(cells: str, number: int) -> list[str]:
    chosen, symbols = read_cells(cells), load("demo").genes.symbols
    expressed = np.flatnonzero(chosen.measured & (EditableCells(chosen.counts).num_expressing >= 1))
    return [symbols[gene] for gene in np.random.default_rng(0).permutation(expressed)[:number]]


def compare(cells: str, out: Path, asked: dict[str, list[str]]) -> dict[str, Any]:
    """Make three parts anew and count what differs from those in the folder."""
    model, chosen = load("demo"), read_cells(cells)
    inference, editable = Inference(model, device="cpu"), EditableCells(chosen.counts)
    known = {"measured": chosen.measured, "num_expressing": editable.num_expressing, "min_cells": 1}
    edits = [
        *named_edits("knock-out", asked["knock_out"], model.genes, **known),
        *named_edits("over-expression", asked["over_express"], model.genes, **known),
    ]
    reading = Reading(
        pool="latent", read_depth="f1", genes=np.zeros(0, dtype=np.int64), through="latent", measured=chosen.measured
    )
    unedited = UneditedCells(
        cells=editable,
        group=chosen.group,
        vectors=reading.vectors(inference, chosen.counts),
        predicted=reading.predicted(inference, chosen.counts),
        directions=np.zeros((1, inference.embedding_dim("latent"))),
    )
    parts, folder = cut(edits, editable), PartsFolder(out, json.loads((out / "screen.json").read_text()))
    compared = [1, 2, len(parts) - 1]
    different = 0
    for number in compared:
        made = sum_part(inference, unedited, [edits[edit] for edit in parts[number]], Level.parse("q0.95"), reading)
        kept = folder.read(number)
        different += sum(int((made[name] != kept[name]).sum()) for name in made)
    changed = sum(int(folder.read(number)["num_changed"].sum()) for number in range(len(parts)))
    return {"parts": len(parts), "compared": compared, "different_numbers": different, "changed_cells": changed}


def run_until_parts(asked: Path, out: Path, number: int) -> int:
    """Kill the screen as soon as so many parts are there, and say how many were."""
    with subprocess.Popen([sys.executable, "-c", RUN, asked, out], stdout=subprocess.DEVNULL) as process:
        while len(list(out.glob("part-*"))) < number:
            if process.poll() is not None:
                raise SystemExit(f"the screen ended with {process.returncode} before part {number}")
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
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
