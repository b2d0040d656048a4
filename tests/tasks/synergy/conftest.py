"""A table with a known answer: two drugs act together where both hold a nitrogen and the line is of the first kind."""

from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest

from xtrimogene.tasks.synergy.response_table import DrugSet, ResponseRows

SMILES = (
    "CC(=O)Oc1ccccc1C(=O)O",  # aspirin
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",  # ibuprofen
    "CC(=O)Nc1ccc(O)cc1",  # paracetamol
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",  # caffeine
    "CN(C)C(=N)NC(=N)N",  # metformin
    "C1=C(C(=O)NC(=O)N1)F",  # fluorouracil
    "Cc1ccccc1",  # toluene
    "OCC(O)CO",  # glycerol
)


@dataclass(frozen=True, eq=False)
class Screen:
    rows: ResponseRows
    drugs: DrugSet
    cells: np.ndarray

    def as_values(self, slope: float = 3.0, shift: float = 7.0) -> ResponseRows:
        return replace(self.rows, target=(slope * self.rows.target + shift).astype(np.float32))


@pytest.fixture(scope="session")
def screen() -> Screen:
    nitrogen = np.array(["N" in one for one in SMILES])
    random = np.random.default_rng(0)
    first = np.arange(8) % 2 == 0
    cells = random.normal(size=(8, 6)).astype(np.float32)
    cells[:, 0] = np.where(first, 3, -3)
    pairs = np.array(list(combinations(range(len(SMILES)), 2)))
    drugs, lines = np.repeat(pairs, 8, axis=0), np.tile(np.arange(8), len(pairs))
    flip = random.random(len(drugs)) < 0.5
    drugs[flip] = drugs[flip][:, ::-1]
    target = (nitrogen[drugs].all(axis=1) & first[lines]).astype(np.float32)
    return Screen(ResponseRows(drugs=drugs, lines=lines, target=target), DrugSet(SMILES), cells)
