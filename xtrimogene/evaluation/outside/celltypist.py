"""CellTypist: its logistic regression on all genes (Dominguez Conde et al., 2022)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from anndata import AnnData
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.comparison import Method
from xtrimogene.evaluation.outside.quiet import quiet
from xtrimogene.evaluation.trials import Answer, Lesson

CELLTYPIST = Method(features="CellTypist", classifier=None)


class OneVsRest(LogisticRegression):  # type: ignore[misc]
    """What CellTypist asks scikit-learn for, which has no ``multi_class`` since 1.8 (Teichlab/celltypist issue 164).

    Its other way to learn, gradient descent, is far weaker where cells are few.
    """

    def __init__(
        self, *, C: float, solver: str, max_iter: int, multi_class: str = "ovr", n_jobs: int | None = None
    ) -> None:
        super().__init__(C=C, solver=solver, max_iter=max_iter)

    def fit(self, values: Any, labels: Any) -> "OneVsRest":
        one = LogisticRegression(C=self.C, solver=self.solver, max_iter=self.max_iter)
        fitted = OneVsRestClassifier(one).fit(values, labels)
        self.classes_ = fitted.classes_
        self.coef_ = np.vstack([each.coef_ for each in fitted.estimators_])
        self.intercept_ = np.concatenate([each.intercept_ for each in fitted.estimators_])
        return self


def run_celltypist(lesson: Lesson) -> Mapping[Method, Answer]:
    """Train on the cells learned from, with its own settings, and label the others one by one."""
    genes = pd.Index([f"gene {number}" for number in range(lesson.counts.shape[1])])
    with quiet(lesson.seed):
        import celltypist

        with patch.object(import_module("celltypist.train"), "LogisticRegression", OneVsRest):
            model = celltypist.train(
                log_normalize(lesson.counts), labels=lesson.labels.astype(str), genes=genes.to_numpy()
            )
        asked = AnnData(log_normalize(lesson.asked), var=pd.DataFrame(index=genes))
        found = celltypist.annotate(asked, model=model)
    return {CELLTYPIST: Answer(labels=found.predicted_labels["predicted_labels"].to_numpy(dtype=str))}
