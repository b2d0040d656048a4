"""Which rows of a drug response table are tested: one or two drugs on a cell line in each row.

What a split leaves out is in no training row: a measurement, a combination of drugs (in either order), a drug, a cell
line, a tissue. Letters: N rows; K drugs of a row, 1 or 2; U units, what is left out.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int, Int64, Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split

LeftOut = Literal["measurement", "pair", "drug", "cell_line", "tissue"]
NONE = -1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PairSplits:
    """The splits of one seed; ``units`` are what the test rows of each split hold that was left out.

    A row has one unit, but under "drug", where both of its drugs may be left out; the second is then -1 if only one is.
    """

    left_out: LeftOut
    splits: tuple[Split, ...]
    units: tuple[Int64[np.ndarray, "_ _"], ...]


def pair_of_row(drugs: Int[np.ndarray, "N K"]) -> Int64[np.ndarray, " N"]:
    """Number combinations of drugs from 0; the order of two drugs says nothing."""
    return np.unique(np.sort(drugs, axis=1), axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)


def split_pairs(
    drugs: Int[np.ndarray, "N K"],
    lines: Int[np.ndarray, " N"],
    left_out: LeftOut,
    *,
    tissues: Shaped[np.ndarray, " N"] | None = None,
    num_folds: int = 5,
    seed: int = 0,
) -> PairSplits:
    """Deal what is left out to folds, shuffled by ``seed``.

    Parameters
    ----------
    left_out
        "measurement": repeats of a combination on a line stay together, and both are known from other rows. "pair":
        a combination is left out on all lines. "drug": test rows hold a left-out drug, one or both, and training rows
        none; a fold without training rows is left out, as that of a drug which is in every pair, and there may be no
        fold. "cell_line", "tissue": all rows of them.
    tissues
        The tissue of each row's line, for "tissue".

    Raises
    ------
    ConfigError
        Fewer than two things to leave out, or no such split.
    """
    if left_out not in get_args(LeftOut):
        raise ConfigError(f"left_out={left_out!r} is none of {', '.join(get_args(LeftOut))}.")
    pair = pair_of_row(drugs)
    if left_out == "drug":
        return _leave_drugs(drugs, num_folds, seed)
    if left_out == "measurement":
        names = np.unique(np.stack([pair, lines], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    elif left_out == "tissue":
        if tissues is None:
            raise ConfigError("left_out='tissue' needs the tissue of each cell line.")
        names = np.unique(tissues, return_inverse=True)[1]
    else:
        names = pair if left_out == "pair" else lines
    unit = np.unique(names, return_inverse=True)[1].astype(np.int64)
    fold = _deal(int(unit.max(initial=-1)) + 1, num_folds, seed, left_out)[unit]
    tests = [np.flatnonzero(fold == one) for one in range(fold.max() + 1)]
    return PairSplits(
        left_out=left_out,
        splits=tuple(_split(left_out, one, np.flatnonzero(fold != one), test) for one, test in enumerate(tests)),
        units=tuple(unit[test][:, None] for test in tests),
    )


def _leave_drugs(drugs: Int[np.ndarray, "N K"], num_folds: int, seed: int) -> PairSplits:
    drug = np.unique(drugs, return_inverse=True)[1].reshape(drugs.shape).astype(np.int64)
    fold = _deal(int(drug.max(initial=-1)) + 1, num_folds, seed, "drug")
    splits, units = [], []
    for one in range(fold.max() + 1):
        out = fold[drug] == one  # (N, K)
        test = np.flatnonzero(out.any(axis=1))
        if len(test) == len(drug):
            continue
        splits.append(_split("drug", one, np.flatnonzero(~out.any(axis=1)), test))
        units.append(-np.sort(-np.where(out, drug, NONE)[test], axis=1))  # the left-out first
    return PairSplits(left_out="drug", splits=tuple(splits), units=tuple(units))


def _deal(num_units: int, num_folds: int, seed: int, what: str) -> Int64[np.ndarray, " U"]:
    folds = min(num_folds, num_units)
    if folds < 2:
        raise ConfigError(f"leaving out by {what} needs at least two of them and two folds, not {folds}.")
    fold = np.empty(num_units, dtype=np.int64)
    fold[np.random.default_rng(seed).permutation(num_units)] = np.arange(num_units) % folds
    return fold


def _split(left_out: str, fold: int, train: Int[np.ndarray, " A"], test: Int[np.ndarray, " B"]) -> Split:
    return Split(name=f"{left_out}: fold {fold + 1}", train=train, test=test, grouping=left_out)
