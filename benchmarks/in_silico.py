"""What do edits of counts, read by a model zero-shot, say that is true? Demo weights beside random ones.

python benchmarks/in_silico.py markers --validation   # pbmc3k, to try things on
python benchmarks/in_silico.py markers                # Hao 2021
python benchmarks/in_silico.py interferon             # Kang 2018
python benchmarks/in_silico.py knock_outs             # Papalexi 2021
python benchmarks/in_silico_memory.py                 # the sweep of 1,000 edits

Each adds to results/in_silico.json; minutes of one core each. Three seeds draw the cells, the random genes and the
random weights; intervals are over what is tested and seeds. "expression" is no model: a cell's vector is its log1p of
counts per 10,000.

markers: the five genes of each type that are highest above other types, chosen in half of the cells, are knocked out in
six cells of the other half. Score: how far the vectors of cells that express the gene move from the type's mean toward
that of the others. AUROC of a marker: the share of 20 random genes of like expression in that type that score less; .5
is chance. "length" is the same of the length of the shift.
interferon: in unstimulated cells of six types, genes are raised to 10 counts per 10,000. Score: how far toward the
stimulated cells of their type. AUROC against 20 random genes of like expression: of five that bring the response about
(STAT1, STAT2, IRF7, IRF9, IFNB1), and of five that are only part of it (ISG15, IFI6, MX1, IFIT3, OAS1).
knock_outs: a target is knocked out in unperturbed THP-1 cells that express it. Pearson correlation, over the other
genes, of the predicted change of expression with the measured change of the mean, less that of knock-outs of 20 random
genes. "co-expression" is no model: minus the slope of each gene on the target in unperturbed cells. The ceiling is the
correlation of the measured changes of two halves of the cells.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from anndata import AnnData, read_h5ad
from jaxtyping import Float
from scipy.sparse import csr_matrix
from studies import SHARED, write_result

from xtrimogene.checkpoint import PretrainedModel, load
from xtrimogene.data.blocks import open_cells
from xtrimogene.data.matched_counts import MatchedCounts
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.bootstrap import mean_difference, mean_interval
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.in_silico.edits import Edit, EditableCells, Level
from xtrimogene.tasks.in_silico.null import draw_like

RESULT = Path(__file__).parent / "results" / "in_silico.json"
SEEDS = (0, 1, 2)
CELLS_OF_TYPE, RANDOM, MARKERS_OF_TYPE = 6, 20, 5
LEVEL = Level.parse("c10")
CAUSES, RESPONSES = ("STAT1", "STAT2", "IRF7", "IRF9", "IFNB1"), ("ISG15", "IFI6", "MX1", "IFIT3", "OAS1")
Vectors = Callable[[csr_matrix], np.ndarray]
Scores = dict[str, list[list[float]]]  # of each reading, a list a seed


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cells:
    counts: csr_matrix
    measured: np.ndarray
    obs: Any


def main() -> None:
    options = read_options()
    started, model = time.perf_counter(), load("demo")
    found = {"markers": markers, "interferon": interferon, "knock_outs": knock_outs}[options.question](model, options)
    found |= {"seconds": time.perf_counter() - started, "load_average": os.getloadavg()[2]}
    write_result(options.out, options.question + ("_validation" if options.validation else ""), found)
    print(json.dumps(found["means"], indent=1))


def markers(model: PretrainedModel, options: argparse.Namespace) -> dict[str, Any]:
    cells = read_cells("pbmc3k" if options.validation else "hao_pbmc_1336", model)
    labels = cells.obs["cell_type"].astype(str).to_numpy()
    types = [name for name in np.unique(labels) if name != "unlabelled"]
    chosen_in = np.random.default_rng(99).random(len(labels)) < 0.5
    of_type = {name: choose_markers(cells.counts[chosen_in], labels[chosen_in] == name) for name in types}
    tested = [f"{name}: {model.genes.symbols[gene]}" for name in types for gene in of_type[name]]
    scores: dict[str, Scores] = {"toward": {}, "length": {}}
    for seed in SEEDS:
        rows = draw(labels, types, CELLS_OF_TYPE, seed, ~chosen_in)
        plan = []
        for name in types:
            own = EditableCells(cells.counts[rows[labels[rows] == name]])
            asked = [Edit(kind="knock-out", genes=(gene,)) for gene in of_type[name]]
            allowed = cells.measured & (own.num_expressing >= CELLS_OF_TYPE // 2)
            plan.append((name, own, [*asked, *draw_like(asked, own, allowed, RANDOM, seed=seed)]))
        for reading, vectors in readings(model, seed):
            known, auroc = vectors(cells.counts[rows]), {"toward": [], "length": []}
            for name, own, edits in plan:
                here = labels[rows] == name
                way = known[~here].mean(axis=0) - known[here].mean(axis=0)
                moved = shifts(vectors, own, known[here], edits)
                for score, of in (("toward", along(moved, way)), ("length", length(moved))):
                    for value in of[:MARKERS_OF_TYPE]:
                        auroc[score].append(share_below(value, of[MARKERS_OF_TYPE:]))
            for score, of in auroc.items():
                scores[score].setdefault(reading, []).append(of)
    return summarize(scores, tested)


def choose_markers(counts: csr_matrix, is_type: np.ndarray) -> list[int]:
    """Return the genes with the largest difference of means of log1p, among those that most of the type express."""
    values = log_normalize(counts)
    here, rest = (np.asarray(values[rows].mean(axis=0)).ravel() for rows in (is_type, ~is_type))
    share = np.asarray((counts[is_type] > 0).mean(axis=0)).ravel()
    return np.argsort(-np.where(share > 0.5, here - rest, -np.inf), kind="stable")[:MARKERS_OF_TYPE].tolist()


def interferon(model: PretrainedModel, options: argparse.Namespace) -> dict[str, Any]:
    cells = read_cells("kang_ifnb_832", model)
    labels, states = (cells.obs[key].astype(str).to_numpy() for key in ("cell_type", "stim"))
    types, tested = np.unique(labels).tolist(), [*CAUSES, *RESPONSES]
    asked = [Edit(kind="over-expression", genes=(place,)) for place in model.genes.places(tested).tolist()]
    scores: dict[str, Scores] = {"causes": {}, "responses": {}}
    for seed in SEEDS:
        start = draw(labels, types, 4, seed, states == "CTRL")
        target = draw(labels, types, 16, seed, states == "STIM")
        own = EditableCells(cells.counts[start])
        edits = [*asked, *draw_like(asked, own, cells.measured, RANDOM, seed=seed)]
        for reading, vectors in readings(model, seed):
            known, stimulated = vectors(cells.counts[start]), vectors(cells.counts[target])
            moved, auroc = shifts(vectors, own, known, edits), []
            for name in types:
                here = labels[start] == name
                way = stimulated[labels[target] == name].mean(axis=0) - known[here].mean(axis=0)
                of = along([(rows[here[rows]], shift[here[rows]]) for rows, shift in moved], way)
                auroc.append([share_below(value, of[len(asked) :]) for value in of[: len(asked)]])
            of_gene = np.array(auroc).mean(axis=0).tolist()
            scores["causes"].setdefault(reading, []).append(of_gene[: len(CAUSES)])
            scores["responses"].setdefault(reading, []).append(of_gene[len(CAUSES) :])
    return summarize(scores, tested)


def knock_outs(model: PretrainedModel, options: argparse.Namespace) -> dict[str, Any]:
    study = Study.read(model)
    scores: Scores = {}
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        own = EditableCells(study.counts[np.sort(generator.permutation(study.control)[:200])])
        allowed = study.measured & (own.num_expressing >= 10)
        others = draw_like(study.edits, own, allowed, 20, seed=seed)
        for reading, change in change_readings(model, seed, own, study.columns, study.measured):
            of_others = [change(edit) for edit in others]
            mine, random = [], []
            for edit, truth in zip(study.edits, study.changes, strict=True):
                mine.append(study.pearson(change(edit), truth, edit))
                agree = [study.pearson(one, truth, edit, like) for one, like in zip(of_others, others, strict=True)]
                random.append(float(np.mean(agree)))
            scores.setdefault(reading, []).append(mine)
            scores.setdefault(f"{reading}, random genes", []).append(random)
        scores.setdefault("measured, half against half", []).append(study.half_against_half(generator))
    pairs = [(name, f"{name}, random genes") for name in scores if f"{name}, random genes" in scores]
    for through in ("latent", "decoder"):
        pairs += [(f"trained, {through}", other) for other in (f"random weights, {through}", "co-expression")]
    return {
        "tested": list(study.targets),
        "means": {name: interval(np.array(values)) for name, values in scores.items()},
        "differences": {f"{one} - {other}": difference(scores[one], scores[other]) for one, other in pairs},
        "scores": scores,
    }


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Study:
    """Papalexi 2021: cells with one guide for sure, targets that were measured, and how the mean cell changed."""

    counts: csr_matrix
    values: csr_matrix  # cells x measured genes, log1p of counts per 10,000
    measured: np.ndarray
    columns: np.ndarray
    control: np.ndarray
    perturbed: tuple[np.ndarray, ...]  # rows of each target's cells
    targets: tuple[str, ...]
    edits: tuple[Edit, ...]

    @classmethod
    def read(cls, model: PretrainedModel) -> "Study":
        cells = read_cells("papalexi_eccite_lowmoi_299g", model)
        columns = np.flatnonzero(cells.measured)
        known = {model.genes.symbols[place] for place in columns}
        sure = (cells.obs["guide_frac"] > 0.8).to_numpy()
        name = cells.obs["perturbation"].astype(str).to_numpy()
        targets = tuple(sorted(known & set(name)))
        return cls(
            counts=cells.counts,
            values=log_normalize(cells.counts)[:, columns],
            measured=cells.measured,
            columns=columns,
            control=np.flatnonzero(sure & (name == "non-targeting")),
            perturbed=tuple(np.flatnonzero(sure & (name == target)) for target in targets),
            targets=targets,
            edits=tuple(Edit(kind="knock-out", genes=(gene,)) for gene in model.genes.places(targets).tolist()),
        )

    @property
    def changes(self) -> list[np.ndarray]:
        return [self.change(rows, self.control) for rows in self.perturbed]

    def change(self, rows: np.ndarray, control: np.ndarray) -> np.ndarray:
        return np.asarray(self.values[rows].mean(axis=0) - self.values[control].mean(axis=0)).ravel()

    def pearson(self, one: np.ndarray, other: np.ndarray, *left_out: Edit) -> float:
        """Over genes that were not edited; no change agrees with nothing."""
        kept = ~np.isin(self.columns, [gene for edit in left_out for gene in edit.genes])
        if one[kept].std() == 0 or other[kept].std() == 0:
            return 0.0
        return float(np.corrcoef(one[kept], other[kept])[0, 1])

    def half_against_half(self, generator: np.random.Generator) -> list[float]:
        found = []
        for edit, rows in zip(self.edits, self.perturbed, strict=True):
            rows, control = generator.permutation(rows), generator.permutation(self.control)
            one, other = (self.change(rows[side::2], control[side::2]) for side in (0, 1))
            found.append(self.pearson(one, other, edit))
        return found


def readings(model: PretrainedModel, seed: int) -> Iterator[tuple[str, Vectors]]:
    for name, one in (("trained", model), ("random weights", untrained(model, seed))):
        inference = Inference(one, device="cpu")
        yield name, lambda counts, of=inference: of.cell_embeddings(counts, pool="latent").astype(np.float64)
    yield "expression", lambda counts: log_normalize(counts).toarray()


def change_readings(
    model: PretrainedModel, seed: int, cells: EditableCells, columns: np.ndarray, measured: np.ndarray
) -> Iterator[tuple[str, Callable[[Edit], np.ndarray]]]:
    for name, one in (("trained", model), ("random weights", untrained(model, seed))):
        inference = Inference(one, device="cpu")
        for through, predict in (
            ("latent", lambda counts, of=inference: of.expression_from_latent(counts, genes=columns)),
            ("decoder", lambda counts, of=inference: of.expression(counts, genes=columns, measured=measured)),
        ):
            before = predict(cells.counts)

            def changes(edit: Edit, before: np.ndarray = before, predict: Vectors = predict) -> np.ndarray:
                rows, counts, _ = cells.edited(edit, LEVEL)
                return (predict(counts) - before[rows]).mean(axis=0)

            yield f"{name}, {through}", changes
    dense = log_normalize(cells.counts)[:, columns].toarray().astype(np.float64)

    def slope(edit: Edit) -> np.ndarray:
        target = dense[:, np.flatnonzero(columns == edit.genes[0])[0]]
        centred = target - target.mean()
        return -(centred @ dense) / (centred @ centred)

    yield "co-expression", slope


def untrained(model: PretrainedModel, seed: int) -> PretrainedModel:
    return PretrainedModel(XTrimoGene(model.config, seed=1 + seed).eval().requires_grad_(False), model.genes)


def read_cells(name: str, model: PretrainedModel) -> Cells:
    adata: AnnData = read_h5ad(SHARED / "data" / f"{name}.h5ad")
    with open_cells(adata) as source:
        matched = MatchedCounts.find(source, model.genes)
        return Cells(counts=matched.all(), measured=matched.match.measured, obs=adata.obs)


def draw(
    labels: np.ndarray, names: Sequence[str], number: int, seed: int, among: np.ndarray | None = None
) -> np.ndarray:
    generator = np.random.default_rng(seed)
    there = np.ones(len(labels), dtype=bool) if among is None else among
    rows = [generator.permutation(np.flatnonzero((labels == name) & there))[:number] for name in names]
    return np.sort(np.concatenate(rows))


def shifts(
    vectors: Vectors, cells: EditableCells, known: np.ndarray, edits: Sequence[Edit]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return, of each edit, the cells that it changes and the shifts of their vectors."""
    found = []
    for edit in edits:
        rows, counts, _ = cells.edited(edit, LEVEL)
        found.append((rows, vectors(counts) - known[rows]))
    return found


def along(moved: Sequence[tuple[np.ndarray, np.ndarray]], way: np.ndarray) -> list[float]:
    return [float((shift @ way).mean() / (way @ way)) if len(rows) else np.nan for rows, shift in moved]


def length(moved: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    return [float(np.linalg.norm(shift, axis=1).mean()) if len(rows) else np.nan for rows, shift in moved]


def share_below(value: float, others: Sequence[float]) -> float:
    """AUROC of one against many; NaN of an edit that changed no cell."""
    if not np.isfinite(value):
        return np.nan
    there = np.array(others)[np.isfinite(others)]
    return float(((there < value) + 0.5 * (there == value)).mean())


def summarize(scores: Mapping[str, Scores], tested: Sequence[str]) -> dict[str, Any]:
    """Leave out what some seed could not test."""
    means, differences, written = {}, {}, {}
    for score, of_reading in scores.items():
        kept = np.isfinite(np.array(list(of_reading.values()))).all(axis=(0, 1))
        values = {reading: np.array(of)[:, kept] for reading, of in of_reading.items()}
        means |= {f"{score}, {reading}": interval(of) for reading, of in values.items()}
        for other in ("random weights", "expression"):
            differences[f"{score}, trained - {other}"] = difference(values["trained"], values[other])
        differences[f"{score}, trained - chance"] = difference(values["trained"], np.full_like(values["trained"], 0.5))
        for reading, of in of_reading.items():
            written.setdefault(score, {})[reading] = [[None if np.isnan(x) else x for x in one] for one in of]
    return {"tested": list(tested), "means": means, "differences": differences, "scores": written}


def interval(scores: Float[np.ndarray, "S N"]) -> dict[str, float]:
    return asdict(mean_interval(scores))


def difference(ours: Any, theirs: Any) -> dict[str, Any]:
    found = mean_difference(np.array(ours), np.array(theirs))
    return asdict(found) | {"verdict": found.verdict}


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=["markers", "interferon", "knock_outs"])
    parser.add_argument("--validation", action="store_true", help="of markers: on pbmc3k")
    parser.add_argument("--out", type=Path, default=RESULT)
    return parser.parse_args()


if __name__ == "__main__":
    main()
