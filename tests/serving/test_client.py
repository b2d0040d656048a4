import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from tests.serving.conftest import TOKEN, Running
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError, CountsError, GeneMatchError, LimitError, ServiceError
from xtrimogene.serving.client import Client, _RemoteInference
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.wire import Answer, read_cells, write_answer

MakeCells = Callable[..., AnnData]


def connected(running: Running, handler: Callable[[httpx.Request], httpx.Response] | None = None) -> Client:
    """Return a client whose requests come to the service without a network, or to ``handler`` first."""

    def pass_on(request: httpx.Request) -> httpx.Response:
        url = str(request.url.copy_with(scheme="http", host="testserver", port=None))
        found = running.http.request(request.method, url, content=request.read(), headers=dict(request.headers.items()))
        return httpx.Response(found.status_code, content=found.content, headers=dict(found.headers.items()))

    client = Client("http://service", TOKEN, cells_per_request=16, patience=30.0)
    client._http = httpx.Client(
        base_url="http://service", headers=client._http.headers, transport=httpx.MockTransport(handler or pass_on)
    )
    client.pass_on = pass_on  # type: ignore[attr-defined]
    return client


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with connected(running) as made:
        yield made


def test_embedding_writes_what_offline_does(
    client: Client, make_cells: MakeCells, tiny_model: PretrainedModel, tmp_path: Path
) -> None:
    cells, offline = make_cells(50), make_cells(50)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    xt.tl.embed(offline, tiny_model, pool="mean", progress=False)
    for source in (cells, tmp_path / "cells.h5ad"):
        found = client.embed(source, pool="mean", progress=False)
        np.testing.assert_allclose(found.obsm["X_xtrimogene"], offline.obsm["X_xtrimogene"], atol=1e-5)
        record, expected = found.uns["xtrimogene"], offline.uns["xtrimogene"]
        assert {**record, "model": "", "sha256": ""} == {**expected, "model": "", "sha256": ""}
    found.write_h5ad(tmp_path / "embedded.h5ad")


def test_cells_without_counts_keep_their_place(client: Client, make_cells: MakeCells) -> None:
    cells = make_cells(20)
    counts = csr_matrix(cells.X)
    counts.data[counts.indptr[17] : counts.indptr[18]] = 0
    cells.X = counts
    with pytest.warns(UserWarning, match="1 of 20 cells have no counts"):
        client.embed(cells, progress=False)
    assert np.flatnonzero(np.isnan(cells.obsm["X_xtrimogene"]).any(axis=1)).tolist() == [17]


def test_annotating_writes_what_offline_does(
    client: Client, make_cells: MakeCells, tiny_folder: Path, annotator: Path, tmp_path: Path
) -> None:
    cells, offline = make_cells(40), make_cells(40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # these cells are of no type that the reference has
        xt.tl.annotate(offline, annotator=annotator, model=tiny_folder, progress=False)
        client.annotate(cells, annotator="types")
    assert list(cells.obs) == list(offline.obs)
    for name in offline.obs.columns.drop("xtrimogene_confidence"):
        pd.testing.assert_series_equal(cells.obs[name], offline.obs[name])
    np.testing.assert_allclose(cells.obs["xtrimogene_confidence"], offline.obs["xtrimogene_confidence"], atol=1e-5)
    assert cells.uns["xtrimogene_annotation"]["held_out"] == offline.uns["xtrimogene_annotation"]["held_out"]
    cells.write_h5ad(tmp_path / "labelled.h5ad")
    numbered, path = make_cells(40), tmp_path / "numbered.h5ad"
    numbered.obs.reset_index(drop=True, inplace=True)
    numbered.write_h5ad(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = client.annotate(path, annotator="types")
    assert found.obs["xtrimogene_label"].tolist() == offline.obs["xtrimogene_label"].tolist()
    only = ["type 0", "type 1"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        client.annotate(cells, annotator="types", candidates=only, key_added="two")
    assert set(cells.obs["two_label"].cat.categories) == {*only, "unknown"}


def test_what_is_wrong_is_said_here_or_there_as_offline(client: Client, make_cells: MakeCells) -> None:
    negative = make_cells(4)
    negative.X = -csr_matrix(negative.X)
    with pytest.raises(CountsError, match="negative"):
        client.embed(negative)
    strange = make_cells(4)
    strange.var_names = [f"gene {number}" for number in range(400)]
    with pytest.raises(GeneMatchError):
        client.embed(strange)
    with pytest.raises(ConfigError, match="read_depth='x'"):
        client.embed(make_cells(4), read_depth="x")
    with pytest.raises(ServiceError, match="no model 'big'; it has small"):
        client.embed(make_cells(4), "big")
    with pytest.raises(LimitError, match="300 cells"):
        client.annotate(make_cells(301), annotator="types")
    with pytest.raises(ServiceError, match="no annotator 'none'"):
        client.annotate(make_cells(4), annotator="none")
    assert [model["name"] for model in client.models()] == ["small"]


def test_what_was_lost_or_refused_for_now_is_sent_again(running: Running, make_cells: MakeCells) -> None:
    problems = iter(["lost", 429, 503, "lost"])
    tried = []

    def unlucky(request: httpx.Request) -> httpx.Response:
        tried.append(request.url.path)
        problem = next(problems, None) if request.method == "POST" else None
        if problem == "lost":
            raise httpx.ReadError("connection reset", request=request)
        if problem is not None:
            error = {"type": "QueueFull", "message": "Too much waits already."}
            return httpx.Response(int(problem), json={"error": error}, headers={"Retry-After": "0"})
        return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]

    with connected(running, unlucky) as client:
        cells = make_cells(10)
        client.embed(cells, progress=False)
        assert np.isfinite(cells.obsm["X_xtrimogene"]).all()
        assert tried.count("/v1/embed") == 5


def test_a_service_that_is_not_there_is_named() -> None:
    with (
        Client("http://127.0.0.1:9", patience=0.0) as client,
        pytest.raises(ServiceError, match="127.0.0.1:9 cannot be reached"),
    ):
        client.models()


def test_a_wrong_token_is_said(running: Running) -> None:
    with connected(running) as client:
        client._http.headers["Authorization"] = "Bearer wrong"
        with pytest.raises(ServiceError, match="A token is needed"):
            client.models()


def test_values_that_are_logs_are_taken_as_they_are_also_in_bulk(
    client: Client, make_cells: MakeCells, tiny_model: PretrainedModel
) -> None:
    cells = make_cells(6)
    cells.X = csr_matrix(cells.X).log1p()
    options = {"kind": "bulk", "input_kind": "log1p", "progress": False}
    found = client.embed(cells.copy(), **options)
    expected = xt.tl.embed(cells.copy(), tiny_model, **options)
    np.testing.assert_allclose(found.obsm["X_xtrimogene"], expected.obsm["X_xtrimogene"], atol=1e-5)


def test_blocks_that_the_service_finds_too_large_are_sent_in_parts(running: Running, make_cells: MakeCells) -> None:
    with connected(running) as client:
        client._cells = 1_000  # the service takes 300
        cells = make_cells(700)
        client.embed(cells, progress=False)
        assert np.isfinite(cells.obsm["X_xtrimogene"]).all()


def test_what_would_fail_again_is_not_sent_again(running: Running, make_cells: MakeCells) -> None:
    tried = []

    def poisoned(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]
        tried.append(request)
        return httpx.Response(503, json={"error": {"type": "HostFailed", "message": "The process ended."}})

    with connected(running, poisoned) as client:
        with pytest.raises(ServiceError, match="The process ended"):
            client.embed(make_cells(3), progress=False)
        assert len(tried) == 1
        with pytest.raises(ConfigError, match="candidates is empty"):
            client.annotate(make_cells(3), annotator="types", candidates=[])
    with pytest.raises(ConfigError, match="no address"):
        Client("localhost:8000")


def test_a_models_name_may_hold_a_slash(
    running: Running, client: Client, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = running.service.hosts
    for name in ("hf://lab/atlas@v1", "50% a/b"):
        monkeypatch.setitem(hosts, name, hosts["small"])
        found = client.embed(make_cells(3), name, progress=False)
        assert np.isfinite(found.obsm["X_xtrimogene"]).all()


@pytest.mark.parametrize("token", ["lab 0123456789SECRET", "0123456789SECRET\nother", "SECRET\twörd", "ß-SECRET", " "])
def test_what_is_no_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(ConfigError, match="not one word of ASCII") as refused:
        Client("http://service", token)
    assert "SECRET" not in str(refused.value)


def test_a_password_in_the_address_is_sent_and_not_shown() -> None:
    for url in ("lab:SECRET@service", "http://lab:SE/CRET@service", "http://"):
        with pytest.raises(ConfigError, match="no address") as refused:
            Client(url)
        assert "CRET" not in str(refused.value)
    with Client("http://lab:SECRET@127.0.0.1:9/base/", patience=0.0) as client:
        with pytest.raises(ServiceError, match="http://127.0.0.1:9/base cannot be reached") as lost:
            client.models()
        assert "SECRET" not in str(lost.value)
        asked: list[httpx.Request] = []
        client._http._transport = httpx.MockTransport(
            lambda request: asked.append(request) or httpx.Response(200, json=[])
        )
        client.models()
        assert asked[0].headers["Authorization"] == httpx.BasicAuth("lab", "SECRET")._auth_header
        assert "SECRET" not in str(asked[0].url)


def test_blocks_that_a_proxy_finds_too_large_are_sent_in_parts(running: Running, make_cells: MakeCells) -> None:
    most = 2_000

    def proxied(request: httpx.Request) -> httpx.Response:
        if len(request.read()) > most:
            return httpx.Response(413, html="<h1>413 Request Entity Too Large</h1>")
        return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]

    with connected(running, proxied) as client:
        cells = make_cells(16)
        client.embed(cells, progress=False)
        assert np.isfinite(cells.obsm["X_xtrimogene"]).all()
        most = 10
        with pytest.raises(LimitError, match="takes less in one request"):
            client.embed(cells, progress=False)


@pytest.mark.parametrize(
    ("route", "content"),
    [
        ("/v1/models", b"<html>Log in</html>"),
        ("/v1/models", b'{"detail": "hi"}'),
        ("/v1/models", b"[3]"),
        ("/v1/models", b"[{}]"),
        ("/v1/models", b'[{"name": "small"}]'),
        ("/v1/models", b'[{"name": "small", "config": {"later": 1}}]'),
        ("/v1/models/small/genes", b"<html>"),
        ("/v1/models/small/genes", b"\xff"),
        ("/v1/embed", b"<html>"),
        ("/v1/embed", write_answer(Answer(columns={"vector": np.zeros((2, 12), np.float32)}, meta={}))),
        ("/v1/embed", write_answer(Answer(columns={"vectors": np.zeros((3, 12), np.float32)}, meta={}))),
    ],
)
def test_what_is_no_service_of_this_version_is_said(
    running: Running, make_cells: MakeCells, route: str, content: bytes
) -> None:
    def other(request: httpx.Request) -> httpx.Response:
        if request.url.path == route:
            return httpx.Response(200, content=content)
        return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]

    with connected(running, other) as client, pytest.raises(ServiceError, match="not answer as a service of this vers"):
        client.embed(make_cells(3), progress=False)


def test_what_is_given_up_is_not_sent_again(running: Running, make_cells: MakeCells) -> None:
    tried: Counter[bytes] = Counter()
    counts = csr_matrix(make_cells(4).X)

    def busy(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]
        body = request.read()
        tried[body] += 1
        if (read_cells(body, Limits()).counts != counts[:1]).nnz == 0:
            return client.pass_on(request)  # type: ignore[attr-defined,no-any-return]
        return httpx.Response(429, headers={"Retry-After": "20"})

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with connected(running, busy) as client:
        inference = _RemoteInference(client, client.model(), "single_cell")
        client._cells = 1
        with pytest.raises(KeyboardInterrupt):
            inference.cell_embeddings(counts, progress=interrupt)
        assert set(tried.values()) == {1}
