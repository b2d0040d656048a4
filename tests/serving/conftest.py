"""A service in this process, with its children, and a client that talks to it without a network."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import uvicorn
from anndata import AnnData
from scipy.sparse import csr_matrix
from starlette.testclient import TestClient

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.serving.app import create_app
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.served_model import ServedModel
from xtrimogene.serving.service import Service
from xtrimogene.serving.tokens import Tokens
from xtrimogene.tl import fit_annotator

TOKEN = "0123456789abcdef0123"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Running:
    service: Service
    http: TestClient


@pytest.fixture(scope="session")
def annotator(tiny_folder: Path, tiny_model: PretrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an annotator of three types, each with 40 genes of its own."""
    random = np.random.default_rng(0)
    rate = np.full((3, 400), 0.1)
    for number in range(3):
        rate[number, 40 * number : 40 * number + 40] = 3
    labels = np.arange(90) % 3
    obs = pd.DataFrame({"cell_type": [f"type {label}" for label in labels]}, index=[f"cell{row}" for row in range(90)])
    var = pd.DataFrame(index=list(tiny_model.genes.symbols))
    reference = AnnData(csr_matrix(random.poisson(rate[labels]).astype(np.float32)), obs=obs, var=var)
    folder = tmp_path_factory.mktemp("annotators") / "types"
    return fit_annotator(
        reference, folder, label_key="cell_type", model=tiny_folder, baselines=False, progress=False, device="cpu"
    )


@pytest.fixture(scope="session")
def running(tiny_folder: Path, annotator: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    place = tmp_path_factory.mktemp("service")
    (place / "tokens").write_text(f"lab {TOKEN}\n")
    limits = Limits(max_cells=300, max_body_bytes=1 << 20)
    model = ServedModel(name="small", place=str(tiny_folder), annotators={"types": str(annotator)}, device="cpu")
    service = Service([model], limits=limits)
    with TestClient(create_app(service, Tokens.read(place / "tokens"))) as http:
        yield Running(service, http)


@pytest.fixture(scope="session")
def url(running: Running) -> Iterator[str]:
    """Serve the application that is running over a socket, too."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(running.http.app, host="127.0.0.1", port=port, lifespan="off", log_config=None)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
