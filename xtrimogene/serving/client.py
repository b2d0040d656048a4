"""Ask a service from Python: the same code as `xtrimogene.tl` around the model, so the same fields and numbers."""

import os
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
from anndata import AnnData
from jaxtyping import Float32
from scipy.sparse import csr_matrix

from xtrimogene import errors
from xtrimogene.config import ModelConfig, Pool, from_dict
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.counts import InputKind, SampleKind
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.errors import ConfigError, LimitError, MissingExtraError, ServiceError, XTrimoGeneError
from xtrimogene.inference import vector_width
from xtrimogene.serving.wire import ARROW, Answer, ModelGenes, WireCells, read_answer, write_cells
from xtrimogene.tasks.annotation.annotator import check_options
from xtrimogene.tl.answer_columns import UNKNOWN, write_columns
from xtrimogene.tl.embedding import read_vectors, reading_record, record_key, warn_of_unread, write_vectors
from xtrimogene.tl.label_options import read_candidates

_AT_ONCE = 4  # requests that are on their way, so that the service never waits for us
_RETRIED = (429, 502, 503, 504)
_POISON = ("HostFailed", "TimeoutError", "CheckpointError")  # what is sent again fails again


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RemoteModel:
    """What `Client.embed` has to know of a model that runs elsewhere."""

    name: str
    sha256: str
    genes: GeneVocabulary
    config: ModelConfig
    served_as: str


class Client:
    """A service at a URL; close it, or use it as a context manager.

    Parameters
    ----------
    url
        Such as "http://127.0.0.1:8000".
    token
        Where the service asks for one.
    timeout
        Seconds without an answer until a request is taken to be lost.
    patience
        Seconds for which a request that the service could not take, or that was lost, is sent again.
    cells_per_request
        At most; the service has limits of its own.

    Raises
    ------
    MissingExtraError
        Without the extra ``client``.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 600.0,
        patience: float = 300.0,
        cells_per_request: int = 1_000,
    ) -> None:
        try:
            import httpx
        except ImportError:
            raise MissingExtraError("xt.Client needs an extra: pip install 'xtrimogene[client]'.") from None
        if cells_per_request < 1 or timeout <= 0 or patience < 0:
            raise ConfigError("cells_per_request and timeout must be positive, and patience not negative.")
        token = None if token is None else token.strip()
        if token is not None and (not token.isascii() or not token.isprintable() or len(token.split()) != 1):
            raise ConfigError("The token is not one word of ASCII; give what the service's file has after the name.")
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL()
        if address.scheme not in ("http", "https") or not address.host:
            shown = url.rpartition("@")[2]  # before it may stand a password
            raise ConfigError(f"url={shown!r} is no address of a service; give 'http://host:port'.")
        auth = (address.username, address.password) if address.userinfo else None
        self.url = str(address.copy_with(userinfo=b"")).rstrip("/")
        self._patience, self._cells = patience, cells_per_request
        self._lost = (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError)
        self._wrong = (httpx.InvalidURL, httpx.TransportError)
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self._http = httpx.Client(
            base_url=self.url, auth=auth, headers=headers, timeout=httpx.Timeout(timeout, connect=10)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return what is served: names, annotators, cards."""
        response = self._ask("GET", "/v1/models")
        with self._reading():
            return [dict(one) for one in response.json()]

    def embed(
        self,
        adata: AnnData | str | os.PathLike[str],
        model: str | None = None,
        *,
        layer: str | None = None,
        input_kind: InputKind = "auto",
        kind: SampleKind = "single_cell",
        pool: Pool | None = None,
        read_depth: str | None = None,
        key_added: str = "X_xtrimogene",
        min_genes: int = 200,
        progress: bool = True,
    ) -> AnnData:
        """Write one vector per cell into ``adata.obsm[key_added]``, as `xtrimogene.tl.embed` does, within 1e-5.

        Counts are found, checked and matched here; only those over the model's genes are sent, block by block.

        Parameters
        ----------
        model
            A name that the service has. Default: its first.
        adata, layer, input_kind, kind, pool, read_depth, key_added, min_genes
            As in `xtrimogene.tl.embed`.

        Raises
        ------
        ServiceError
            The service cannot be reached, has no such model, or refuses the token.
        LimitError
            One cell is more than it takes in a request.
        CountsError, GeneMatchError, FileFormatError, ConfigError
            As in `xtrimogene.tl.embed`.
        """
        record = record_key(key_added)
        remote = self.model(model)
        found = read_vectors(
            adata,
            _RemoteInference(self, remote, kind),
            remote,
            layer=layer,
            input_kind=input_kind,
            kind=kind,
            pool=pool,
            read_depth=read_depth,
            min_genes=min_genes,
            progress=progress,
        )
        warn_of_unread(found)
        return write_vectors(adata, found, key_added, record, precision="float32")

    def annotate(
        self,
        query: AnnData | str | os.PathLike[str],
        *,
        annotator: str,
        model: str | None = None,
        candidates: Iterable[str] | None = None,
        error_rate: float = 0.1,
        novelty_rate: float = 0.05,
        vote: bool = False,
        key_added: str = "xtrimogene",
        min_genes: int = 200,
    ) -> AnnData:
        """Write labels and how sure they are into ``query.obs``, as `xtrimogene.tl.annotate` with an annotator does.

        All cells go in one request, as they are aligned with the reference together.

        Parameters
        ----------
        annotator
            A name that the service has for this model (`models`).
        query, candidates, error_rate, novelty_rate, vote, key_added, min_genes
            As in `xtrimogene.tl.annotate`.

        Raises
        ------
        As `embed`; LimitError where there are more cells than the service takes in a request.
        """
        check_options(method="ensemble", error_rate=error_rate, novelty_rate=novelty_rate)
        key_added, candidates = record_key(key_added), read_candidates(candidates)
        if candidates is not None and not candidates:
            raise ConfigError("candidates is empty: name the labels that may be given, or leave it out.")
        remote = self.model(model)
        with open_cells(query) as cells:
            counts = MatchedCounts.find(cells, remote.genes)
            counts.require(min_genes=min_genes, all_rows=isinstance(query, AnnData))
            matrix, obs = counts.all(), cells.obs.copy()
            report, read = counts.report(), {"matrix": counts.choice.matrix, "read_as": counts.choice.input_kind}
            genes = ModelGenes(sha256=remote.genes.sha256, measured=counts.match.measured)
        asked = {"annotator": annotator, "error_rate": error_rate, "novelty_rate": novelty_rate, "vote": vote}
        if candidates is not None:
            asked["candidate"] = list(candidates)
        asked["min_genes"] = 1  # how many there are was looked at here
        answer = self._send("/v1/annotate", remote, WireCells(counts=matrix, genes=genes), asked, "label")
        for message in answer.meta["warnings"]:
            warnings.warn(message, UserWarning, stacklevel=2)
        written = query if isinstance(query, AnnData) else AnnData(obs=obs)
        labels = list(dict.fromkeys([*answer.meta["record"]["candidates"], UNKNOWN]))
        columns: dict[str, Any] = {}
        for name, column in answer.columns.items():
            columns[name] = column
            if name in ("label", "voted"):
                columns[name] = pd.Categorical(column, categories=pd.Index(labels))
            elif column.dtype == object:
                columns[name] = pd.Categorical(column)
        write_columns(written, columns, key_added)
        record = answer.meta["record"]
        options = record["options"] | read | {"min_genes": min_genes}
        record |= reading_record(remote.name, remote.sha256, options, report)
        written.uns[f"{key_added}_annotation"] = record
        return written

    def model(self, name: str | None = None) -> RemoteModel:
        """Return what is known of a model that the service has.

        Raises
        ------
        ServiceError
            It has none of this name.
        """
        served = self.models()
        with self._reading():
            known = {str(one["name"]): one for one in served}
        served_as = next(iter(known), None) if name is None else name
        if served_as not in known:
            raise ServiceError(f"{self.url} has no model {name!r}; it has {', '.join(known) or 'none'}.")
        facts, response = known[served_as], self._ask("GET", f"/v1/models/{quote(served_as, safe='')}/genes")
        with self._reading():
            _, *rows = (line.split("\t") for line in response.content.decode().rstrip("\n").split("\n"))
            genes = GeneVocabulary(tuple(row[0] for row in rows), tuple(row[1] for row in rows))
            config = from_dict(ModelConfig, facts["config"], "model")
            if len(genes) != config.num_genes:
                raise ValueError(f"{len(genes):,} genes of {config.num_genes:,} came")
            return RemoteModel(
                name=facts["model"], sha256=facts["sha256"], genes=genes, config=config, served_as=served_as
            )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Say in one sentence that an answer is none of our service, whatever was tripped over in it."""
        try:
            yield
        except (ValueError, TypeError, LookupError, OSError, NotImplementedError) as error:
            reason = str(error).partition("\n")[0][:200]
            raise ServiceError(
                f"{self.url} does not answer as a service of this version does ({type(error).__name__}: {reason}); "
                "check the address, and the version there."
            ) from None

    def _send(
        self,
        route: str,
        model: RemoteModel,
        cells: WireCells,
        asked: dict[str, Any],
        *columns: str,
        given_up: Event | None = None,
    ) -> Answer:
        asked = {"model": model.served_as, **asked}
        response = self._ask("POST", route, given_up, params=asked, content=write_cells(cells))
        with self._reading():
            answer = read_answer(response.content)
            lengths = {name: len(column) for name, column in answer.columns.items()}
            if set(lengths.values()) != {cells.counts.shape[0]} or not {*columns} <= {*lengths}:
                raise ValueError(f"{cells.counts.shape[0]} cells were sent, and {lengths or 'nothing'} came back")
            return answer

    def _ask(self, method: str, route: str, given_up: Event | None = None, **request: Any) -> Any:
        """Send a request until it is answered, or given up: nothing changes by it, so it may be sent again."""
        until, wait, given_up = time.monotonic() + self._patience, 0.2, given_up or Event()
        headers = {"Content-Type": ARROW} if "content" in request else {}
        while True:
            try:
                response = self._http.request(method, route, headers=headers, **request)
                if response.status_code < 300:
                    return response
                problem, kind = _problem(response)
                pause = _retry_after(response)
                if response.status_code not in _RETRIED or kind in _POISON:
                    raise problem
            except self._lost as error:
                reason = str(error) or type(error).__name__
                problem = ServiceError(f"{self.url} cannot be reached ({reason}); is the service there?")
                pause = 0.0
            except self._wrong as error:
                raise ServiceError(f"{self.url} cannot be asked for this ({error}); check the address.") from None
            pause = max(pause, wait * (0.5 + random.random()))  # so that many clients do not come back at once
            if time.monotonic() + pause > until or given_up.wait(pause):
                raise problem
            wait = min(2 * wait, 10.0)


class _RemoteInference:
    """Stands where `Inference` stands; its cells are read elsewhere."""

    def __init__(self, client: Client, model: RemoteModel, kind: SampleKind) -> None:
        self._client, self._model, self._kind = client, model, kind
        self._measured = np.ones(len(model.genes), dtype=bool)  # vectors do not depend on it

    def embedding_dim(self, pool: Pool | None = None) -> int:
        return vector_width(self._model.config, pool)

    def cell_embeddings(
        self,
        counts: csr_matrix,
        *,
        pool: Pool | None = None,
        read_depth: str | None = None,
        normalized: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Float32[np.ndarray, "B _"]:
        asked = {"pool": pool, "read_depth": read_depth, "kind": self._kind}
        asked = {name: value for name, value in asked.items() if value is not None}
        if normalized:
            asked["input_kind"] = "log1p"
        genes = ModelGenes(sha256=self._model.genes.sha256, measured=self._measured)

        def vectors(start: int) -> Float32[np.ndarray, "b _"]:
            return sent(counts[start : start + self._client._cells])

        def sent(block: csr_matrix) -> Float32[np.ndarray, "b _"]:
            try:
                cells = WireCells(counts=block, genes=genes)
                answer = self._client._send("/v1/embed", self._model, cells, asked, "vector", given_up=given_up)
            except LimitError:  # the service's own, which is not ours to know
                if block.shape[0] == 1:
                    raise
                half = block.shape[0] // 2
                return np.concatenate([sent(block[:half]), sent(block[half:])])
            return answer.columns["vector"]

        parts, given_up, threads = [], Event(), ThreadPoolExecutor(_AT_ONCE)
        try:
            for part in threads.map(vectors, range(0, counts.shape[0], self._client._cells)):
                parts.append(part)
                if progress is not None:
                    progress(len(part))
        finally:  # Ctrl-C does not wait for what is on its way, and none of it is sent again
            given_up.set()
            threads.shutdown(wait=False, cancel_futures=True)
        empty = np.zeros((0, self.embedding_dim(pool)), dtype=np.float32)
        return np.concatenate([empty, *parts])


def _problem(response: Any) -> tuple[XTrimoGeneError, str]:
    """Return the error that the service raised, as it would have been here, and what it is called there."""
    try:
        told = response.json()["error"]
        kind, message = str(told["type"]), str(told["message"])
    except (ValueError, KeyError, TypeError):
        if response.status_code == 413:  # as a proxy says it, whose limit may be lower than the service's
            return LimitError("The way to the service takes less in one request; send fewer cells at once."), "unknown"
        told = f"The service answered {response.status_code}, in words not its own; ask who runs it."
        return ServiceError(told), "unknown"
    known = getattr(errors, kind, ServiceError)
    if isinstance(known, type) and issubclass(known, XTrimoGeneError):
        return known(message), kind
    return ServiceError(message), kind


def _retry_after(response: Any) -> float:
    """Return seconds; a date, which nobody here sends, is taken as soon."""
    text = response.headers.get("retry-after", "0")
    return float(text) if text.isdecimal() else 1.0
