"""SMILES to molecules by RDKit, the one place that needs it (extra `drug`)."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from xtrimogene.errors import DrugError, MissingExtraError

FINGERPRINT_RADIUS, FINGERPRINT_BITS = 2, 1024  # as ECFP4


def read_molecule(smiles: str, where: str = "") -> Any:
    """Return RDKit's molecule of a SMILES.

    Parameters
    ----------
    where
        Names the place of the SMILES in an error, such as "row 3".

    Raises
    ------
    DrugError
        It is no molecule.
    MissingExtraError
        RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError("drugs need an extra: pip install 'xtrimogene[drug]'.") from None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles) if smiles.strip() else None
    if molecule is None or not molecule.GetNumAtoms():
        raise DrugError(f"{smiles!r}{f' ({where})' if where else ''} is no molecule that RDKit reads; give a SMILES.")
    return molecule


def canonical_smiles(smiles: str, where: str = "") -> str:
    """Return the one SMILES of a molecule, however it was written."""
    molecule = read_molecule(smiles, where)
    from rdkit import Chem

    return str(Chem.MolToSmiles(molecule))


def skeleton(smiles: str) -> str:
    """Return what salts and stereoisomers of a drug share: its largest fragment, uncharged and without stereo."""
    molecule = read_molecule(smiles)
    from rdkit import Chem, rdBase
    from rdkit.Chem.MolStandardize import rdMolStandardize

    with rdBase.BlockLogs():
        largest = rdMolStandardize.LargestFragmentChooser().choose(molecule)
        kept = rdMolStandardize.Uncharger().uncharge(largest)
    Chem.RemoveStereochemistry(kept)
    return canonical_smiles(Chem.MolToSmiles(kept))


def one_of_each(smiles: Iterable[str]) -> tuple[str, ...]:
    """Return one form of each drug, the shortest SMILES, in alphabetic order: salts and stereoisomers are one drug."""
    chosen: dict[str, str] = {}
    for one in sorted(set(smiles), key=lambda one: (len(one), one)):
        chosen.setdefault(skeleton(one), one)
    return tuple(sorted(chosen.values()))


def morgan_fingerprints(smiles: Sequence[str]) -> Float32[np.ndarray, "D F"]:
    """Return 1 for each of 1,024 hashed neighbourhoods of up to two bonds that a drug has (Rogers and Hahn 2010)."""
    molecules = [read_molecule(one) for one in smiles]
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=FINGERPRINT_RADIUS, fpSize=FINGERPRINT_BITS)
    return np.stack([generator.GetFingerprintAsNumPy(one) for one in molecules]).astype(np.float32)
