"""The HTTP face of a `Service`: routes, limits, tokens, status codes. No body is logged, and no token."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from xtrimogene.config import Pool
from xtrimogene.data.counts import InputKind, SampleKind
from xtrimogene.errors import CheckpointError, ConfigError, LimitError, XTrimoGeneError
from xtrimogene.serving.batching import QueueFull
from xtrimogene.serving.json_cells import JSON, write_json_answer
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.metrics import Metrics
from xtrimogene.serving.reader import Unread
from xtrimogene.serving.served_model import HostFailed, ModelHost
from xtrimogene.serving.service import NoSuchName, Service
from xtrimogene.serving.tokens import Tokens
from xtrimogene.serving.wire import ARROW, Answer, write_answer

log = logging.getLogger("xtrimogene.serving.requests")
Model = Annotated[str | None, Query(description="A name of /v1/models. Default: the first.")]
Input = Annotated[InputKind, Query(description="log1p: take the values as they are.")]
Kind = Annotated[SampleKind, Query(description="bulk: any non-negative linear expression.")]
MinGenes = Annotated[int, Query(ge=1, description="Refuse cells with fewer genes in common with the model.")]
Depth = Annotated[str | None, Query(description="The depth asked for, as t4, f1 or a0.5.")]
_GONE = 499  # no answer was begun, as nobody waits
Rate = Annotated[float, Query(gt=0, lt=1)]
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            ARROW: {"schema": {"type": "string", "format": "binary"}},
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["cells"],
                    "additionalProperties": False,
                    "properties": {
                        "cells": {
                            "type": "array",
                            "items": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
                        },
                        "genes": {"type": "array", "items": {"type": "string"}},
                        "names": {"type": "array", "items": {"type": "string"}},
                    },
                },
                "example": {"cells": [{"CD3D": 3, "MS4A1": 1}], "genes": ["CD3D", "MS4A1", "LYZ"]},
            },
        },
    }
}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {ARROW: {}, JSON: {}},
        "description": "One row a cell, in the order asked; of the type of the body.",
    },
    401: {"description": "No token, or one that is not known."},
    404: {"description": "No such model or annotator."},
    413: {"description": "More than one request may ask for."},
    415: {"description": "A body of another type."},
    422: {"description": "Cells, genes or options that cannot be; one sentence says why."},
    429: {"description": "Too much waits already; Retry-After says when to ask again."},
    503: {"description": "The model is not there, or died of these cells twice."},
}


def create_app(service: Service, tokens: Tokens | None = None) -> FastAPI:
    """Return the application; it starts the service and closes it."""
    metrics = _metrics_of(service)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(service.start)
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(title="xtrimogene", version="1", lifespan=lifespan, redoc_url=None)
    app.add_middleware(_Observed, metrics=metrics)
    _explain_errors(app)

    def allowed(request: Request) -> None:
        if tokens is not None:
            request.state.holder = tokens.holder(request.headers.get("authorization"))
            if request.state.holder is None:
                raise _Stopped(401, "TokenError", "A token is needed: send it as 'Authorization: Bearer TOKEN'.")

    async def answer(request: Request, make: Callable[[bytes, str], Awaitable[Answer]], route: str) -> Response:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (ARROW, JSON):
            raise _Stopped(
                415, "FileFormatError", f"The body is of type {media_type[:80] or 'none'!r}; send {ARROW} or {JSON}."
            )
        found = await _answered(request, service, lambda body: make(body, media_type))
        num_cells = len(next(iter(found.columns.values())))
        metrics.cells.labels(request.query_params.get("model") or service.default, route).inc(num_cells)
        request.state.num_cells = num_cells
        written = await asyncio.to_thread(write_json_answer if media_type == JSON else write_answer, found)
        return Response(written, media_type=media_type)

    guarded = [Depends(allowed)]

    @app.post("/v1/embed", dependencies=guarded, responses=_ANSWERS, openapi_extra=_BODY)
    async def embed(
        request: Request,
        model: Model = None,
        pool: Pool | None = None,
        read_depth: Depth = None,
        input_kind: Input = "auto",
        kind: Kind = "single_cell",
        min_genes: MinGenes = 200,
    ) -> Response:
        """Return one vector a cell: the same as `xtrimogene.tl.embed`, whatever else is asked at the same time."""

        def make(body: bytes, media_type: str) -> Awaitable[Answer]:
            unread = Unread(
                body=body,
                media_type=media_type,
                model=service.host(model).model.name,
                input_kind=input_kind,
                kind=kind,
                min_genes=min_genes,
            )
            return service.embed(unread, pool=pool, read_depth=read_depth)

        return await answer(request, make, "embed")

    @app.post("/v1/predict_expression", dependencies=guarded, responses=_ANSWERS, openapi_extra=_BODY)
    async def predict_expression(
        request: Request,
        gene: Annotated[list[str], Query(min_length=1, max_length=5_000, description="May be repeated.")],
        model: Model = None,
        through: Literal["decoder", "latent"] | None = None,
        read_depth: Depth = None,
        input_kind: Input = "auto",
        kind: Kind = "single_cell",
        min_genes: MinGenes = 200,
    ) -> Response:
        """Return predicted expression of genes, log1p of counts per 10,000, as `xtrimogene.get.expression`."""

        def make(body: bytes, media_type: str) -> Awaitable[Answer]:
            host = service.host(model)
            unread = Unread(
                body=body,
                media_type=media_type,
                model=host.model.name,
                input_kind=input_kind,
                kind=kind,
                min_genes=min_genes,
                genes=tuple(gene),
            )
            return service.expression(unread, read_depth=read_depth, through=through)

        return await answer(request, make, "predict_expression")

    @app.post("/v1/annotate", dependencies=guarded, responses=_ANSWERS, openapi_extra=_BODY)
    async def annotate(
        request: Request,
        annotator: str,
        model: Model = None,
        error_rate: Rate = 0.1,
        novelty_rate: Rate = 0.05,
        candidate: Annotated[list[str] | None, Query(description="Labels that may be given; may be repeated.")] = None,
        vote: bool = False,
        min_genes: MinGenes = 200,
    ) -> Response:
        """Return label, confidence, possible labels and whether it is unknown, as `xtrimogene.tl.annotate`.

        The cells of one request are aligned with the reference together, so they answer for each other.
        """

        def make(body: bytes, media_type: str) -> Awaitable[Answer]:
            options = {"error_rate": error_rate, "novelty_rate": novelty_rate, "candidates": candidate, "vote": vote}
            unread = Unread(body=body, media_type=media_type, model=service.host(model).model.name, matched=False)
            return service.annotate(unread, annotator=annotator, options=options | {"min_genes": min_genes})

        return await answer(request, make, "annotate")

    @app.get("/v1/models", dependencies=guarded)
    def models() -> list[dict[str, Any]]:
        """Return what is served."""
        return [_describe(service, name) for name in service.hosts]

    @app.get("/v1/models/{model:path}/genes", dependencies=guarded, responses={404: _ANSWERS[404]})
    def genes(model: str) -> Response:
        """Return the model's genes in order: symbol and Ensembl id, tab-separated."""
        return Response(service.host(model).facts.genes.to_bytes(), media_type="text/tab-separated-values")

    @app.get("/health/live", response_class=PlainTextResponse)
    def live() -> str:
        """Return 200 while the service can answer at all."""
        return "live\n"

    @app.get(
        "/health/ready", response_class=PlainTextResponse, responses={503: {"description": "Not yet, or no more."}}
    )
    def ready() -> Response:
        """Return 200 while all models are loaded."""
        return PlainTextResponse("ready\n" if service.is_ready else "not ready\n", 200 if service.is_ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    def prometheus() -> Response:
        """Return numbers in Prometheus' format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return app


class _Stopped(Exception):
    def __init__(self, status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.headers = status, kind, headers


async def _answered(request: Request, service: Service, make: Callable[[bytes], Awaitable[Answer]]) -> Answer:
    """Take a body in, within the limits, and make an answer of it."""
    limits = service.limits
    text = request.headers.get("content-length", "")
    if text.isdecimal() and int(text) > limits.max_body_bytes:
        raise _too_large(limits)
    until = asyncio.get_running_loop().time() + limits.request_seconds
    with service.room() as hold:
        body = bytearray()
        async with asyncio.timeout(min(limits.body_seconds, limits.request_seconds)):
            async for chunk in request.stream():
                hold(len(chunk))
                body += chunk
                if len(body) > limits.max_body_bytes:
                    raise _too_large(limits)
        return await _in_time(request, make(bytes(body)), until)


def _too_large(limits: Limits) -> LimitError:
    return LimitError(f"A body may have {limits.max_body_bytes:,} bytes and this one has more; send it in parts.")


async def _in_time(request: Request, work: Awaitable[Answer], until: float) -> Answer:
    """Stop working when it takes too long, or nobody waits any more; after the body comes nothing but the end.

    Raises
    ------
    QueueFull
        It took too long only because it waited.
    """

    async def gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        left = until - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait((working, watching), timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if working not in done:
            if watching in done:
                raise ClientDisconnect
            working.cancel()
            await asyncio.wait((working,))
            if working.cancelled():
                raise TimeoutError
        return working.result()
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


def _explain_errors(app: FastAPI) -> None:
    def tell(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": {"type": kind, "message": message}}, status, headers)

    @app.exception_handler(_Stopped)
    def stopped(_: Request, error: _Stopped) -> JSONResponse:
        return tell(error.status, error.kind, str(error), error.headers)

    @app.exception_handler(NoSuchName)
    def unknown(_: Request, error: NoSuchName) -> JSONResponse:
        return tell(404, "NoSuchName", str(error))

    @app.exception_handler(LimitError)
    def too_much(_: Request, error: LimitError) -> JSONResponse:
        return tell(413, "LimitError", str(error))

    @app.exception_handler(QueueFull)
    def full(_: Request, error: QueueFull) -> JSONResponse:
        return tell(
            429,
            "QueueFull",
            f"Too much waits already; ask again in {error.seconds} s.",
            {"Retry-After": str(error.seconds)},
        )

    @app.exception_handler(XTrimoGeneError)
    def refused(_: Request, error: XTrimoGeneError) -> JSONResponse:
        return tell(503 if isinstance(error, CheckpointError) else 422, type(error).__name__, str(error))

    @app.exception_handler(HostFailed)
    def failed(_: Request, error: HostFailed) -> JSONResponse:
        return tell(
            503,
            "HostFailed",
            "The model's process ended of these cells twice, or took too long; send fewer.",
        )

    @app.exception_handler(TimeoutError)
    def late(_: Request, error: TimeoutError) -> JSONResponse:
        return tell(503, "TimeoutError", "The request took longer than it may; send fewer cells.")

    @app.exception_handler(RequestValidationError)
    def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        return tell(422, ConfigError.__name__, f"{place[:80]}: {first['msg']}.")


class _Observed:
    """Counts, times and logs requests, as ASGI: the messages of a request pass through as they are."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, identity, status = time.perf_counter(), uuid4().hex, _GONE

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"x-request-id", identity.encode())]
            await send(message)

        try:
            await self.app(scope, receive, observed)
        except ClientDisconnect:
            pass
        except asyncio.CancelledError:  # the service ends before the answer
            if status != _GONE:
                raise
            told = {"error": {"type": "Closing", "message": "The service is ending; ask again, or ask another."}}
            await JSONResponse(told, 503, {"Retry-After": "5"})(scope, receive, observed)
        except Exception:
            status = 500
            raise
        finally:
            seconds = time.perf_counter() - began
            route, state = getattr(scope.get("route"), "path", "none"), scope.get("state", {})
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            facts = {"id": identity, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
            facts |= {name: state[name] for name in ("num_cells", "holder") if name in state}
            log.info(json.dumps(facts))


def _metrics_of(service: Service) -> Metrics:
    metrics = Metrics()
    hosts = service.hosts
    metrics.watch(
        "waiting_tokens",
        "Expressed genes of cells that wait for a model.",
        "model",
        {name: partial(_waiting, host) for name, host in hosts.items()},
    )
    metrics.watch(
        "process_starts",
        "How often a process was started.",
        "process",
        {child.name: partial(getattr, child, "num_starts") for child in service.children},
    )
    return metrics


def _waiting(host: ModelHost) -> float:
    return float(host.batcher.num_waiting)


def _describe(service: Service, name: str) -> dict[str, Any]:
    facts = service.hosts[name].facts
    return {
        "name": name,
        "model": facts.name,
        "sha256": facts.sha256,
        "genes": len(facts.genes),
        "genes_sha256": facts.genes.sha256,
        "config": facts.config,
        "annotators": list(facts.annotators),
        "card": facts.card,
    }
