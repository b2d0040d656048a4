"""What does judging pairs of a cell and a label gain: labels described by marker genes, and fewer candidates.

python benchmarks/matching.py --validation --out benchmarks/results/matching_validation.json
python benchmarks/matching.py --test --out benchmarks/results/matching_test.json

Tasks, training and test cells are those of annotation.py, under three seeds; of folds by cell, which are alike, the
first.
One label at a time is left out of the reference and described by MARKERS, which are textbook ones, chosen for no data:
F1 of its cells, and macro-F1 of all, of "match" with the description; of the ensemble, where an excess of these markers
(`scanpy.tl.score_genes`, more than in 99 % of the reference's cells) overrules it ("score_genes"); of the ensemble
alone ("left out"), and of "match" that had the cells ("with its cells"). AUROC of the label's cells against all others:
by its pairs' log odds beside the best of the others ("match"), and by score_genes.
Candidates: where a task's test lacks labels of the reference, macro-F1 of "match" and of the ensemble among all labels,
and among those that the test has.
Means over seeds, splits and, for what is left out, labels, with intervals by a bootstrap over labels.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import scanpy
from anndata import AnnData
from annotation import prepare, read_options
from jaxtyping import Float, Int, Shaped
from novelty import means, write
from sklearn.metrics import f1_score, roc_auc_score

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.gene_vocabulary import GeneVocabulary
from xtrimogene.evaluation.baselines import log_normalize
from xtrimogene.evaluation.metrics import macro_f1
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.tasks import Study, Task
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, Learned, Views

LEAST_CELLS = 5
T_CELLS, MONOCYTES = ("CD3D", "CD3E", "TRAC", "CD2"), ("CD14", "LYZ", "S100A8", "S100A9")
CD4_T, CD8_T = ("CD3D", "CD4", "IL7R", "CCR7"), ("CD3D", "CD8A", "CD8B", "GZMK")
NK_CELLS, B_CELLS = ("GNLY", "NKG7", "KLRD1", "KLRF1"), ("MS4A1", "CD79A", "CD79B", "CD19")
CD16_MONOCYTES = ("FCGR3A", "MS4A7", "LST1", "CDKN1C")
DENDRITIC, PLASMACYTOID = ("FCER1A", "CLEC10A", "CD1C", "CST3"), ("LILRA4", "CLEC4C", "IRF7", "TCF4")
PLATELETS, PLASMA = ("PPBP", "PF4", "GP9", "ITGA2B"), ("MZB1", "SDC1", "XBP1", "JCHAIN")
EPITHELIAL, FIBROBLASTS = ("EPCAM", "KRT8", "KRT18", "KRT19"), ("COL1A1", "COL3A1", "DCN", "LUM")
PERIVASCULAR, VESSELS = ("RGS5", "ACTA2", "NOTCH3", "PDGFRB"), ("PECAM1", "VWF", "CDH5", "CLDN5")
MACROPHAGES, MAST = ("CD68", "CD14", "LYZ", "AIF1"), ("KIT", "TPSAB1", "CPA3", "MS4A2")
MARKERS: Mapping[str, tuple[str, ...]] = {
    "T": T_CELLS,
    "t_cell": T_CELLS,
    "T and NK": (*T_CELLS, "NKG7"),
    "CD4 T": CD4_T,
    "T cells CD4 conv": CD4_T,
    "Naive CD4 T": ("CCR7", "LEF1", "TCF7", "IL7R"),
    "CD4 Naive T": ("CCR7", "LEF1", "TCF7", "IL7R"),
    "Memory CD4 T": ("CD3D", "IL7R", "S100A4", "IL32"),
    "CD4 Memory T": ("CD3D", "IL7R", "S100A4", "IL32"),
    "Tregs": ("FOXP3", "IL2RA", "CTLA4", "IKZF2"),
    "CD8 T": CD8_T,
    "T cells CD8": CD8_T,
    "NK": NK_CELLS,
    "NK cells": NK_CELLS,
    "B": B_CELLS,
    "B cells": B_CELLS,
    "Plasma": PLASMA,
    "Plasma cells": PLASMA,
    "Mono": MONOCYTES,
    "Monocytes": MONOCYTES,
    "CD14+ Mono": MONOCYTES,
    "CD14 Mono": MONOCYTES,
    "FCGR3A+ Mono": CD16_MONOCYTES,
    "CD16 Mono": CD16_MONOCYTES,
    "DC": DENDRITIC,
    "mDC": DENDRITIC,
    "pDC": PLASMACYTOID,
    "Platelet": PLATELETS,
    "MoMacDC": MACROPHAGES,
    "Myeloid": MACROPHAGES,
    "macrophage": ("CD68", "C1QA", "CD163", "CSF1R"),
    "microglia": ("C1QA", "CSF1R", "CX3CR1", "AIF1"),
    "Neutrophil": ("FCGR3B", "CSF3R", "CXCR2", "S100A8"),
    "Basophil": ("CLC", "HDC", "CPA3", "MS4A2"),
    "Mast": MAST,
    "mast": MAST,
    "Epithelial": EPITHELIAL,
    "Tumour": EPITHELIAL,
    "Ciliated": ("FOXJ1", "TPPP3", "CAPS", "PIFO"),
    "Fibroblast": FIBROBLASTS,
    "Perivascular": PERIVASCULAR,
    "Smooth muscle": PERIVASCULAR,
    "Endothelial": VESSELS,
    "endothelial": VESSELS,
    "alpha": ("GCG", "TTR", "IRX2", "GC"),
    "beta": ("INS", "IAPP", "MAFA", "DLK1"),
    "delta": ("SST", "HHEX", "RBP4", "LEPR"),
    "gamma": ("PPY", "ETV1", "MEIS2"),
    "epsilon": ("GHRL",),
    "ductal": ("KRT19", "CFTR", "SPP1", "SLC4A4"),
    "acinar": ("PRSS1", "CPA1", "CTRB2", "REG1A"),
    "activated_stellate": ("COL1A1", "COL3A1", "COL6A3", "THY1"),
    "quiescent_stellate": ("RGS5", "NDUFA4L2", "ESAM", "FABP4"),
    "schwann": ("SOX10", "S100B", "PLP1", "CRYAB"),
    "astrocytes": ("GFAP", "AQP4", "SLC1A3", "ALDH1L1"),
    "neurons": ("SYT1", "SNAP25", "STMN2", "RBFOX3"),
    "oligodendrocytes": ("MBP", "MOG", "PLP1", "MAG"),
    "OPC": ("PDGFRA", "CSPG4", "OLIG1", "VCAN"),
    "fetal_quiescent": ("DCX", "STMN2", "SOX11", "MEF2C"),
    "fetal_replicating": ("MKI67", "TOP2A", "SOX2", "VIM"),
}
DESCRIBED = (
    "f1 match",
    "f1 score_genes",
    "f1 with its cells",
    "macro-f1 match",
    "macro-f1 score_genes",
    "macro-f1 left out",
    "macro-f1 with its cells",
    "auroc match",
    "auroc score_genes",
)
RESTRICTED = ("match", "match, restricted", "ensemble", "ensemble, restricted")
Measures = dict[str, list[dict[str, float]]]


def main() -> None:
    options = read_options(__doc__)
    began = time.perf_counter()
    model, studies, tasks, placed = prepare(options)
    tables = []
    for task in tasks:
        described, restricted = measure(task, studies, task.gather(placed), model)
        tables.append({"task": task.name, "described": described, "restricted": restricted})
        print(to_text(tables[-1]), flush=True)
    if options.out is not None:
        write(options, model, tables, time.perf_counter() - began)


def measure(
    task: Task, studies: Mapping[str, Study], embedding: Float[np.ndarray, "N P"], model: PretrainedModel
) -> tuple[dict[str, Any], dict[str, float]]:
    """Return what descriptions are worth, the mean and each label's, and restrictions."""
    found: Measures = {}
    restricted: list[dict[str, float]] = []
    expression = LatentExpression.of(model.network)
    for seed, splits in enumerate(task.splits):
        for split in splits[:1] if task.grouping == "cell" else splits:
            fits = Fits(task, studies, embedding, split, seed, expression)
            names = np.unique(task.labels[split.test]).tolist()
            if set(task.labels[split.train]) - set(names) and len(names) > 1:
                restricted.append(restrict(fits, [name for name in names if name in task.labels[split.train]]))
            for name in names:
                genes = described_by(name, task, model.genes)
                kept = task.labels[split.train] != name
                left = len(np.unique(task.labels[split.train][kept]))
                if (
                    genes.size
                    and (task.labels[split.test] == name).sum() >= LEAST_CELLS
                    and left > 1
                    and not kept.all()
                ):
                    found.setdefault(name, []).append(leave_out(fits, name, genes, model.genes))
    by_label = {
        name: {key: float(np.mean([one[key] for one in many])) for key in DESCRIBED} for name, many in found.items()
    }
    gained = {key: float(np.mean([one[key] for one in restricted])) for key in RESTRICTED} if restricted else {}
    for one in by_label.values():
        for key in ("f1", "macro-f1", "auroc"):
            one[f"{key}, match - score_genes"] = one[f"{key} match"] - one[f"{key} score_genes"]
    return {"mean": means(by_label), "labels": by_label}, gained


class Fits:
    """One split under one seed, and annotators fitted on its training cells, or some of them."""

    def __init__(
        self,
        task: Task,
        studies: Mapping[str, Study],
        embedding: Float[np.ndarray, "N P"],
        split: Split,
        seed: int,
        expression: LatentExpression | None,
    ) -> None:
        self.task, self.studies, self.embedding, self.split = task, studies, embedding, split
        self.seed, self.expression = seed, expression
        self.truth = task.labels[split.test]
        self.whole = self.learn(split.train, "match")

    def learn(self, rows: Int[np.ndarray, " A"], method: AnnotationMethod) -> Learned:
        task = self.task
        return Learned.fit(
            method,
            self.embedding[rows],
            task.counts[rows],
            task.labels[rows],
            read=task.genes,
            expression=self.expression,
            seed=self.seed,
        )

    def ask(self, learned: Learned, described: Mapping[str, Int[np.ndarray, " m"]] | None = None) -> Views:
        test = self.split.test
        cells = learned.view(self.embedding[test], self.task.counts[test], self.task.genes, described=described)
        return learned.align(cells)[0]

    def score_genes(
        self, kept: Int[np.ndarray, " A"], genes: Int[np.ndarray, " m"], vocabulary: GeneVocabulary
    ) -> Float[np.ndarray, " B"]:
        """Return scanpy's score of the tested cells, less what 1 % of the reference's cells exceed."""
        rows, read = np.concatenate([kept, self.split.test]), np.flatnonzero(self.task.genes)
        cells = AnnData(log_normalize(self.task.counts[rows][:, read]))
        cells.var_names = [vocabulary.symbols[place] for place in read]
        scanpy.tl.score_genes(cells, [vocabulary.symbols[place] for place in genes], random_state=self.seed)
        scores = cells.obs["score"].to_numpy(dtype=np.float64)
        return scores[len(kept) :] - np.quantile(scores[: len(kept)], 0.99)

    def macro_f1(self, labels: Shaped[np.ndarray, " L"], scores: Float[np.ndarray, "B L"]) -> float:
        return macro_f1(self.truth, labels[scores.argmax(axis=1)].astype(str))


def restrict(fits: Fits, candidates: list[str]) -> dict[str, float]:
    learned = fits.whole
    cells, allowed = fits.ask(learned), np.isin(learned.labels, candidates)
    measured = {}
    for name, scores in (("match", learned.scores(cells)), ("ensemble", learned.learned_scores(cells))):
        measured[name] = fits.macro_f1(learned.labels, scores)
        measured[f"{name}, restricted"] = fits.macro_f1(learned.labels[allowed], scores[:, allowed])
    return measured


def leave_out(fits: Fits, name: str, genes: Int[np.ndarray, " m"], vocabulary: GeneVocabulary) -> dict[str, float]:
    split, truth = fits.split, fits.truth
    kept = split.train[fits.task.labels[split.train] != name]
    learned = fits.learn(kept, "match")
    cells, whole = fits.ask(learned, {name: genes}), fits.whole
    names = np.append(learned.labels, name)
    pairs, own = learned.scores(cells), learned.described_scores(cells, genes)
    others, scored = learned.learned_scores(cells), fits.score_genes(kept, genes, vocabulary)
    said = {
        "match": names[np.column_stack([pairs, own]).argmax(axis=1)],
        "score_genes": np.where(scored > 0, name, learned.labels[others.argmax(axis=1)]),
        "left out": learned.labels[others.argmax(axis=1)],
        "with its cells": whole.labels[whole.scores(fits.ask(whole)).argmax(axis=1)],
    }
    here = truth == name
    measured = {f"f1 {key}": float(f1_score(here, one == name)) for key, one in said.items()}
    measured |= {f"macro-f1 {key}": macro_f1(truth, one.astype(str)) for key, one in said.items()}
    measured["auroc match"] = float(roc_auc_score(here, own - pairs.max(axis=1)))
    measured["auroc score_genes"] = float(roc_auc_score(here, scored))
    return measured


def described_by(name: str, task: Task, vocabulary: GeneVocabulary) -> Int[np.ndarray, " m"]:
    """Return the places of a label's markers that were measured."""
    if name not in MARKERS:
        return np.array([], dtype=np.int64)
    places = vocabulary.match({"genes": MARKERS[name]}).target
    return places[(places >= 0) & task.genes[places]]


def to_text(table: Mapping[str, Any]) -> str:
    lines = [f"\n{table['task']}: {len(table['described']['labels'])} labels described"]
    lines += [
        f"  {key:<30}{v:.3f} [{low:.3f}, {high:.3f}]" for key, (v, low, high) in table["described"]["mean"].items()
    ]
    lines += [f"  {key:<30}{value:.3f}" for key, value in table["restricted"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
