"""How fast, how exact and how large is cell search? A million synthetic vectors, searched beside all compared.

python benchmarks/search.py                     # a million in float16: a quarter of an hour on two cores
python benchmarks/search.py --precision int8 --out /tmp/int8.json
python benchmarks/search.py --kind unstructured --vectors 100000 --out /tmp/unstructured.json

"cells" are drawn around the cell types of the wheel's sample cells, placed as `xt.tl.search` places them (demo model
and axes of expression, 178 numbers), with each type's own covariance and a twentieth of isotropic noise.
"unstructured" are of a normal distribution with no structure at all, where every neighbour is about as far as any
other: the hardest there is, and what no embedding looks like.
recall@10: of the 10 nearest of all in float32, how many are found. One query at a time; memory is of processes of their
own: what the kernel counts after a thousand queries ("resident", with the pages of the index that were touched).
"""

import argparse
import json
import tempfile
import time
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from embed import describe_machine
from memory import read_bytes
from rich.console import Console
from rich.table import Table

from xtrimogene.checkpoint import load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.demo import sample_cells
from xtrimogene.inference import Inference
from xtrimogene.tasks.cell_search.cell_space import CellSpace, unit
from xtrimogene.tasks.cell_search.vector_index import VectorIndex
from xtrimogene.tasks.expression_space import ExpressionSpace

RESULT = Path(__file__).parent / "results" / "search.json"
SHARES = (1.0, 0.1, 0.01)  # of the vectors, that a filter allows
K = 10
TARGET = 0.98
BLOCK = 65_536


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        vectors, queries = draw(options)
        np.save(place / "vectors.npy", vectors)
        np.save(place / "queries.npy", queries)
        report: dict[str, object] = {"kind": options.kind, "vectors": len(vectors), "numbers": vectors.shape[1]}
        report |= {"precision": options.precision, "target": TARGET}
        true = {share: nearest(vectors, queries, allowed(len(vectors), share)) for share in SHARES}
        del vectors
        report |= {"build": alone(build, place, options.precision)}
        report |= {"bytes_a_vector": (place / "index").stat().st_size / options.vectors}
        report |= {"searches": [alone(search, place, share, true[share]) for share in SHARES]}
    report["machine"] = describe_machine()
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    show(report)


def draw(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors to index and, of the same kind, queries."""
    random, number = np.random.default_rng(0), options.vectors + options.queries
    if options.kind == "unstructured":
        drawn = random.normal(size=(number, 128)).astype(np.float32)
        return drawn[options.queries :], drawn[: options.queries]
    with open_cells(sample_cells()) as cells:
        counts, types = MatchedCounts.find(cells, load("demo").genes).all(), cells.obs["cell_type"].to_numpy(dtype=str)
    expression = ExpressionSpace.fit(counts, np.ones(counts.shape[1], dtype=bool))
    axes = expression.place(counts, np.ones(counts.shape[1], dtype=bool))
    rows = np.hstack([Inference(load("demo"), device="cpu").cell_embeddings(counts), axes])
    embedded = CellSpace(center=rows.mean(axis=0), expression=expression).directions(rows)
    noise = 0.05 * embedded.std(axis=0).mean()
    type_of = random.choice(types, number)
    drawn = noise * random.normal(size=(number, embedded.shape[1])).astype(np.float32)
    for name in np.unique(types):
        own, rows = embedded[types == name], np.flatnonzero(type_of == name)
        mixed = random.normal(size=(len(rows), len(own))) / np.sqrt(len(own) - 1)
        drawn[rows] += own.mean(axis=0) + mixed.astype(np.float32) @ (own - own.mean(axis=0))
    return drawn[options.queries :], drawn[: options.queries]


def allowed(number: int, share: float) -> np.ndarray:
    return np.random.default_rng(1).random(number) < share


def nearest(vectors: np.ndarray, queries: np.ndarray, may: np.ndarray) -> np.ndarray:
    """Return the rows of the K nearest by cosine, all compared in float32."""
    rows = np.flatnonzero(may)
    best_rows, best = np.zeros((len(queries), 0), dtype=np.int64), np.zeros((len(queries), 0), dtype=np.float32)
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        best_rows = np.concatenate([best_rows, np.broadcast_to(block, (len(queries), len(block)))], axis=1)
        best = np.concatenate([best, unit(queries) @ unit(vectors[block]).T], axis=1)
        top = np.argpartition(-best, K - 1, axis=1)[:, :K]
        best_rows, best = np.take_along_axis(best_rows, top, axis=1), np.take_along_axis(best, top, axis=1)
    return best_rows


def build(place: Path, precision: str) -> dict[str, float]:
    vectors = np.load(place / "vectors.npy", mmap_mode="r")
    index = VectorIndex.empty(vectors.shape[1], precision)
    began = time.perf_counter()
    for start in range(0, len(vectors), BLOCK):
        index.add(np.array(vectors[start : start + BLOCK]))
    seconds = time.perf_counter() - began
    index.save(place / "index")
    return {"seconds": seconds, "peak_bytes_a_vector": status("VmHWM") / len(vectors)}


def search(place: Path, share: float, true: np.ndarray) -> dict[str, float]:
    before = status("VmRSS")
    queries = np.load(place / "queries.npy")
    index = VectorIndex.open(place / "index", queries.shape[1])
    may = allowed(len(index), share)
    rows = {}
    milliseconds = {}
    for exact in (False, True):
        some = queries[:50] if exact else queries
        began = time.perf_counter()
        rows[exact] = [
            index.search(one[None], K, allowed=may if share < 1 else None, exact=exact).rows[0] for one in some
        ]
        milliseconds[exact] = 1000 * (time.perf_counter() - began) / len(some)
        resident = status("VmRSS") - before if not exact else resident
    began = time.perf_counter()
    index.search(queries, K, allowed=may if share < 1 else None, exact=True)
    at_once = 1000 * (time.perf_counter() - began) / len(queries)
    return {
        "share_allowed": share,
        "recall": recall(rows[False], true),
        "milliseconds": milliseconds[False],
        "resident_gib": resident / 2**30,
        "exact_recall": recall(rows[True], true),
        "exact_milliseconds": milliseconds[True],
        "exact_milliseconds_at_once": at_once,
    }


def recall(rows: list[np.ndarray], true: np.ndarray) -> float:
    return float(np.mean([len(np.intersect1d(*both)) / K for both in zip(rows, true, strict=False)]))


def alone(function, *arguments):
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(partial(function, *arguments))


def status(name: str) -> int:
    return read_bytes(Path("/proc/self/status").read_text(), name)


def show(report) -> None:
    title = f"{report['vectors']:,} vectors of {report['numbers']}, {report['kind']}, {report['precision']}"
    table = Table(
        "allowed", "recall@10", "ms a query", "resident", "exact: recall", "ms", "ms, 1,000 at once", title=title
    )
    for row in report["searches"]:
        table.add_row(
            f"{row['share_allowed']:.0%}",
            f"{row['recall']:.4f}",
            f"{row['milliseconds']:.2f}",
            f"{row['resident_gib']:.2f} GiB",
            f"{row['exact_recall']:.4f}",
            f"{row['exact_milliseconds']:.1f}",
            f"{row['exact_milliseconds_at_once']:.1f}",
        )
    Console().print(table)
    made = report["build"]
    print(f"Built in {made['seconds']:.0f} s; {report['bytes_a_vector']:.0f} bytes a vector on disk, ", end="")
    print(f"{made['peak_bytes_a_vector']:.0f} in memory at most while it is built. Target: recall >= {TARGET}.")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("cells", "unstructured"), default="cells")
    parser.add_argument("--precision", choices=("float16", "float32", "int8"), default="float16")
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
