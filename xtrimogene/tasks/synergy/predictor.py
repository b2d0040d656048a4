"""Answers for a user's rows: a probability or a value, how sure it is, and how new the row is to what was learned.

Letters: N rows; K drugs of a row, 1 or 2; D drugs; L lines; C width of a line's vector; U rows that were learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.pair_splits import LeftOut
from xtrimogene.tasks.synergy.held_out import HeldOut, measure, probabilities, ways_to_leave_out
from xtrimogene.tasks.synergy.learned import Learned, Progress, ResponseConfig
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

Novelty = Literal[
    "measured",
    "known drug",
    "known pair",
    "new pair",
    "new drug",
    "new cell line",
    "new pair, new cell line",
    "new drug, new cell line",
]
TESTED_BY: Mapping[str, LeftOut] = {  # which held-out rows are like such a row; none are for two novelties at once
    "known drug": "measurement",
    "known pair": "measurement",
    "new pair": "pair",
    "new drug": "drug",
    "new cell line": "cell_line",
}
CALIBRATED_BY: Mapping[str, LeftOut] = {
    **TESTED_BY,
    "measured": "measurement",
    "new pair, new cell line": "cell_line",
    "new drug, new cell line": "drug",
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Answers:
    """One entry a row: ``value`` is a probability or a value, ``spread`` its standard deviation over networks.

    ``held_out`` is what was measured on held-out rows as new as this: AUROC, or Pearson's correlation; NaN where no
    such rows could be held out. ``error_90``, for values: nine in ten of those were off by less.
    """

    value: Float32[np.ndarray, " N"]
    spread: Float32[np.ndarray, " N"]
    novelty: Shaped[np.ndarray, " N"]
    held_out: Float32[np.ndarray, " N"]
    error_90: Float32[np.ndarray, " N"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResponsePredictor:
    """What was learned, of which drugs (canonical SMILES) and lines, and what it is worth.

    ``seen`` are the rows learned: the drugs of each in ascending order, then the line. ``card["model"]`` says whose
    vectors of cell lines are read, and how they were made.
    """

    learned: Learned
    smiles: tuple[str, ...]
    lines: tuple[str, ...]
    seen: Int64[np.ndarray, "U _"]
    held_out: Mapping[LeftOut, HeldOut]
    card: Mapping[str, Any]

    @property
    def num_drugs(self) -> int:
        """Drugs of a row."""
        return self.seen.shape[1] - 1

    @classmethod
    def fit(
        cls,
        rows: ResponseRows,
        drugs: DrugSet,
        lines: Sequence[str],
        cells: Float32[np.ndarray, "L C"],
        config: ResponseConfig,
        *,
        labels: bool,
        tissues: Shaped[np.ndarray, " L"] | None = None,
        num_folds: int = 5,
        seed: int = 0,
        card: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> "ResponsePredictor":
        """Measure what can be left out, then learn all rows.

        Raises
        ------
        ConfigError
            Too few rows, drugs or lines to leave any out, or labels of one kind only.
        """
        _check_rows(rows, labels)
        of_rows = None if tissues is None else tissues[rows.lines]
        held_out = {
            way: measure(
                rows,
                drugs,
                cells,
                config,
                way,
                labels=labels,
                tissues=of_rows,
                num_folds=num_folds,
                seed=seed,
                progress=progress,
            )
            for way in ways_to_leave_out(rows, of_rows)
        }
        learned = Learned.fit(rows, drugs, cells, config, labels=labels, seed=seed, progress=progress)
        return cls(
            learned=learned,
            smiles=drugs.smiles,
            lines=tuple(lines),
            seen=np.unique(_sorted(rows), axis=0),
            held_out=held_out,
            card=card or {},
        )

    def predict(self, rows: ResponseRows, drugs: DrugSet, cells: Float32[np.ndarray, "L C"]) -> Answers:
        """Answer rows; drugs and lines begin with those learned from, in their order, and may go on with new ones."""
        assert drugs.smiles[: len(self.smiles)] == self.smiles
        novelty = self.novelty(rows)
        answer = self.learned.predict(rows, drugs, cells)
        spread = self.learned.network_answers(rows, drugs, cells).std(axis=0)
        if self.learned.effects is not None:
            spread = spread / 2
        value = answer
        if self.learned.labels:
            tested = [self.held_out[CALIBRATED_BY[one]] for one in novelty.tolist()]
            slope = np.array([one.slope for one in tested], np.float32)
            value = probabilities(slope * answer + np.array([one.shift for one in tested], np.float32))
            spread = slope * spread * value * (1 - value)
        metric, like = "auroc" if self.learned.labels else "pearson", [TESTED_BY.get(one) for one in novelty.tolist()]
        return Answers(
            value=value.astype(np.float32),
            spread=spread.astype(np.float32),
            novelty=novelty,
            held_out=np.array([self.held_out[one].scores[metric] if one else np.nan for one in like], np.float32),
            error_90=np.array([self.held_out[one].error_90 if one else np.nan for one in like], np.float32),
        )

    def novelty(self, rows: ResponseRows) -> Shaped[np.ndarray, " N"]:
        """Say what of each row was not learned from."""
        measured = set(map(tuple, self.seen.tolist()))
        combinations = {one[:-1] for one in measured}
        drugs, lines = {drug for one in combinations for drug in one}, {one[-1] for one in measured}
        kind = "pair" if self.num_drugs > 1 else "drug"

        def name(one: tuple[int, ...]) -> str:
            if one in measured:
                return "measured"
            new = [] if one[:-1] in combinations else ["new pair" if drugs.issuperset(one[:-1]) else "new drug"]
            return ", ".join([*new, *([] if one[-1] in lines else ["new cell line"])]) or f"known {kind}"

        return np.array([name(tuple(one)) for one in _sorted(rows).tolist()], dtype=np.str_)


def _sorted(rows: ResponseRows) -> Int64[np.ndarray, "N _"]:
    return np.concatenate([np.sort(rows.drugs, axis=1), rows.lines[:, None]], axis=1)


def _check_rows(rows: ResponseRows, labels: bool) -> None:
    for what, number in (("drugs", len(np.unique(rows.drugs))), ("cell lines", len(np.unique(rows.lines)))):
        if number < 4:
            raise ConfigError(f"the table has {number} {what}; at least 4 are needed to leave some out and learn.")
    if len(rows) < 20:
        raise ConfigError(f"the table has {len(rows)} rows; at least 20 are needed to leave some out and learn.")
    if labels and len(np.unique(rows.target)) < 2:
        raise ConfigError("all labels are the same; both 0 and 1 are needed.")
