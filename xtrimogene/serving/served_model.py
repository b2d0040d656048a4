"""A model as it is hosted: what is computed, in which process, and what happens when that dies."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Thread
from typing import Any, Literal

import numpy as np
from anndata import AnnData
from scipy.sparse import csr_matrix, vstack

from xtrimogene.checkpoint import load
from xtrimogene.config import Pool, require, to_dict
from xtrimogene.data.file_hashes import file_sha256
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.errors import CheckpointError, XTrimoGeneError
from xtrimogene.inference import Inference, default_token_budget
from xtrimogene.serving.batching import Job, MicroBatcher, QueueFull
from xtrimogene.serving.child import Child, ChildDied, ChildHung, ChildNotStarted, Handler
from xtrimogene.serving.limits import Limits
from xtrimogene.serving.wire import Answer
from xtrimogene.tasks.annotation.annotator_folder import FOLDER, load_annotator
from xtrimogene.tl.embedding import require_model

log = logging.getLogger(__name__)
_PASSES = 8  # of the model's own batches in one of ours
_PATIENCE = 0.005
_WARM_GENES = 1_000  # of the cells that the speed is first measured with


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """``place`` is what `xtrimogene.load` takes; ``annotators`` are folders that `fit_annotator` wrote, by name."""

    name: str
    place: str
    annotators: Mapping[str, str] = field(default_factory=dict)
    device: str | None = None
    token_budget: int | None = None

    def __post_init__(self) -> None:
        require(
            self.name not in ("", ".", ".."),
            f"name={self.name!r} cannot stand in the address of the model at {self.place!r}; give it another, as "
            "NAME=PLACE on the command line.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Vectors:
    """Cell vectors, as `Inference.cell_embeddings`."""

    pool: Pool
    read_depth: str
    normalized: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Expression:
    """Predicted expression, as `Inference.expression` or `expression_from_latent`; ``measured`` are packed bits."""

    through: Literal["decoder", "latent"]
    places: tuple[int, ...]
    read_depth: str
    normalized: bool
    measured: bytes


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Labels:
    """Labels of these cells together, as `xtrimogene.tl.annotate`; no two are alike."""

    cells: AnnData
    annotator: str
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What is said of a model that runs; where two are equal, so are their answers. ``annotators`` have a sha256."""

    name: str
    sha256: str
    genes: GeneVocabulary
    pool: Pool
    read_depth: str
    config: Mapping[str, Any]
    token_budget: int = field(compare=False)
    annotators: Mapping[str, str]
    card: Mapping[str, Any] = field(compare=False)


class HostFailed(Exception):
    """The model's process died of these cells twice, or did not answer in time."""


class ModelHost:
    """Runs batches of a `MicroBatcher` in a process; `start` returns when the model is loaded."""

    def __init__(self, model: ServedModel, limits: Limits) -> None:
        self.model, self._limits = model, limits
        self.child: Child[Any, Any] = Child(build_model, model, name=f"model {model.name}")
        self._closed = False
        self._thread = Thread(target=self._run, name=f"host of {model.name}", daemon=True)
        self.batcher: MicroBatcher
        self.facts: ModelFacts

    def start(self) -> None:
        self.child.start()
        self.facts = self.child.call(None, self._limits.batch_seconds)
        self.child.arguments = (self.model, self.facts)  # a process that is started later answers as this one
        self.batcher = MicroBatcher(
            max_tokens=_PASSES * self.facts.token_budget,
            max_waiting=self._limits.max_waiting_tokens,
            max_seconds=self._limits.max_waiting_seconds,
            patience=_PATIENCE,
        )
        self._measure_speed()
        self._thread.start()

    def _measure_speed(self) -> None:
        """Run the model, so that it is warm, and the queue knows from the first request what it can do."""
        facts, number = self.facts, min(len(self.facts.genes), _WARM_GENES)
        counts = np.zeros((max(1, facts.token_budget // number), len(facts.genes)), dtype=np.float32)
        counts[:, :number] = 1
        key = Vectors(pool=facts.pool, read_depth=facts.read_depth, normalized=False)
        for _ in range(2):  # the first is slower than any later one
            began = time.monotonic()
            self.child.call((key, csr_matrix(counts)), self._limits.batch_seconds)
        self.batcher.done(int(counts.sum()), time.monotonic() - began)

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, and what brings it the queue's cells."""
        return self.child.is_alive and self._thread.is_alive()

    def close(self) -> None:
        """End the process; what has not been answered fails."""
        self._closed = True
        self.batcher.drop()
        self.child.close()
        self._thread.join()

    def submit(self, key: Vectors | Expression | Labels, counts: csr_matrix) -> "list[Future[Any]]":
        cost = len(key.places) if isinstance(key, Expression) else 1
        return self.batcher.submit(key, counts, whole=isinstance(key, Labels), tokens_per_cell=cost)

    def _run(self) -> None:
        while (jobs := self.batcher.take(0.5)) is not None:
            if jobs:
                self._answer(jobs)

    def _answer(self, jobs: list[Job]) -> None:
        """Answer a batch; where it fails each job is run alone, so that only the one that makes it fail does."""
        began = time.monotonic()
        counts = vstack([job.counts for job in jobs], format="csr") if len(jobs) > 1 else jobs[0].counts
        tokens = sum(job.num_tokens for job in jobs)
        try:
            answer = self.child.call((jobs[0].key, counts), self._seconds(tokens))
        except (ChildDied, XTrimoGeneError) as error:
            again = not self._closed and (len(jobs) > 1 or (isinstance(error, ChildDied) and not _hung(error)))
            log.error("%d jobs failed (%s)%s", len(jobs), type(error).__name__, "; each is run alone" if again else "")
            for job in jobs:
                self._answer_alone(job) if again else _fail(job, error)
            return
        self.batcher.done(tokens, time.monotonic() - began)
        if len(jobs) == 1:
            jobs[0].result.set_result(answer)
            return
        ends = np.cumsum([job.counts.shape[0] for job in jobs])
        for job, end in zip(jobs, ends.tolist(), strict=True):
            job.result.set_result(answer[end - job.counts.shape[0] : end])

    def _answer_alone(self, job: Job) -> None:
        try:
            job.result.set_result(self.child.call((job.key, job.counts), self._seconds(job.num_tokens)))
        except (ChildDied, XTrimoGeneError) as error:
            _fail(job, error)

    def _seconds(self, tokens: int) -> float:
        """Until these are taken to hang: more for cells that may not be cut."""
        scale = max(1.0, tokens / (_PASSES * self.batcher.max_tokens))
        return min(self._limits.batch_seconds * scale, max(self._limits.batch_seconds, self._limits.request_seconds))


def _hung(error: Exception) -> bool:
    return isinstance(error, ChildHung)


def _fail(job: Job, error: ChildDied | XTrimoGeneError) -> None:
    told: Exception = error
    if isinstance(error, ChildDied):
        told = QueueFull(error.seconds) if isinstance(error, ChildNotStarted) else HostFailed(str(error))
    job.result.set_exception(told)


def build_model(served: ServedModel, before: ModelFacts | None = None) -> Handler[Any, Any]:
    """Load a model and return what computes with it; runs in a `Child`.

    Raises
    ------
    CheckpointError
        It cannot be loaded, or is another than the one ``before``, in whose name it would answer.
    """
    model = load(served.place)
    inference = Inference(model, device=served.device, token_budget=served.token_budget)
    placed = replace(model, network=inference.network)  # on the device: `annotate` would copy it there at each request
    annotators = {name: load_annotator(folder) for name, folder in served.annotators.items()}
    for name, annotator in annotators.items():
        require_model(annotator.card["model"], model, f"annotator {name!r} was fitted on", "fit again")
    facts = ModelFacts(
        name=model.name,
        sha256=model.sha256,
        genes=model.genes,
        pool=model.config.pool,
        read_depth=model.config.read_depth,
        config=to_dict(model.config),
        token_budget=served.token_budget or default_token_budget(inference.device, model.config.encoder.dim),
        annotators={name: file_sha256(Path(folder, FOLDER.json_name)) for name, folder in served.annotators.items()},
        card=model.card,
    )
    if before not in (None, facts):
        raise CheckpointError(
            f"The model at {served.place!r}, or an annotator, was replaced since {served.name!r} was first loaded; "
            "start the service again to serve the new one."
        )

    def handle(asked: tuple[Vectors | Expression | Labels, csr_matrix] | None) -> Any:
        if asked is None:
            return facts
        key, counts = asked
        if isinstance(key, Vectors):
            return inference.cell_embeddings(
                counts, pool=key.pool, read_depth=key.read_depth, normalized=key.normalized
            )
        if isinstance(key, Expression):
            places = np.array(key.places, dtype=np.int64)
            common: dict[str, Any] = {"genes": places, "read_depth": key.read_depth, "normalized": key.normalized}
            if key.through == "latent":
                return inference.expression_from_latent(counts, **common)
            bits = np.unpackbits(np.frombuffer(key.measured, np.uint8), count=len(model.genes)).astype(bool)
            return inference.expression(counts, measured=bits, **common)
        return label(key)

    def label(asked: Labels) -> Answer:
        import warnings

        from xtrimogene import tl

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            cells = tl.annotate(
                asked.cells,
                annotator=annotators[asked.annotator],
                model=placed,
                device=served.device,
                token_budget=served.token_budget,
                progress=False,
                **asked.options,
            )
        columns = {
            name.removeprefix("xtrimogene_"): column.astype(object).where(column.notna(), None).to_numpy(object)
            if column.dtype == "category"
            else column.to_numpy()
            for name, column in cells.obs.items()
        }
        said = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        return Answer(columns=columns, meta={"record": cells.uns["xtrimogene_annotation"], "warnings": said})

    return handle
