"""A table of drug response as arrays, and what is known of its drugs and cell lines.

Letters: N rows; K drugs of a row, 1 or 2; D drugs; F bits of a fingerprint; L cell lines; C width of a line's vector.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int, Int64

from xtrimogene.tasks.synergy.drug_graph import DrugGraphs, drug_graphs
from xtrimogene.tasks.synergy.molecules import morgan_fingerprints


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ResponseRows:
    """Which drugs were given to which line, as places among the drugs and lines; ``target`` is a label 0/1 or a value.

    Where nothing was measured yet, ``target`` is NaN.
    """

    drugs: Int64[np.ndarray, "N K"]
    lines: Int64[np.ndarray, " N"]
    target: Float32[np.ndarray, " N"]

    def at(self, rows: Int[np.ndarray, " B"]) -> "ResponseRows":
        return ResponseRows(drugs=self.drugs[rows], lines=self.lines[rows], target=self.target[rows])

    def __len__(self) -> int:
        return len(self.lines)


@dataclass(frozen=True, eq=False)
class DrugSet:
    """Drugs by their SMILES; graphs and fingerprints are made once, when first used."""

    smiles: tuple[str, ...]

    @cached_property
    def fingerprints(self) -> Float32[np.ndarray, "D F"]:
        return morgan_fingerprints(self.smiles)

    @cached_property
    def graphs(self) -> DrugGraphs:
        return drug_graphs(self.smiles)
