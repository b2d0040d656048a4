"""The methods of a study that read the model, and the plain baselines beside them.

Letters: N cells of the task; P width of the embedding.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np
from jaxtyping import Float

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.config import FineTuneConfig
from xtrimogene.evaluation.baselines import HvgPca, majority
from xtrimogene.evaluation.choice import read_all_genes, read_features
from xtrimogene.evaluation.comparison import ALL_GENES, MAJORITY, Method
from xtrimogene.evaluation.study import AnnotationStudy
from xtrimogene.evaluation.tasks import Task
from xtrimogene.evaluation.trials import Answer, Lesson, Run, Sureness
from xtrimogene.inference import Inference
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.tasks.annotation.annotator import Annotator
from xtrimogene.tasks.annotation.latent_expression import LatentExpression
from xtrimogene.tasks.annotation.learned import AnnotationMethod, draw_cells
from xtrimogene.tasks.annotation.tuned import with_tuned

EMBEDDING, RANDOM = "embedding", "random weights"
CHOSEN = "chosen"


def model_runs(
    study: AnnotationStudy, task: Task, embedding: Float[np.ndarray, "N P"], model: PretrainedModel
) -> list[Run]:
    """Return what runs our annotator, its embedding alone, and the baselines of the study."""
    runs: list[Run] = [
        lambda lesson: run_annotators(study, task, embedding, model, lesson),
        lambda lesson: run_embedding(EMBEDDING, embedding, lesson, study.strengths),
    ]
    if "random_weights" in study.baselines:
        untrained: dict[int, Float[np.ndarray, "N P"]] = {}

        def run_random(lesson: Lesson) -> Mapping[Method, Answer]:
            if lesson.seed not in untrained:
                network = XTrimoGene(model.config, seed=lesson.seed).eval().requires_grad_(False)
                untrained.clear()  # seeds come one after the other
                untrained[lesson.seed] = Inference(
                    PretrainedModel(network, model.genes), device=study.device
                ).cell_embeddings(task.counts)
            return run_embedding(RANDOM, untrained[lesson.seed], lesson, study.strengths)

        runs.append(run_random)
    if "pca" in study.baselines:
        runs.append(lambda lesson: run_pca(lesson, study.strengths))
    if "all_genes" in study.baselines:
        runs.append(lambda lesson: read_all_genes(ALL_GENES, lesson, study.strengths))
    if "majority" in study.baselines:
        runs.append(lambda lesson: {MAJORITY: Answer(labels=majority(lesson.labels, lesson.asked.shape[0]))})
    return runs


def annotate_name(study: AnnotationStudy) -> str:
    """Return what our annotator is called: it gets a star where it aligns the test cells, which sees their counts."""
    return "annotate*" if study.align else "annotate"


def ours_of(study: AnnotationStudy) -> Method:
    """Return the method that the verdict is about."""
    return Method(features=annotate_name(study), classifier=CHOSEN if len(study.methods) > 1 else study.methods[0])


def run_annotators(
    study: AnnotationStudy, task: Task, embedding: Float[np.ndarray, "N P"], model: PretrainedModel, lesson: Lesson
) -> dict[Method, Answer]:
    """Run each method of `annotate`, and the one that is best in cells held out of those learned from.

    `Annotator.fit` holds out folds of these cells, by the same groups, and measures itself there.
    """
    answers, held_out = dict[str, Answer](), dict[str, float]()
    for method in study.methods:
        checked = cast(AnnotationMethod, method)  # by check_options
        answers[method], held_out[method] = run_annotator(study, task, embedding, model, lesson, checked)
    found = {Method(features=annotate_name(study), classifier=method): answer for method, answer in answers.items()}
    if len(answers) > 1:
        best = max(held_out, key=lambda method: held_out[method])
        found[ours_of(study)] = Answer(
            labels=answers[best].labels,
            sureness=answers[best].sureness,
            chosen={"setting": "method", "value": best, "macro_f1": held_out},
        )
    return found


def run_annotator(
    study: AnnotationStudy,
    task: Task,
    embedding: Float[np.ndarray, "N P"],
    model: PretrainedModel,
    lesson: Lesson,
    method: AnnotationMethod,
) -> tuple[Answer, float]:
    """Return what one method says, and its macro-F1 in cells held out of those it learned from.

    It learns from as many cells as `annotate` draws.
    """
    drawn, counted = draw_cells(lesson.labels, seed=lesson.seed)
    read = np.isfinite(embedding[lesson.rows[drawn]]).all(axis=1)
    drawn, counted = drawn[read], counted[read]
    rows, labels = lesson.rows[drawn], lesson.labels[drawn]
    groups = None if lesson.groups is None else lesson.groups[drawn]
    cells, counts = embedding[rows], task.counts[rows]
    asked, asked_counts = embedding[lesson.asked_rows], task.counts[lesson.asked_rows]
    tuned = None
    if method == "finetune":
        from xtrimogene.tasks.annotation.tuning import tune  # Lightning takes seconds to import

        inference, config = Inference(model, device=study.device), FineTuneConfig(seed=lesson.seed)
        tuned = tune(model, inference, counts, cells, labels, config=config, groups=groups, progress=False)
        cells, asked = tuned.embedding, with_tuned(inference, model, tuned.weights).cell_embeddings(asked_counts)
    fitted = Annotator.fit(
        cells,
        counts,
        labels,
        read=task.genes,
        counted=counted,
        method=method,
        groups=groups,
        align=study.align,
        baselines=False,
        expression=LatentExpression.of(model.network) if method == "match" else None,
        tuned=tuned,
        seed=lesson.seed,
    )
    said = fitted.annotate(fitted.learned.view(asked, asked_counts, task.genes), error_rate=study.error_rate)
    names = np.array([*said.labels, ""])  # the last for a cell without a label, -1
    sureness = Sureness(
        confidence=said.confidence,
        possible=tuple(frozenset(names[:-1][may].tolist()) for may in said.possible),
        unknown=said.novel,
    )
    return Answer(labels=names[said.best], sureness=sureness), float(fitted.held_out["macro_f1"])


def run_embedding(
    name: str, embedding: Float[np.ndarray, "N P"], lesson: Lesson, strengths: Sequence[float]
) -> dict[Method, Answer]:
    cells, asked = embedding[lesson.rows], embedding[lesson.asked_rows]
    return read_features(name, cells, asked, lesson, strengths, scaling="together")


def run_pca(lesson: Lesson, strengths: Sequence[float]) -> dict[Method, Answer]:
    fitted = HvgPca.fit(lesson.counts, seed=lesson.seed)
    cells, asked = fitted.transform(lesson.counts), fitted.transform(lesson.asked)
    return read_features("HVG + PCA", cells, asked, lesson, strengths, scaling="each")
