"""Sums of shifts as a table: one row an edit and group, beside what edits of random genes do."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64

from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.tasks.in_silico.edits import Edit
from xtrimogene.tasks.in_silico.named import label
from xtrimogene.tasks.in_silico.null import compare, false_discovery_rates
from xtrimogene.tasks.in_silico.sweep import Shifts


def shift_table(
    edits: Sequence[Edit],
    random_edits: Sequence[Edit],
    shifts: Shifts,
    *,
    vocabulary: GeneVocabulary,
    groups: Sequence[str],
    num_cells: Int64[np.ndarray, " K"],
    genes: Int64[np.ndarray, " A"],
    grouped: bool,
    directed: bool,
) -> pd.DataFrame:
    """Return what `xtrimogene.tl.in_silico` does; ``shifts`` are of the edits and then of the random ones.

    Parameters
    ----------
    num_cells
        Of each group, that are edited.
    genes
        Those that ``shifts.change`` is of.
    grouped, directed
        Whether there are groups to name, and a state to go toward.
    """
    num_edits, num_groups = len(edits), len(groups)
    columns: dict[str, object] = {
        "edit": np.repeat([edit.kind for edit in edits], num_groups),
        "genes": np.repeat([label(edit, vocabulary) for edit in edits], num_groups),
    }
    if grouped:
        columns["group"] = np.tile(np.array(groups), num_edits)
    columns["cells"] = np.tile(num_cells, num_edits)
    columns["changed"] = shifts.num_changed[:num_edits].ravel()
    scores = {"shift": "length"} | ({"toward": "along"} if directed else {})
    columns |= {"shift": shifts.mean("length")[:num_edits].ravel(), "cosine": shifts.mean("cosine")[:num_edits].ravel()}
    for name, score in scores.items():
        columns[name] = shifts.mean(score)[:num_edits].ravel()
        if random_edits:
            columns |= _beside_random(name, score, edits, random_edits, shifts)
    change = shifts.mean("change")[:num_edits].reshape(num_edits * num_groups, len(genes))
    columns |= {f"change_{vocabulary.symbols[gene]}": change[:, place] for place, gene in enumerate(genes.tolist())}
    return pd.DataFrame(columns)


def _beside_random(
    name: str, score: str, edits: Sequence[Edit], random_edits: Sequence[Edit], shifts: Shifts
) -> dict[str, Float64[np.ndarray, " rows"]]:
    """Compare within each group and kind of edit; q is over all groups of a kind."""
    values, strength = shifts.mean(score), shifts.mean("strength")
    features = np.stack([np.log1p(shifts.num_changed), strength], axis=2)  # (E + M, K, 2)
    kind, random_kind = (np.array([edit.kind for edit in some]) for some in (edits, random_edits))
    found = {part: np.full((len(edits), values.shape[1]), np.nan) for part in ("random", "random_sd", "z", "p", "q")}
    for one in np.unique(kind):
        place = {edit.genes: row for row, edit in enumerate(edits) if edit.kind == one}
        mine, theirs = np.flatnonzero(kind == one), len(edits) + np.flatnonzero(random_kind == one)
        drawn = [place.get(random_edits[number - len(edits)].genes, -1) for number in theirs.tolist()]
        same = mine[:, None] == np.array(drawn)
        for group in range(values.shape[1]):
            compared = compare(
                values[mine, group],
                features[mine, group],
                values[theirs, group],
                features[theirs, group],
                two_sided=name == "toward",
                same=same,
            )
            found["random"][mine, group], found["random_sd"][mine, group] = compared.expected, compared.spread
            found["z"][mine, group], found["p"][mine, group] = compared.z, compared.p
        found["q"][mine] = false_discovery_rates(found["p"][mine].ravel()).reshape(len(mine), -1)
    return {f"{name}_{part}": table.ravel() for part, table in found.items()}
