"""How new a row is to the rows that were learned, and which rows were held out to say what answers to such are worth.

Letters: N rows; U rows that were learned; K drugs of a row.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int64, Shaped

from xtrimogene.tasks.synergy.response_table import ResponseRows

Novelty = Literal[
    "measured",
    "known drug",
    "known pair",
    "new pair",
    "new drug",
    "new drugs",
    "new cell line",
    "new pair, new cell line",
    "new drug, new cell line",
    "new drugs, new cell line",
]
Way = Literal["measurement", "pair", "drug", "drugs", "cell_line", "tissue"]  # held-out rows that are told apart
NOVELTY_OF: Mapping[Way, tuple[Novelty, ...]] = {  # what a row held out in this way has to be, to count
    "measurement": ("known drug", "known pair"),
    "pair": ("new pair",),
    "drug": ("new drug",),
    "drugs": ("new drugs",),
    "cell_line": ("new cell line",),
    "tissue": ("new cell line",),
}
TESTED_BY: Mapping[Novelty, Way] = {  # none for "measured", nor for two novelties at once
    novelty: way for way in get_args(Way) if way != "tissue" for novelty in NOVELTY_OF[way]
}
CALIBRATED_BY: Mapping[Novelty, tuple[Way, ...]] = {  # the first of these that could be held out
    "measured": ("measurement",),
    "known drug": ("measurement",),
    "known pair": ("measurement",),
    "new pair": ("pair",),
    "new drug": ("drug",),
    "new drugs": ("drugs", "drug"),
    "new cell line": ("cell_line",),
    "new pair, new cell line": ("cell_line", "pair"),
    "new drug, new cell line": ("drug", "cell_line"),
    "new drugs, new cell line": ("drugs", "drug", "cell_line"),
}


def sorted_rows(rows: ResponseRows) -> Int64[np.ndarray, "N _"]:
    """Return the drugs of each row in ascending order, then the line."""
    return np.concatenate([np.sort(rows.drugs, axis=1), rows.lines[:, None]], axis=1)


def novelty_of(rows: ResponseRows, seen: Int64[np.ndarray, "U _"]) -> Shaped[np.ndarray, " N"]:
    """Say what of each row is not in those ``seen``, which are as `sorted_rows` gives them."""
    measured = set(map(tuple, seen.tolist()))
    combinations = {one[:-1] for one in measured}
    drugs, lines = {drug for one in combinations for drug in one}, {one[-1] for one in measured}
    known = "known pair" if rows.drugs.shape[1] > 1 else "known drug"
    of_number = ("new pair", "new drug", "new drugs")

    def name(one: tuple[int, ...]) -> str:
        if one in measured:
            return "measured"
        new = [] if one[:-1] in combinations else [of_number[len(set(one[:-1]) - drugs)]]
        return ", ".join([*new, *([] if one[-1] in lines else ["new cell line"])]) or known

    return np.array([name(tuple(one)) for one in sorted_rows(rows).tolist()], dtype=np.str_)
