"""What a network has to beat: additive effects, effects with those of known pairs, gradient boosting.

Each learns from rows of a table and answers others: log odds of a label, or a value.
Letters: N rows; K drugs of a row; D drugs; L lines; X columns; F bits; C width of a line's vector.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Float32
from scipy.sparse import csr_matrix, hstack
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, Ridge

from xtrimogene.tasks.synergy.response_table import ResponseRows

RIDGE = 1.0  # of one-hot columns: a unit with one row is pulled half-way to the mean of all


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Effects:
    """Drug effects + line effect (+ effect of the combination), each pulled to zero: ridge, or logistic for labels.

    What was never seen has no effect. ``combinations`` maps a known combination to its column.
    """

    weights: Float[np.ndarray, " X"]
    bias: float
    num_drugs: int
    num_lines: int
    combinations: dict[tuple[int, ...], int]

    @classmethod
    def fit(
        cls, rows: ResponseRows, *, num_drugs: int, num_lines: int, labels: bool, combined: bool = False
    ) -> "Effects":
        known = sorted(set(_keys(rows))) if combined else []
        first = num_drugs + num_lines
        made = cls(
            weights=np.zeros(first + len(known)),
            bias=0.0,
            num_drugs=num_drugs,
            num_lines=num_lines,
            combinations={key: first + place for place, key in enumerate(known)},
        )
        columns = made._columns(rows)
        if labels and np.ptp(rows.target) == 0:  # of one label only, nothing can be said but how many there are
            ones, number = float(rows.target.sum()), len(rows)
            return replace(made, bias=float(np.log((ones + 0.5) / (number - ones + 0.5))))
        if labels:
            model: Any = LogisticRegression(C=1 / RIDGE, max_iter=1000).fit(columns, rows.target)
        else:
            model = Ridge(alpha=RIDGE).fit(columns, rows.target)
        weights = np.ravel(model.coef_).astype(np.float64)
        return replace(made, weights=weights, bias=float(np.ravel(model.intercept_)[0]))

    def predict(self, rows: ResponseRows) -> Float32[np.ndarray, " N"]:
        return np.asarray(self._columns(rows) @ self.weights + self.bias, dtype=np.float32)

    def _columns(self, rows: ResponseRows) -> csr_matrix:
        simple = one_hot(rows, self.num_drugs, self.num_lines)
        if not self.combinations:
            return simple
        column = np.array([self.combinations.get(key, -1) for key in _keys(rows)], dtype=np.int64)
        known, first = np.flatnonzero(column >= 0), self.num_drugs + self.num_lines
        shape = (len(rows), len(self.combinations))
        pairs = csr_matrix((np.ones(len(known), np.float32), (known, column[known] - first)), shape=shape)
        return csr_matrix(hstack([simple, pairs]))


def one_hot(rows: ResponseRows, num_drugs: int, num_lines: int) -> csr_matrix:
    """Return 1 for each drug of a row and for its line; those at later places are new and have no column."""
    number, width = rows.drugs.shape
    row = np.concatenate([np.repeat(np.arange(number), width), np.arange(number)])
    known = np.concatenate([rows.drugs.ravel() < num_drugs, rows.lines < num_lines])
    column = np.concatenate([rows.drugs.ravel(), num_drugs + rows.lines])[known]
    shape = (number, num_drugs + num_lines)
    return csr_matrix((np.ones(len(column), np.float32), (row[known], column)), shape=shape)


def boost_one_hot(
    train: ResponseRows, test: ResponseRows, *, num_drugs: int, num_lines: int, labels: bool, seed: int
) -> Float32[np.ndarray, " B"]:
    """Gradient boosting on which drugs and which line."""
    columns = [one_hot(rows, num_drugs, num_lines).toarray() for rows in (train, test)]
    return _boost(columns[0], train.target, columns[1], labels, seed)


def boost_fingerprints(
    train: ResponseRows,
    test: ResponseRows,
    fingerprints: Float32[np.ndarray, "D F"],
    cells: Float32[np.ndarray, "L C"],
    *,
    labels: bool,
    seed: int,
) -> Float32[np.ndarray, " B"]:
    """Gradient boosting on the sum of the drugs' fingerprints, or of axes of these, and the line's vector."""
    columns = [
        np.hstack([fingerprints[rows.drugs].sum(axis=1), cells[rows.lines]]).astype(np.float32)
        for rows in (train, test)
    ]
    return _boost(columns[0], train.target, columns[1], labels, seed)


def _boost(
    known: Float32[np.ndarray, "A X"],
    target: Float32[np.ndarray, " A"],
    asked: Float32[np.ndarray, "B X"],
    labels: bool,
    seed: int,
) -> Float32[np.ndarray, " B"]:
    used = np.ptp(known, axis=0) > 0
    if labels:
        model = HistGradientBoostingClassifier(random_state=seed).fit(known[:, used], target)
        return np.asarray(model.decision_function(asked[:, used]), dtype=np.float32)
    model = HistGradientBoostingRegressor(random_state=seed).fit(known[:, used], target)
    return np.asarray(model.predict(asked[:, used]), dtype=np.float32)


def _keys(rows: ResponseRows) -> list[tuple[int, ...]]:
    return [tuple(key) for key in np.sort(rows.drugs, axis=1).tolist()]
