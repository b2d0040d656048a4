"""Ask whether a damaged body, or a damaged file, crashes, hangs or confuses what reads it.

python benchmarks/serving_fuzz.py --bodies 10000 --files 1000

Bodies: Arrow streams of cells with bytes changed, cut out, doubled, cut off, or numbers in them replaced by large ones,
read in the process and under the limits that the service has for it. Counted are: refused in a sentence, read, and what
must not be: the reader's process ended, another error, more than --seconds.
Files: .h5ad with bytes changed or cut off, opened and read through as `xtrimogene embed --untrusted` does, each in the
same kind of process.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from embed import describe_machine
from scipy.sparse import csr_matrix

from xtrimogene.checkpoint import load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.demo import sample_cells
from xtrimogene.errors import XTrimoGeneError
from xtrimogene.serving.child import Child, ChildDied, ChildHung
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.reader import Unread, build_reader
from xtrimogene.serving.wire import ARROW, WireCells, write_cells

RESULTS = Path(__file__).parent / "results"
LARGE = [0x7F, 0x80, 0xFF]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=10_000)
    parser.add_argument("--files", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving_fuzz.json")
    options = parser.parse_args()
    cells = sample_cells()[:20].copy()
    body = write_cells(WireCells(counts=csr_matrix(cells.X), genes={"var_names": list(cells.var_names)}))
    small = write_cells(WireCells(counts=csr_matrix(cells.X)[:3, :40], genes={"var_names": list(cells.var_names[:40])}))
    report: dict[str, Any] = {"seed": options.seed, "machine": describe_machine()}
    random = np.random.default_rng(options.seed)
    reader: Child[Any, Any] = Child(
        build_reader, {"demo": load("demo").genes}, Limits(), name="reader", extra_memory=2 << 30
    )
    ask = partial(read_body, reader)
    report["bodies"] = tally(ask, [body, small, small], random, options.bodies, options.seconds)
    reader.close()
    with TemporaryDirectory() as place:
        path = Path(place) / "cells.h5ad"
        cells.write_h5ad(path, compression="gzip")
        opener: Child[Any, Any] = Child(build_opener, name="opener", extra_memory=2 << 30)
        ask = partial(read_file, opener, Path(place) / "damaged.h5ad")
        report["files"] = tally(ask, [path.read_bytes()], random, options.files, options.seconds)
        opener.close()
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))


def tally(
    ask: Callable[[bytes, float], str], whole: list[bytes], random: np.random.Generator, number: int, seconds: float
) -> dict[str, Any]:
    found: Counter[str] = Counter()
    longest, began = 0.0, time.perf_counter()
    for trial in range(number):
        damaged = damage(whole[trial % len(whole)], random)
        started = time.perf_counter()
        found[ask(damaged, seconds)] += 1
        longest = max(longest, time.perf_counter() - started)
    took = time.perf_counter() - began
    return {"number": number, **dict(found), "longest, s": round(longest, 2), "all, s": round(took)}


def damage(whole: bytes, random: np.random.Generator) -> bytes:
    out = bytearray(whole)
    for _ in range(int(random.integers(1, 5))):
        at = int(random.integers(0, len(out)))
        match int(random.integers(0, 6)):
            case 0:
                out[at] = int(random.integers(0, 256))
            case 1:
                out[at] ^= 1 << int(random.integers(0, 8))
            case 2:
                del out[at : at + int(random.integers(1, 64))]
            case 3:
                out[at:at] = out[at : at + int(random.integers(1, 64))]
            case 4:
                out[at : at + 8] = bytes([LARGE[int(random.integers(0, 3))]] * min(8, len(out) - at))
            case 5 if random.random() < 0.3:
                del out[at:]
        if not out:
            return bytes(out)
    return bytes(out)


def read_body(reader: Child[Any, Any], body: bytes, seconds: float) -> str:
    return outcome(lambda: reader.call(Unread(body=body, media_type=ARROW, model="demo", min_genes=1), seconds))


def read_file(opener: Child[Any, Any], path: Path, content: bytes, seconds: float) -> str:
    path.write_bytes(content)
    return outcome(lambda: opener.call(str(path), seconds))


def outcome(read: Callable[[], Any]) -> str:
    try:
        read()
    except XTrimoGeneError:
        return "refused"
    except ChildHung:
        return "hung"
    except ChildDied:
        return "process ended"
    return "read"


def build_opener() -> Callable[[str], int]:
    genes = GeneVocabulary.human()

    def read_all(path: str) -> int:
        with open_cells(path) as cells:
            counts = MatchedCounts.find(cells, genes)
            counts.require(min_genes=1, all_rows=True)
            return sum(block.shape[0] for _, block in counts.blocks()) + len(cells.obs)

    return read_all


if __name__ == "__main__":
    main()
