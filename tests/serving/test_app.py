import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import forkserver
from threading import Event, Thread

import numpy as np
import pytest
from anndata import AnnData
from scipy.sparse import csr_matrix

import xtrimogene as xt
from tests.serving.conftest import BEARER, Running
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import ConfigError
from xtrimogene.serving.batching import Job, QueueFull
from xtrimogene.serving.child import ChildNotStarted
from xtrimogene.serving.json_cells import JSON
from xtrimogene.serving.served_model import Vectors
from xtrimogene.serving.wire import ARROW, Answer, WireCells, read_answer, write_cells

MakeCells = Callable[..., AnnData]


def wire(cells: AnnData) -> bytes:
    names = [str(name) for name in cells.obs_names]
    return write_cells(WireCells(counts=csr_matrix(cells.X), genes={"var_names": list(cells.var_names)}, names=names))


def ask(running: Running, route: str, body: bytes, media_type: str = ARROW, **options: object) -> Answer:
    response = running.http.post(route, content=body, params=options, headers={**BEARER, "Content-Type": media_type})
    assert response.status_code == 200, response.text
    return read_answer(response.content)


def refused(running: Running, status: int, body: bytes = b"", route: str = "/v1/embed", **options: object) -> str:
    headers = {**BEARER, "Content-Type": ARROW}
    response = running.http.post(route, content=body, params=options, headers=headers)
    assert response.status_code == status, response.text
    told = response.json()["error"]["message"]
    assert told.endswith("."), told
    return str(told)


def test_the_answer_is_the_offline_one(running: Running, make_cells: MakeCells, tiny_model: PretrainedModel) -> None:
    cells = make_cells(60)
    found = ask(running, "/v1/embed", wire(cells))
    xt.tl.embed(cells, tiny_model, progress=False)
    np.testing.assert_allclose(found.columns["vector"], cells.obsm["X_xtrimogene"], atol=1e-5)
    assert found.columns["cell"].tolist() == cells.obs_names.tolist()
    assert found.meta["record"]["sha256"] == running.service.hosts["small"].facts.sha256
    assert found.meta["record"]["genes"]["num_matched_genes"] == 400


def test_requests_at_the_same_time_get_their_own_answers(
    running: Running, make_cells: MakeCells, tiny_model: PretrainedModel
) -> None:
    many = [make_cells(1 + seed % 7, seed=seed) for seed in range(40)]
    pools = ["latent", "mean"]
    with ThreadPoolExecutor(16) as threads:
        answers = list(
            threads.map(
                lambda one: ask(running, "/v1/embed", wire(one[1]), pool=pools[one[0] % 2]).columns["vector"],
                enumerate(many),
            )
        )
    for number, (cells, found) in enumerate(zip(many, answers, strict=True)):
        xt.tl.embed(cells, tiny_model, pool=pools[number % 2], progress=False)  # type: ignore[arg-type]
        np.testing.assert_allclose(found, cells.obsm["X_xtrimogene"], atol=1e-5)


@pytest.mark.parametrize("through", ["decoder", "latent"])
def test_expression_is_the_offline_one(
    running: Running, make_cells: MakeCells, tiny_model: PretrainedModel, through: str
) -> None:
    cells = make_cells(20)[:, :300].copy()  # the other genes are unknown
    genes = [tiny_model.genes.symbols[place] for place in (7, 3, 399)]
    found = ask(running, "/v1/predict_expression", wire(cells), gene=genes, through=through)
    expected = xt.get.expression(cells, tiny_model, genes=genes, through=through, progress=False)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.columns["expression"], expected, atol=1e-5)


def test_cells_without_counts_get_no_numbers_and_a_warning(running: Running, make_cells: MakeCells) -> None:
    cells = make_cells(5)
    counts = csr_matrix(cells.X)
    counts.data[counts.indptr[2] : counts.indptr[3]] = 0
    cells.X = counts
    found = ask(running, "/v1/embed", wire(cells))
    assert np.isnan(found.columns["vector"]).all(axis=1).tolist() == [False, False, True, False, False]
    assert any("1 of 5 cells" in told for told in found.meta["warnings"])


def test_json_for_curl(running: Running, tiny_model: PretrainedModel) -> None:
    first, second = tiny_model.genes.symbols[:2]
    sent = json.dumps({"cells": [{first: 3, second: 1}, {first: 1}], "names": ["a", "b"]}).encode()
    headers = {**BEARER, "Content-Type": JSON}
    response = running.http.post("/v1/embed", content=sent, params={"min_genes": 1}, headers=headers)
    assert response.status_code == 200
    assert response.headers["content-type"] == JSON
    found = response.json()
    assert found["cell"] == ["a", "b"]
    assert len(found["vector"][0]) == 12
    assert found["vector"][1] == [None] * 12  # one count is no cell


def test_what_cannot_be_is_refused_in_a_sentence(running: Running, make_cells: MakeCells) -> None:
    good = wire(make_cells(3))
    assert "no Arrow IPC stream" in refused(running, 422, b"nonsense")
    assert "no Arrow IPC stream" in refused(running, 422, good[: len(good) // 2])
    assert "holds no cell" in refused(running, 422, wire(make_cells(3)[:0].copy()))
    assert "no model 'big' here; there are small" in refused(running, 404, good, model="big")
    assert "no annotator" in refused(running, 404, good, route="/v1/annotate", annotator="none")
    assert "pool" in refused(running, 422, good, pool="median")
    assert "read_depth='x'" in refused(running, 422, good, read_depth="x")
    assert "min_genes" in refused(running, 422, good, min_genes=0)
    assert "at least 401 genes" in refused(running, 422, good, min_genes=401)
    assert "gene" in refused(running, 422, good, route="/v1/predict_expression")
    assert "300 cells" in refused(running, 413, wire(make_cells(301)))
    assert "1,048,576 bytes" in refused(running, 413, bytes((1 << 20) + 1))
    negative = make_cells(3)
    negative.X = -csr_matrix(negative.X)
    assert "negative" in refused(running, 422, wire(negative))
    response = running.http.post("/v1/embed", content=good, headers={**BEARER, "Content-Type": "application/x-hdf5"})
    assert response.status_code == 415


def test_without_the_token_nothing_is_told(running: Running) -> None:
    for headers in ({}, {"Authorization": "Bearer 0123456789abcdef0124"}):
        for method, route in (("GET", "/v1/models"), ("GET", "/v1/models/small/genes"), ("POST", "/v1/embed")):
            assert running.http.request(method, route, headers=headers).status_code == 401
    assert running.http.get("/health/live").text == "live\n"


def test_a_killed_model_is_replaced_and_no_request_is_lost(
    running: Running, make_cells: MakeCells, tiny_model: PretrainedModel
) -> None:
    host = running.service.hosts["small"]
    cells = make_cells(250)
    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(ask, running, "/v1/embed", wire(cells)) for _ in range(8)]
        time.sleep(0.05)
        assert host.child.pid is not None
        os.kill(host.child.pid, signal.SIGKILL)
        answers = [future.result(120).columns["vector"] for future in futures]
    xt.tl.embed(cells, tiny_model, progress=False)
    for found in answers:
        np.testing.assert_allclose(found, cells.obsm["X_xtrimogene"], atol=1e-5)
    assert running.http.get("/health/ready").status_code == 200


def test_a_killed_model_that_nobody_asks_is_replaced_too(running: Running) -> None:
    host = running.service.hosts["small"]
    starts = host.child.num_starts
    assert host.child.pid is not None
    os.kill(host.child.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while host.child.num_starts == starts or running.http.get("/health/ready").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.1)


def test_metrics_models_and_genes(running: Running, make_cells: MakeCells, tiny_model: PretrainedModel) -> None:
    ask(running, "/v1/embed", wire(make_cells(3)))
    text = running.http.get("/metrics").text
    assert 'xtrimogene_requests_total{route="/v1/embed",status="200"}' in text
    assert 'xtrimogene_waiting_tokens{model="small"} 0.0' in text
    assert 'xtrimogene_process_starts{process="reader 0"}' in text
    (model,) = running.http.get("/v1/models", headers=BEARER).json()
    assert model["name"] == "small"
    assert model["genes_sha256"] == tiny_model.genes.sha256
    assert running.http.get("/v1/models/small/genes", headers=BEARER).content == tiny_model.genes.to_bytes()


def test_the_log_has_no_token_and_no_cell(
    running: Running, make_cells: MakeCells, caplog: pytest.LogCaptureFixture
) -> None:
    cells = make_cells(3)
    with caplog.at_level("INFO"):
        ask(running, "/v1/embed", wire(cells))
    (told,) = [record.message for record in caplog.records if record.name == "xtrimogene.serving.requests"]
    facts = json.loads(told)
    assert facts["route"] == "/v1/embed"
    assert facts["holder"] == "lab"
    assert facts["num_cells"] == 3
    assert BEARER["Authorization"].split()[1] not in told
    assert str(cells.var_names[0]) not in told


def test_a_cell_that_cannot_be_computed_fails_alone(running: Running, tiny_model: PretrainedModel) -> None:
    host = running.service.hosts["small"]
    counts = np.zeros((2, 400), dtype=np.float32)
    counts[0, :300] = 2
    counts[1, :2] = 1e12  # deeper than any cell: the model refuses it
    key = Vectors(pool="latent", read_depth="f1", normalized=False)
    good, bad = (Job(key=key, counts=csr_matrix(counts[row : row + 1])) for row in (0, 1))
    host._answer([good, bad])
    assert np.isfinite(good.result.result(0.0)).all()
    with pytest.raises(ConfigError, match="asks for T"):
        bad.result.result(0.0)


@pytest.mark.parametrize("which", ["reader", "forkserver"])
def test_what_is_killed_between_requests_comes_back(running: Running, make_cells: MakeCells, which: str) -> None:
    reader = running.service.readers[0]
    pid = reader.pid if which == "reader" else forkserver._forkserver._forkserver_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until, down = time.monotonic() + 60, False
    while not (down and running.http.get("/health/ready").status_code == 200):
        down = down or running.http.get("/health/ready").status_code == 503
        assert time.monotonic() < until
        time.sleep(0.02)
    ask(running, "/v1/embed", wire(make_cells(3)))


def test_expression_is_asked_of_what_offline_asks_unless_it_is_said(
    running: Running, make_cells: MakeCells, tiny_model: PretrainedModel
) -> None:
    cells, gene = make_cells(5), tiny_model.genes.symbols[3]
    found = ask(running, "/v1/predict_expression", wire(cells), gene=[gene])
    expected = xt.get.expression(cells, tiny_model, genes=[gene], progress=False)
    np.testing.assert_allclose(found.columns["expression"], expected, atol=1e-5)


def test_long_answers_are_no_json(running: Running, make_cells: MakeCells, tiny_model: PretrainedModel) -> None:
    few = replace(running.service.limits, max_json_numbers=100)
    cell = dict.fromkeys(tiny_model.genes.symbols[:300], 1)
    body = json.dumps({"cells": [cell] * 9}).encode()
    headers = {**BEARER, "Content-Type": JSON}
    before, running.service.limits = running.service.limits, few
    try:
        response = running.http.post("/v1/embed", content=body, headers=headers)
    finally:
        running.service.limits = before
    assert response.status_code == 413
    assert "100 numbers in JSON" in response.json()["error"]["message"]


def test_with_a_full_queue_no_body_is_read(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> None:
        raise QueueFull(7)

    monkeypatch.setattr(running.service.hosts["small"].batcher, "require_room", full)
    response = running.http.post("/v1/embed", content=b"no cells", headers={**BEARER, "Content-Type": ARROW})
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")


def test_memory_that_requests_held_is_given_back_and_no_more_is_there_to_hold(
    running: Running, make_cells: MakeCells
) -> None:
    body, service = wire(make_cells(3)), running.service
    ask(running, "/v1/embed", body)
    refused(running, 422, b"nonsense")
    assert service._waiting_bytes == 0
    with service.room() as hold:
        hold(service.limits.max_waiting_bytes)
        assert "Too much waits already" in refused(running, 429, body)
    ask(running, "/v1/embed", body)


def test_without_what_keeps_it_going_it_is_not_ready(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    assert running.http.get("/health/ready").status_code == 200
    for owner, name in ((running.service, "_keeper"), (running.service.hosts["small"], "_thread")):
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, Thread())  # one that does not run
            assert running.http.get("/health/ready").status_code == 503


def test_where_the_system_has_no_room_for_a_process_one_asks_again(
    running: Running, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ChildNotStarted("too many open files")

    body, service = wire(make_cells(3)), running.service
    for child in service.children:
        with monkeypatch.context() as patched:
            patched.setattr(child, "call", full)
            assert "ask again in 5 s" in refused(running, 429, body)

    def no_thread(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(service, "_threads", ThreadPoolExecutor(1))
        patched.setattr(Thread, "start", no_thread)
        assert "ask again in 5 s" in refused(running, 429, body)
    ask(running, "/v1/embed", body)


def test_who_waited_in_vain_is_told_to_come_again_and_who_was_too_slow_to_ask_for_less(
    running: Running, make_cells: MakeCells, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, begun, ended, child = wire(make_cells(3)), Event(), Event(), running.service.hosts["small"].child
    call = child.call

    def slow(request: object, seconds: float) -> object:
        begun.set()
        ended.wait(60)
        return call(request, seconds)

    monkeypatch.setattr(child, "call", slow)
    monkeypatch.setattr(running.service, "limits", replace(running.service.limits, request_seconds=0.5))
    with ThreadPoolExecutor(2) as threads:
        runs = threads.submit(refused, running, 503, body)
        assert begun.wait(60)
        waits = threads.submit(refused, running, 429, body, pool="mean")
        assert "send fewer cells" in runs.result(60)
        assert "ask again in 60 s" in waits.result(60)
        ended.set()


def test_labels_come_back_with_the_names_of_the_cells(running: Running, make_cells: MakeCells) -> None:
    cells = make_cells(5)
    cells.obs_names = ["a", "b", "a", "c", "d"]
    found = ask(running, "/v1/annotate", wire(cells), annotator="types")
    assert found.columns["cell"].tolist() == ["a", "b", "a", "c", "d"]
    assert list(found.columns)[:2] == ["cell", "label"]
