"""A user's table of drugs and cell lines, checked: every fault names its row."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64

from xtrimogene.errors import ConfigError, DrugError, FieldError, FileFormatError
from xtrimogene.tasks.synergy.molecules import canonical_smiles, skeleton

Table = pd.DataFrame | str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DrugTable:
    """Rows of a table: canonical SMILES of their drugs, the line's name, and the target where there is one."""

    frame: pd.DataFrame
    smiles: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]
    target: Float32[np.ndarray, " N"] | None

    def places(self, smiles: Sequence[str]) -> Int64[np.ndarray, "N K"]:
        """Return each row's drugs as places in this list, where any salt or stereoisomer of a drug stands for it."""
        place = {skeleton(one): number for number, one in enumerate(smiles)}
        own = {one: place[skeleton(one)] for one in {one for row in self.smiles for one in row}}
        return np.array([[own[one] for one in row] for row in self.smiles], dtype=np.int64)

    def line_places(self, lines: Sequence[str]) -> Int64[np.ndarray, " N"]:
        place = {one: number for number, one in enumerate(lines)}
        return np.array([place[one] for one in self.lines], dtype=np.int64)


def read_table(
    table: Table,
    *,
    drug_keys: Sequence[str],
    num_drugs: int,
    cell_line_key: str,
    drugs: Mapping[str, str] | None,
    target_key: str | None = None,
    labels: bool = False,
) -> DrugTable:
    """Read and check a table.

    Parameters
    ----------
    drugs
        Name -> SMILES. Default: the drug columns hold SMILES.

    Raises
    ------
    ConfigError
        Not ``num_drugs`` columns of drugs.
    FieldError
        A column that is missing; a value that is missing, no number, or no label 0 or 1.
    DrugError
        A name that ``drugs`` lacks, a SMILES that is no molecule, or the same drug twice in a row.
    FileFormatError
        No such file, or no CSV.
    """
    if isinstance(drug_keys, str) or len(drug_keys) != num_drugs:
        raise ConfigError(f"drug_keys={drug_keys!r}: the names of {num_drugs} columns are needed.")
    frame = _read_frame(table)
    wanted = [*drug_keys, cell_line_key, *([] if target_key is None else [target_key])]
    if missing := [name for name in wanted if name not in frame.columns]:
        raise FieldError(f"the table has no column {missing[0]!r}; it has {', '.join(map(str, frame.columns))}.")
    if frame.empty:
        raise FieldError("the table has no rows; give at least one.")
    for name in wanted:
        if (bad := frame[name].isna().to_numpy()).any():
            raise FieldError(f"column {name!r} has no value in row {int(bad.argmax())}; fill it in or drop the row.")
    found: dict[str, str] = {}
    bare: dict[str, str] = {}  # skeleton of each SMILES
    rows: list[tuple[str, ...]] = []
    for number, given in enumerate(frame[list(drug_keys)].astype(str).itertuples(index=False, name=None)):
        for drug in given:
            if drug not in found:
                found[drug] = _smiles(drug, drugs, f"row {number}")
                bare[found[drug]] = skeleton(found[drug])
        own = tuple(found[drug] for drug in given)
        if len({bare[one] for one in own}) < len(own):
            raise DrugError(
                f"row {number} has the same drug twice, {' and '.join(given)} (salts and stereoisomers count as one); "
                "give two drugs."
            )
        rows.append(own)
    return DrugTable(
        frame=frame,
        smiles=tuple(rows),
        lines=tuple(frame[cell_line_key].astype(str)),
        target=None if target_key is None else _read_target(frame, target_key, labels),
    )


def _smiles(drug: str, drugs: Mapping[str, str] | None, where: str) -> str:
    if drugs is None:
        return canonical_smiles(drug, where)
    if drug not in drugs:
        raise DrugError(f"{drug!r} ({where}) is not in drugs=, which has {len(drugs)} names; add its SMILES.")
    return canonical_smiles(str(drugs[drug]), f"{where}, {drug}")


def _read_target(frame: pd.DataFrame, key: str, labels: bool) -> Float32[np.ndarray, " N"]:
    values = pd.to_numeric(frame[key], errors="coerce").to_numpy(np.float64)
    fault = ~np.isin(values, (0, 1)) if labels else ~np.isfinite(values)
    if fault.any():
        row = int(fault.argmax())
        wanted = "a label 0 or 1" if labels else "a finite number"
        raise FieldError(f"column {key!r} holds {frame[key].iloc[row]!r} in row {row}; {wanted} is needed.")
    return values.astype(np.float32)


def _read_frame(table: Table) -> pd.DataFrame:
    if isinstance(table, pd.DataFrame):
        return table
    try:
        return pd.read_csv(table)
    except OSError as error:
        raise FileFormatError(f"no table at {os.fspath(table)!r} ({error.strerror or error}); give a CSV.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{os.fspath(table)!r} is no CSV ({error}).") from None
