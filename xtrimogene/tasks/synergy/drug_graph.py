"""Drugs as graphs, packed one after another: atoms with features, bonds with kinds.

Letters: D drugs; A atoms of all drugs; B directed bonds, each bond twice; F features of an atom.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from xtrimogene.tasks.synergy.molecules import read_molecule

ELEMENTS = ("C", "N", "O", "F", "P", "S", "Cl", "Br", "I", "B", "Si", "Pt")  # and one for all others
HYBRIDIZATIONS = ("SP", "SP2", "SP3")
BONDS = ("SINGLE", "DOUBLE", "TRIPLE", "AROMATIC")  # any other counts as single
MOST_NEIGHBORS, MOST_HYDROGENS = 4, 3
ATOM_FEATURES = len(ELEMENTS) + 1 + MOST_NEIGHBORS + 1 + MOST_HYDROGENS + 1 + len(HYBRIDIZATIONS) + 3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrugGraphs:
    """Graphs of drugs; atoms of a drug are neighbours, and hydrogens are counted at their atom."""

    atoms: Float32[Tensor, "A F"]
    drug_of_atom: Int64[Tensor, " A"]
    bond_from: Int64[Tensor, " B"]
    bond_to: Int64[Tensor, " B"]
    bond_kind: Int64[Tensor, " B"]
    num_drugs: int


def drug_graphs(smiles: Sequence[str]) -> DrugGraphs:
    """Build the graphs of these drugs.

    Raises
    ------
    DrugError
        A SMILES that is no molecule.
    """
    atoms: list[list[float]] = []
    drug_of_atom: list[int] = []
    bonds: list[tuple[int, int, int]] = []
    for drug, one in enumerate(smiles):
        molecule, first = read_molecule(one), len(atoms)
        atoms += [_atom_features(atom) for atom in molecule.GetAtoms()]
        drug_of_atom += [drug] * molecule.GetNumAtoms()
        for bond in molecule.GetBonds():
            name = str(bond.GetBondType())
            kind = BONDS.index(name) if name in BONDS else 0
            begin, end = first + bond.GetBeginAtomIdx(), first + bond.GetEndAtomIdx()
            bonds += [(begin, end, kind), (end, begin, kind)]
    columns = np.array(bonds, dtype=np.int64).reshape(-1, 3).T.copy()
    start, stop, kinds = torch.from_numpy(columns)
    return DrugGraphs(
        atoms=torch.from_numpy(np.array(atoms, dtype=np.float32)),
        drug_of_atom=torch.tensor(drug_of_atom),
        bond_from=start,
        bond_to=stop,
        bond_kind=kinds,
        num_drugs=len(smiles),
    )


def _atom_features(atom: Any) -> list[float]:
    symbol, hybrid = atom.GetSymbol(), str(atom.GetHybridization())
    neighbors, hydrogens = min(atom.GetDegree(), MOST_NEIGHBORS), min(atom.GetTotalNumHs(), MOST_HYDROGENS)
    return [
        *(float(symbol == one) for one in ELEMENTS),
        float(symbol not in ELEMENTS),
        *(float(neighbors == one) for one in range(MOST_NEIGHBORS + 1)),
        *(float(hydrogens == one) for one in range(MOST_HYDROGENS + 1)),
        *(float(hybrid == one) for one in HYBRIDIZATIONS),
        float(atom.GetIsAromatic()),
        float(atom.IsInRing()),
        float(atom.GetFormalCharge()),
    ]
