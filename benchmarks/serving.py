"""Ask whether the service loses, mixes or falsifies answers, and what it costs beside reading cells here.

python benchmarks/serving.py --part clients       # 128 clients for a minute, each answer compared with offline
python benchmarks/serving.py --part throughput    # large requests, Arrow and JSON, beside offline
python benchmarks/serving.py --part overload      # four times what it can do, until its queue is full
python benchmarks/serving.py --part disconnects   # 100 clients that leave
python benchmarks/serving.py --part kill          # the model's process is killed under load

Each part starts a service of the demo model of its own and adds its figures to --out. Service, clients and model share
this machine's cores, so the clients' own work is in every figure. Memory is that of all processes of the service.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from embed import describe_machine
from processes import descendants, resident
from scipy.sparse import csr_matrix

import xtrimogene as xt
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.demo import sample_cells
from xtrimogene.inference import Inference
from xtrimogene.serving.json_cells import JSON
from xtrimogene.serving.wire import ARROW, ModelGenes, WireCells, read_answer, write_cells

RESULTS = Path(__file__).parent / "results"
PORT = 8765
URL = f"http://127.0.0.1:{PORT}"
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Cells:
    """The sample cells over the model's genes, and their vectors as they are offline."""

    counts: csr_matrix
    vectors: np.ndarray
    genes: ModelGenes

    def body(self, rows: np.ndarray) -> bytes:
        return write_cells(WireCells(counts=self.counts[rows], genes=self.genes))

    def bodies(self, most: int) -> list[tuple[np.ndarray, bytes]]:
        """Return 256 choices of up to so many cells, written: clients are to ask, not to write."""
        random = np.random.default_rng(0)
        rows = [random.integers(0, self.counts.shape[0], random.integers(1, most + 1)) for _ in range(256)]
        return [(one, self.body(one)) for one in rows]


@dataclass(frozen=True)
class Service:
    process: subprocess.Popen[bytes]

    def memory(self) -> float:
        """MiB that all of its processes have in memory, shared pages once in each."""
        return sum(resident(pid) for pid in (self.process.pid, *descendants(self.process.pid))) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=128)
    parser.add_argument("--out", type=Path, default=RESULTS / "serving.json")
    options = parser.parse_args()
    cells = read_sample()
    found = PARTS[options.part](cells, options)
    report = json.loads(options.out.read_text()) if options.out.exists() else {}
    report[options.part] = {**found, "machine": describe_machine()}
    options.out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def read_sample() -> Cells:
    model = xt.load("demo")
    with open_cells(sample_cells()) as opened:
        matched = MatchedCounts.find(opened, model.genes)
        counts = matched.all()
        measured = matched.match.measured
    return Cells(
        counts, Inference(model).cell_embeddings(counts), ModelGenes(sha256=model.genes.sha256, measured=measured)
    )


@contextmanager
def running(*arguments: str) -> Iterator[Service]:
    command = [Path(sys.executable).parent / "xtrimogene", "serve", "demo", "--port", str(PORT), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_until_ready(120)
        yield Service(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def wait_until_ready(seconds: float) -> float:
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        try:
            if httpx.get(f"{URL}/health/ready").status_code == 200:
                return time.perf_counter() - began
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"the service was not ready within {seconds} s")


@dataclass
class Tally:
    """What clients were answered."""

    statuses: Counter[str]
    seconds: list[float]
    num_cells: int = 0
    num_wrong: int = 0
    largest_difference: float = 0.0

    def summary(self, took: float) -> dict[str, Any]:
        times = np.array(self.seconds) * 1000
        return {
            "statuses": dict(self.statuses),
            "wrong answers": self.num_wrong,
            "largest difference": self.largest_difference,
            "requests a second": round(len(times) / took, 1),
            "cells a second": round(self.num_cells / took, 1),
            "ms p50": round(float(np.percentile(times, 50)), 1),
            "ms p99": round(float(np.percentile(times, 99)), 1),
        }


async def one_client(
    http: httpx.AsyncClient,
    cells: Cells,
    bodies: list[tuple[np.ndarray, bytes]],
    tally: Tally,
    until: float,
    seed: int,
    retry: bool,
) -> None:
    """Ask for random ones of these again and again and compare each answer."""
    random = np.random.default_rng(seed)
    while time.perf_counter() < until:
        rows, body = bodies[int(random.integers(len(bodies)))]
        began = time.perf_counter()
        while True:
            try:
                response = await http.post("/v1/embed", content=body, headers={"Content-Type": ARROW})
            except httpx.TransportError as error:
                tally.statuses[type(error).__name__] += 1
                break
            tally.statuses[str(response.status_code)] += 1
            if response.status_code == 200:
                found = read_answer(response.content).columns["vector"]
                difference = float(np.abs(found - cells.vectors[rows]).max()) if len(found) == len(rows) else np.inf
                tally.largest_difference = max(tally.largest_difference, difference)
                tally.num_wrong += difference > TOLERANCE
                tally.num_cells += len(rows)
                tally.seconds.append(time.perf_counter() - began)
                break
            if not retry:
                break
            await asyncio.sleep(min(0.2, float(response.headers.get("retry-after", "0.2"))))


async def many_clients(cells: Cells, number: int, seconds: float, most: int, retry: bool = True) -> dict[str, Any]:
    bodies = cells.bodies(most)
    tally, began = Tally(Counter(), []), time.perf_counter()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=URL, timeout=120, limits=limits) as http:
        clients = (one_client(http, cells, bodies, tally, began + seconds, seed, retry) for seed in range(number))
        await asyncio.gather(*clients)
    return tally.summary(time.perf_counter() - began)


def clients(cells: Cells, options: argparse.Namespace) -> dict[str, Any]:
    with running() as service:
        before = service.memory()
        found = asyncio.run(many_clients(cells, options.clients, options.seconds, 8))
        return {"clients": options.clients, **found, "MiB before": round(before), "MiB after": round(service.memory())}


def overload(cells: Cells, options: argparse.Namespace) -> dict[str, Any]:
    """Clients that never wait ask for large requests, so that far more comes than can be done."""
    with running() as service:
        asyncio.run(many_clients(cells, 16, 10, 200, retry=False))
        memory, began, statuses = [service.memory()], time.perf_counter(), Counter[str]()

        async def press() -> dict[str, Any]:
            task = asyncio.create_task(many_clients(cells, 4 * options.clients, options.seconds, 200, retry=False))
            while not task.done():
                await asyncio.sleep(2)
                memory.append(service.memory())
            return task.result()

        found = asyncio.run(press())
        later = memory[len(memory) // 3 :]
        statuses.update(found["statuses"])
        return {
            **found,
            "clients": 4 * options.clients,
            "seconds": round(time.perf_counter() - began),
            "only 200 and 429": set(statuses) <= {"200", "429"},
            "MiB": [round(one) for one in memory],
            "MiB, last two thirds, most : least": round(max(later) / min(later), 3),
        }


def disconnects(cells: Cells, options: argparse.Namespace) -> dict[str, Any]:
    """Leave 100 times: while sending, and while waiting for the answer."""

    async def leave(number: int) -> None:
        body = cells.body(np.arange(number % 200, number % 200 + 200))
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        head = f"POST /v1/embed HTTP/1.1\r\nHost: x\r\nContent-Type: {ARROW}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + (body[: len(body) // 2] if number % 2 else body))
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    async def leave_all() -> None:
        for start in range(0, 100, 10):
            await asyncio.gather(*map(leave, range(start, start + 10)))

    with running() as service:
        asyncio.run(many_clients(cells, 8, 10, 50))
        before, files = service.memory(), open_files(service.process.pid)
        asyncio.run(leave_all())
        until = time.perf_counter() + 60
        while waiting() and time.perf_counter() < until:
            time.sleep(0.5)
        left = waiting()
        after = asyncio.run(many_clients(cells, 8, 10, 50))
        return {
            "MiB before": round(before),
            "MiB after": round(service.memory()),
            "open files before": files,
            "open files after": open_files(service.process.pid),
            "tokens that still wait": left,
            "afterwards": after["statuses"],
            "wrong answers": after["wrong answers"],
        }


def kill(cells: Cells, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the model's process three times while clients ask; count the answers and the seconds until it is ready."""
    with running() as service:
        times: list[float] = []

        def kill_and_wait() -> float:
            before = starts()
            model = max(descendants(service.process.pid), key=resident)
            os.kill(model, signal.SIGKILL)
            began = time.perf_counter()
            while starts() == before or httpx.get(f"{URL}/health/ready", timeout=60).status_code != 200:
                time.sleep(0.05)
            return time.perf_counter() - began

        async def press() -> dict[str, Any]:
            task = asyncio.create_task(many_clients(cells, 32, options.seconds, 8))
            for _ in range(3):
                await asyncio.sleep(options.seconds / 5)
                times.append(await asyncio.to_thread(kill_and_wait))
            return await task

        found = asyncio.run(press())
        return {**found, "seconds until ready": [round(one, 2) for one in times]}


def throughput(cells: Cells, options: argparse.Namespace) -> dict[str, Any]:
    """Interleave offline and served rounds over the same cells; the client is the package's own."""
    inference = Inference(xt.load("demo"))
    found: dict[str, Any] = {}
    offline, served, small = [], [], []
    some = cells.counts[:600]
    json_body = json.dumps(
        {
            "cells": [
                {str(gene): int(count) for gene, count in zip(row.indices, row.data, strict=True)}
                for row in (cells.counts[number] for number in range(100))
            ],
        }
    )
    with running(), xt.Client(URL, cells_per_request=300) as client:
        model = client.model()
        from xtrimogene.serving.client import _RemoteInference

        remote = _RemoteInference(client, model, "single_cell")
        for _ in range(3):
            offline.append(timed(lambda: inference.cell_embeddings(some)))
            served.append(timed(lambda: remote.cell_embeddings(some)))
        symbols = model.genes.symbols
        sent = json.loads(json_body)
        sent = {"cells": [{symbols[int(g)]: c for g, c in cell.items()} for cell in sent["cells"]], "genes": symbols}
        text, rows = json.dumps(sent).encode(), np.arange(100)
        arrow = cells.body(rows)
        for _ in range(3):
            small.append([timed(lambda: post(arrow, ARROW)), timed(lambda: post(text, JSON))])
    number = some.shape[0]
    found["cells"] = number
    found["offline cells a second"] = round(number / min(offline), 1)
    found["served cells a second"] = round(number / min(served), 1)
    found["served : offline"] = round(min(offline) / min(served), 3)
    found["100 cells, seconds, Arrow and JSON"] = [round(one, 3) for one in np.min(small, axis=0).tolist()]
    found["100 cells, bytes, Arrow and JSON"] = [len(arrow), len(text)]
    return found


def timed(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def post(body: bytes, media_type: str) -> None:
    response = httpx.post(f"{URL}/v1/embed", content=body, headers={"Content-Type": media_type}, timeout=120)
    assert response.status_code == 200, response.text


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def metric(name: str) -> float:
    lines = httpx.get(f"{URL}/metrics", timeout=60).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"xtrimogene_{name}"))


def waiting() -> float:
    return metric("waiting_tokens")


def starts() -> float:
    return metric("process_starts")


PARTS = {
    "clients": clients,
    "throughput": throughput,
    "overload": overload,
    "disconnects": disconnects,
    "kill": kill,
}

if __name__ == "__main__":
    main()
