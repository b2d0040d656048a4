"""What is written about hosting the service is true: the example runs, and the container is what it says."""

import json
import re
from pathlib import Path

import numpy as np
import yaml

from tests.serving.conftest import TOKEN, Running

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def test_the_example_in_the_readme_runs(running: Running, url: str) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (DEPLOY / "README.md").read_text(), flags=re.DOTALL)
    first, second, third = running.service.hosts["small"].facts.genes.symbols[:3]
    named = example.replace("CD3D", first).replace("MS4A1", second).replace("LYZ", third)
    found: dict[str, object] = {"token": TOKEN, "url": url}
    exec(named, found)
    assert [len(vector) for vector in found["vectors"]] == [12, 12]  # type: ignore[attr-defined]
    body = json.dumps({"cells": [{first: 3, third: 1}, {second: 7}], "genes": [first, second, third]})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
    answer = running.http.post("/v1/embed", params={"min_genes": 1}, content=body, headers=headers)
    np.testing.assert_allclose(answer.json()["vector"], found["vectors"], atol=1e-5)  # type: ignore[arg-type]


def test_the_container_is_not_root_and_writes_nothing() -> None:
    image = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^USER 10001$", image, flags=re.MULTILINE)
    assert image.index("USER 10001") < image.index("ENTRYPOINT")
    assert "HEALTHCHECK" in image
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["xtrimogene"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"] == "10001"
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_every_route_and_status_is_written_down(running: Running) -> None:
    text = (DEPLOY / "README.md").read_text()
    described = running.http.get("/openapi.json").json()["paths"]
    for route in described:
        assert route.replace("{model}", "NAME") in text, route
    for status in described["/v1/embed"]["post"]["responses"]:
        assert status == "200" or status in text
