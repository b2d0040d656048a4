"""A service in this process, with its children, and a client that talks to it without a network."""

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from starlette.testclient import TestClient

from xtrimogene.serving.app import create_app
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.served_model import ServedModel
from xtrimogene.serving.service import Service
from xtrimogene.serving.tokens import Tokens

TOKEN = "0123456789abcdef0123"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Running:
    service: Service
    http: TestClient


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
