"""Answers for a user's rows: a probability or a value, how sure it is, and how new the row is to what was learned.

Letters: N rows; K drugs of a row, 1 or 2; D drugs; L lines; C width of a line's vector; U rows that were learned.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64, Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.synergy.held_out import HeldOut, measure, probabilities, ways_to_leave_out
from xtrimogene.tasks.synergy.learned import Learned, Progress, ResponseConfig
from xtrimogene.tasks.synergy.novelty import CALIBRATED_BY, TESTED_BY, Novelty, Way, novelty_of, sorted_rows
from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows


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

    ``cells`` are the vectors of the lines. ``seen`` are the rows learned: the drugs of each in ascending order, then
    the line. ``card["model"]`` says whose vectors of cell lines are read, and how they were made.
    """

    learned: Learned
    smiles: tuple[str, ...]
    lines: tuple[str, ...]
    cells: Float32[np.ndarray, "L C"]
    seen: Int64[np.ndarray, "U _"]
    held_out: Mapping[Way, HeldOut]
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
            Too few rows, drugs or lines to leave any out, labels of one kind only, or drugs that all look the same.

        Warns
        -----
        UserWarning
            What this table cannot test: answers as new as that come without a held-out figure.
        """
        _check_rows(rows, labels)
        if config.drug_view == "fingerprint" and not drugs.fingerprints[np.unique(rows.drugs)].std(axis=0).any():
            raise ConfigError("all drugs of the table have the same fingerprint and cannot be told apart; add others.")
        of_rows = None if tissues is None else tissues[rows.lines]
        held_out: dict[Way, HeldOut] = {}
        for way in ways_to_leave_out(rows, of_rows):
            found = measure(
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
            if not found:
                warnings.warn(
                    f"nothing could be measured with {way}s left out: too few rows are left to learn from, or to test.",
                    UserWarning,
                    stacklevel=2,
                )
            held_out |= found
        learned = Learned.fit(rows, drugs, cells, config, labels=labels, seed=seed, progress=progress)
        return cls(
            learned=learned,
            smiles=drugs.smiles,
            lines=tuple(lines),
            cells=cells,
            seen=np.unique(sorted_rows(rows), axis=0),
            held_out=held_out,
            card=card or {},
        )

    def predict(self, rows: ResponseRows, drugs: DrugSet, cells: Float32[np.ndarray, "L C"]) -> Answers:
        """Answer rows; drugs and lines begin with those learned from, in their order, and may go on with new ones."""
        assert drugs.smiles[: len(self.smiles)] == self.smiles
        novelty = novelty_of(rows, self.seen)
        answer = self.learned.predict(rows, drugs, cells)
        spread = self.learned.network_answers(rows, drugs, cells).std(axis=0)
        if self.learned.effects is not None:
            spread = spread / 2
        value = answer
        if self.learned.labels:
            lines_of = {one: self._calibration(one) for one in np.unique(novelty).tolist()}
            slope, shift = np.array([lines_of[one] for one in novelty.tolist()], np.float32).T
            value = probabilities(slope * answer + shift)
            spread = slope * spread * value * (1 - value)
        metric = "auroc" if self.learned.labels else "pearson"
        like = [self.held_out.get(TESTED_BY[one]) if one in TESTED_BY else None for one in novelty.tolist()]
        return Answers(
            value=value.astype(np.float32),
            spread=spread.astype(np.float32),
            novelty=novelty,
            held_out=np.array([one.scores[metric] if one else np.nan for one in like], np.float32),
            error_90=np.array([one.error_90 if one else np.nan for one in like], np.float32),
        )

    def _calibration(self, novelty: Novelty) -> tuple[float, float]:
        """Return slope and shift of the held-out rows nearest to this novelty; 1 and 0 where none could be held out."""
        tested = [self.held_out[way] for way in CALIBRATED_BY[novelty] if way in self.held_out]
        return (tested[0].slope, tested[0].shift) if tested else (1.0, 0.0)


def _check_rows(rows: ResponseRows, labels: bool) -> None:
    for what, number in (("drugs", len(np.unique(rows.drugs))), ("cell lines", len(np.unique(rows.lines)))):
        if number < 4:
            raise ConfigError(f"the table has {number} {what}; at least 4 are needed to leave some out and learn.")
    if len(rows) < 20:
        raise ConfigError(f"the table has {len(rows)} rows; at least 20 are needed to leave some out and learn.")
    if labels and len(np.unique(rows.target)) < 2:
        raise ConfigError("all labels are the same; both 0 and 1 are needed.")
