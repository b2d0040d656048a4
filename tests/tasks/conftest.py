"""Kinds of cells with an embedding in the plane, and ten genes of their own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from xtrimogene.tasks.annotation.annotator import Annotation, Annotator, reference_folds
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Learned, Views
from xtrimogene.tasks.annotation.tuned import Tuned

CENTERS = {"B cell": (0.0, 0.0), "T cell": (8.0, 0.0), "platelet": (4.0, 30.0)}
NUM_GENES, NUM_READ = 45, 40


@dataclass(frozen=True)
class Cells:
    embedding: np.ndarray
    counts: csr_matrix
    labels: np.ndarray
    read: np.ndarray

    def rows(self, rows: np.ndarray | slice) -> "Cells":
        return Cells(self.embedding[rows], self.counts[rows], self.labels[rows], self.read)

    def named(self, labels: np.ndarray) -> "Cells":
        return replace(self, labels=labels)

    def at(self, embedding: np.ndarray) -> "Cells":
        return replace(self, embedding=embedding)

    def fit(self, **options: Any) -> Annotator:
        options = {"baselines": False, "read": self.read} | options
        if options.get("method") == "finetune" and "tuned" not in options:
            options["tuned"] = self.tuned()
        return Annotator.fit(self.embedding, self.counts, self.labels, **options)

    def tuned(self) -> Tuned:
        """Return what tuning would if it left the embedding as it is."""
        splits = reference_folds(self.labels, None, num_folds=3)
        weights = {"encoder.norm.weight": torch.ones(2)}
        return Tuned(
            weights=weights, embedding=self.embedding, splits=splits, folds=(self.embedding,) * 3, losses=(1.0, 0.5)
        )

    def learn(self, method: AnnotationMethod = "linear") -> Learned:
        return Learned.fit(method, self.embedding, self.counts, self.labels, read=self.read)

    def seen_by(self, learned: Learned) -> Views:
        return learned.view(self.embedding, self.counts, self.read)

    def asked(self, annotator: Annotator, **options: Any) -> Annotation:
        return annotator.annotate(self.seen_by(annotator.learned), **options)


def draw(numbers: Mapping[str, int], seed: int = 0) -> Cells:
    random = np.random.default_rng(seed)
    labels = np.repeat(list(numbers), list(numbers.values()))
    rates = np.full((len(labels), NUM_GENES), 3.0)
    for place, kind in enumerate(CENTERS):
        rates[labels == kind, 10 * place : 10 * place + 10] = 25.0
    rates[:, NUM_READ:] = 0
    embedding = random.normal(np.array([CENTERS[kind] for kind in labels]), 1.0).astype(np.float32)
    counts = csr_matrix(random.poisson(rates).astype(np.float32))
    return Cells(embedding, counts, labels, np.arange(NUM_GENES) < NUM_READ)


@pytest.fixture(scope="session")
def draw_kinds() -> Callable[..., Cells]:
    return draw


@pytest.fixture(scope="session")
def reference() -> Cells:
    return draw({"B cell": 60, "T cell": 40})
