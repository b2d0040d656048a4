"""Drugs as graphs and fingerprints."""

import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch

from xtrimogene.errors import DrugError, MissingExtraError
from xtrimogene.tasks.synergy.drug_encoder import DrugEncoder
from xtrimogene.tasks.synergy.drug_graph import ATOM_FEATURES, BONDS, drug_graphs
from xtrimogene.tasks.synergy.molecules import (
    canonical_smiles,
    morgan_fingerprints,
    one_of_each,
    read_molecule,
    skeleton,
)


def test_a_graph_by_hand() -> None:
    graphs = drug_graphs(["CC#N", "[Na+]", "C1=CC=CC=C1"])
    assert graphs.num_drugs == 3 and graphs.atoms.shape == (3 + 1 + 6, ATOM_FEATURES)
    assert graphs.drug_of_atom.tolist() == [0, 0, 0, 1] + [2] * 6
    bonds = sorted(zip(graphs.bond_from.tolist(), graphs.bond_to.tolist(), graphs.bond_kind.tolist(), strict=True))
    assert bonds[:4] == [(0, 1, 0), (1, 0, 0), (1, 2, 2), (2, 1, 2)] and len(bonds) == 4 + 12
    assert {kind for _, _, kind in bonds[4:]} == {BONDS.index("AROMATIC")}
    carbon, nitrogen, sodium = graphs.atoms[0], graphs.atoms[2], graphs.atoms[3]
    assert carbon[0] == 1 and nitrogen[1] == 1 and sodium[12] == 1 and sodium[-1] == 1  # an element of no column, +1


def test_one_molecule_however_it_is_written() -> None:
    assert canonical_smiles("OCC") == canonical_smiles("C(C)O") != canonical_smiles("OC")
    bits = morgan_fingerprints(["OCC", "C(C)O", "c1ccccc1"])
    np.testing.assert_array_equal(bits[0], bits[1])
    assert set(np.unique(bits)) == {0, 1} and not np.array_equal(bits[0], bits[2])


def test_the_vector_of_a_drug_is_its_own_and_knows_no_order_of_atoms() -> None:
    torch.manual_seed(0)
    encoder = DrugEncoder(16, 2).eval()
    alone, among = encoder(drug_graphs(["NCCO"])), encoder(drug_graphs(["c1ccccc1", "OCCN", "[Na+]"]))
    torch.testing.assert_close(alone[0], among[1])
    assert among.isfinite().all() and not torch.allclose(among[0], among[1])
    assert not torch.allclose(encoder(drug_graphs(["C=C"])), encoder(drug_graphs(["CC"])))


@pytest.mark.parametrize("smiles", ["", " ", "not a drug", "C1CC", "CC(C", "N1=N"])
def test_what_is_no_molecule_is_named_with_its_place(smiles: str) -> None:
    with pytest.raises(DrugError, match=r"row 7\) is no molecule"):
        read_molecule(smiles, "row 7")


@pytest.mark.parametrize("call", [canonical_smiles, skeleton, read_molecule])
def test_without_rdkit_the_extra_is_named(call: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'xtrimogene\[drug\]'"):
        call("CCO")
    with pytest.raises(MissingExtraError):
        morgan_fingerprints(["CCO"])


def test_salts_and_stereoisomers_are_one_drug() -> None:
    acid, salt, hydrate = "CC(=O)Oc1ccccc1C(=O)O", "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "O.CC(=O)Oc1ccccc1C(=O)O"
    assert skeleton(acid) == skeleton(salt) == skeleton(hydrate)
    assert skeleton("C[C@H](N)C(=O)O") == skeleton("C[C@@H](N)C(=O)O") == skeleton("CC(N)C(=O)O.Cl")
    assert skeleton("F/C=C/F") == skeleton("F/C=C\\F") != skeleton("FCCF")
    assert one_of_each(["CCO", salt, acid, hydrate]) == (acid, "CCO")
