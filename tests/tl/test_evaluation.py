"""A study from files to a result: what methods learn from, what is refused, and what cannot be looked at."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData, read_h5ad

import xtrimogene as xt
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.data.cell_hashes import gene_keys, hash_cells
from xtrimogene.errors import ConfigError, FieldError
from xtrimogene.evaluation import AnnotationStudy, annotation, read_study
from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.evaluation.benchmark_sets import HAO_COARSE, PBMC3K_COARSE
from xtrimogene.evaluation.classifiers import classify
from xtrimogene.evaluation.splits import Split
from xtrimogene.evaluation.trials import lesson_of
from xtrimogene.inference import Inference
from xtrimogene.tasks.annotation.learned import draw_cells
from xtrimogene.tl import evaluation, learning, study_methods
from xtrimogene.tl.study_cells import read_study_cells
from xtrimogene.tl.study_labels import read_labelled_files
from xtrimogene.tl.study_methods import ours_of, run_annotators, run_pca
from xtrimogene.training import FineTuneConfig

MakeCells = Callable[..., AnnData]
Study = Callable[..., AnnotationStudy]


@pytest.fixture
def make_study(make_cells: MakeCells, tiny_folder: Path, tmp_path: Path) -> Study:
    """Return a builder of a study of two files, 60 cells and 24, of three types; ``change`` alters the second."""

    def build(change: Callable[[AnnData], None] = lambda cells: None, **settings: object) -> AnnotationStudy:
        paths = []
        for name, number, seed in (("one", 60, 1), ("two", 24, 2)):
            cells = make_cells(num_cells=number, seed=seed)
            counts = cells.X.toarray()
            counts[:, np.argsort(cells.var_names)[:60]] += np.random.default_rng(seed).poisson(
                3.0 * (np.arange(60) // 20 == np.arange(number)[:, None] % 3)
            )
            cells.X = type(cells.X)(counts.astype(np.float32))
            cells.obs["donor"] = [f"d{place % 4}" for place in range(number)]
            cells.obs["score"] = 0.5
            if name == "two":
                change(cells)
            paths.append(str(tmp_path / f"{name}.h5ad"))
            cells.write_h5ad(paths[-1])
        least = {
            "files": (paths[0],), "test_files": (paths[1],), "label_key": "cell_type", "output": str(tmp_path / "out"),
            "model": str(tiny_folder), "min_genes": 1, "methods": ("linear", "knn"), "outside": (), "seeds": (0,),
            "strengths": (0.01, 1.0),
        }  # fmt: skip
        return AnnotationStudy(**least | settings)

    return build


def shuffle_labels(cells: AnnData) -> None:
    cells.obs["cell_type"] = np.random.default_rng(3).permutation(cells.obs["cell_type"].astype(str))


def test_every_method_answers_and_learns(make_study: Study) -> None:
    result = annotation(make_study(seeds=(0, 1)), progress=False)
    scores = {str(score.method): score.macro_f1.mean for score in result.scores.scores}
    assert set(scores) == {
        "annotate*, linear", "annotate*, knn", "annotate*, chosen", "embedding, linear", "embedding, knn",
        "random weights, linear", "random weights, knn", "HVG + PCA, linear", "HVG + PCA, knn", "all genes, linear",
        "most frequent label",
    }  # fmt: skip
    assert scores["all genes, linear"] > 0.9 and scores["most frequent label"] < 0.2
    assert str(result.best_baseline) not in ("annotate*, linear", "embedding, linear")
    assert result.scores.grouping == "study" and result.scores.num_tested == 24
    assert result.facts["inner_grouping"] == ["cell"] and result.facts["tested_cells_seen_in_pretraining"] is None
    methods = [one for one in result.chosen if one["method"] == "annotate*, chosen"]
    assert [one["seed"] for one in methods] == [0, 1]
    for one in methods:
        assert one["macro_f1"][one["value"]] == max(one["macro_f1"].values())
    assert {one["setting"] for one in result.chosen} == {"C", "method"}


def test_labels_of_test_cells_have_no_say(make_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is chosen and answered is the same whatever the test cells are called."""
    told = []
    kept = evaluation.judge_trials

    def keep(study, task, trials, **others):
        told.append(trials)
        return kept(study, task, trials, **others)

    monkeypatch.setattr(evaluation, "judge_trials", keep)
    first = annotation(make_study(), progress=False)
    second = annotation(make_study(shuffle_labels), progress=False)
    assert first.chosen == second.chosen and first.scores.scores != second.scores.scores
    for method, by_seed in told[0].predictions.items():
        np.testing.assert_array_equal(by_seed[0], told[1].predictions[method][0], err_msg=str(method))


def test_a_baseline_is_fitted_on_the_cells_learned_from(make_study: Study, tiny_model: PretrainedModel) -> None:
    """Its answer to a cell is the same whoever else is asked for."""
    study = make_study()
    cells = read_study_cells(study, tiny_model, progress=False)
    task, split = cells.task, cells.task.splits[0][0]
    counts = task.counts[:, np.flatnonzero(task.genes)]
    few = Split(name="few", train=split.train, test=split.test[:5], grouping="study")
    of_all, of_few = (run_pca(lesson_of(task, counts, one, None, "", 2, 0), (0.1,)) for one in (split, few))
    for method, answer in of_few.items():
        np.testing.assert_array_equal(answer.labels, of_all[method].labels[:5])
    labels = task.labels[split.train]
    fitted = HvgPca.fit(counts[split.train], seed=0)
    by_hand = classify(
        fitted.transform(counts[split.train]), labels, fitted.transform(counts[split.test]), scaling="each",
        strength=0.1,
    )  # fmt: skip
    (linear,) = (answer for method, answer in of_all.items() if method.classifier == "linear")
    np.testing.assert_array_equal(linear.labels, by_hand)


def test_without_alignment_ours_has_no_star_and_looks_at_no_other_test_cell(
    make_study: Study, tiny_model: PretrainedModel
) -> None:
    study = make_study(align=False, methods=("linear",))
    cells = read_study_cells(study, tiny_model, progress=False)
    split = cells.task.splits[0][0]
    few = Split(name="few", train=split.train, test=split.test[:5], grouping="study")
    of_all, of_few = (
        run_annotators(
            study,
            cells.task,
            cells.embedding,
            tiny_model,
            lesson_of(cells.task, cells.task.counts, one, None, "", 2, 0),
        )
        for one in (split, few)
    )
    assert [str(method) for method in of_all] == ["annotate, linear"] and ours_of(study) in of_all
    np.testing.assert_array_equal(of_few[ours_of(study)].labels, of_all[ours_of(study)].labels[:5])
    assert str(ours_of(replace(study, align=True))) == "annotate*, linear"


def test_groups_are_kept_apart_outside_and_inside(make_study: Study, tiny_model: PretrainedModel) -> None:
    study = make_study(test_files=(), group_key="donor")
    cells = read_study_cells(study, tiny_model, progress=False)
    assert len(cells.task.splits[0]) == 4 and cells.task.grouping == "donor"
    for split in cells.task.splits[0]:
        lesson = lesson_of(cells.task, cells.task.counts, split, cells.inner_groups, "donor", 3, 0)
        tested = set(cells.task.groups[split.test])
        assert len(tested) == 1 and not tested & set(lesson.batches)
        for fold in lesson.inner:
            assert fold.grouping == "donor" and not set(lesson.batches[fold.train]) & set(lesson.batches[fold.test])
    by_cell = read_study_cells(make_study(test_files=(), split="cell"), tiny_model, progress=False)
    assert by_cell.task.grouping == "cell" and by_cell.inner_groups is None and len(by_cell.task.splits[0]) == 5


def test_files_are_held_out_in_turn(make_study: Study, tiny_model: PretrainedModel) -> None:
    both = make_study()
    study = make_study(files=both.files + both.test_files, test_files=())
    cells = read_study_cells(study, tiny_model, progress=False)
    assert [split.name for split in cells.task.splits[0]] == ["study: one", "study: two"]
    assert sorted(len(split.test) for split in cells.task.splits[0]) == [24, 60]


def test_genes_are_those_that_all_files_measured(make_study: Study, tiny_model: PretrainedModel) -> None:
    def drop(cells: AnnData) -> None:
        cells._inplace_subset_var(np.arange(cells.n_vars) >= 100)

    cells = read_study_cells(make_study(drop), tiny_model, progress=False)
    assert cells.task.genes.sum() == 300
    learned = cells.task.counts[cells.task.studies == "one"]
    assert not learned[:, np.flatnonzero(~cells.task.genes)].nnz, "a reference is read in the query's genes"


def test_cells_without_shared_counts_are_in_no_figure(make_study: Study, tiny_model: PretrainedModel) -> None:
    """Three cells of the second file have counts, and all of them in genes that the first did not measure."""

    def drop(cells: AnnData) -> None:
        counts = cells.X.toarray()
        counts[:3, :390] = 0
        counts[:3, 390:] = 1
        cells.X = type(cells.X)(counts)

    study = make_study(drop)
    one, two = read_h5ad(study.files[0]), read_h5ad(study.test_files[0])
    one[:, ~one.var_names.isin(two.var_names[390:])].copy().write_h5ad(study.files[0])
    of_model = two[:, list(tiny_model.genes.symbols)].X.tocsr()
    hashes = np.unique(hash_cells(of_model, gene_keys(tiny_model.genes)))
    cells = read_study_cells(study, replace(tiny_model, cell_hashes=hashes), progress=False)
    assert [file["cells_used"] for file in cells.files] == [60, 21] and [file["cells"] for file in cells.files] == [
        60,
        24,
    ]
    assert cells.num_seen == 21 and len(cells.task.labels) == len(cells.embedding) == 81
    assert cells.task.rows[60:].tolist() == list(range(3, 24))


@pytest.mark.parametrize("method", ["linear", "finetune"])
def test_ours_in_a_study_says_what_annotate_says(
    method: str, make_study: Study, tiny_model: PretrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the reference has more cells than are learned from."""
    tuning = FineTuneConfig(
        peak_lr=1e-2, head_lr=1e-2, step_tokens=1600, steps_per_epoch=1, max_epochs=2, averaging=0.5
    )
    monkeypatch.setattr(study_methods, "FineTuneConfig", partial(replace, tuning))
    for module in (study_methods, learning):
        monkeypatch.setattr(module, "draw_cells", partial(draw_cells, most=30, least_of_label=4))
    study = make_study(methods=(method,))
    cells = read_study_cells(study, tiny_model, progress=False)
    split = cells.task.splits[0][0]
    lesson = lesson_of(cells.task, cells.task.counts, split, None, "", 2, 0)
    (answer,) = run_annotators(study, cells.task, cells.embedding, tiny_model, lesson).values()
    reference = read_h5ad(study.files[0])[cells.task.rows[split.train]].copy()
    query = xt.tl.annotate(
        read_h5ad(study.test_files[0]), reference=reference, label_key="cell_type", model=tiny_model, min_genes=1,
        method=method, tuning=tuning if method == "finetune" else None, baselines=False, progress=False,
    )  # fmt: skip
    assert answer.sureness is not None
    np.testing.assert_allclose(answer.sureness.confidence, query.obs["xtrimogene_confidence"], rtol=1e-4)
    np.testing.assert_array_equal(answer.sureness.unknown, query.obs["xtrimogene_unknown"])
    assert query.uns["xtrimogene_annotation"]["annotator"]["cells"] == [10, 10, 10]


def test_labels_are_renamed_and_others_left_out(make_study: Study, tiny_model: PretrainedModel) -> None:
    plain = make_study()
    (one,) = plain.files
    (two,) = plain.test_files
    names = {one: {"a": ("type 0", "type 1"), "type 2": ("type 2",)}, two: {"a": ("type 0",), "b": ("type 1",)}}
    task = read_study_cells(make_study(labels=names), tiny_model, progress=False).task
    assert set(task.labels[task.studies == "one"]) == {"a", "type 2"}
    assert set(task.labels[task.studies == "two"]) == {"a", "b"}
    study = make_study(left_out=("type 2",))
    task = read_study_cells(study, tiny_model, progress=False).task
    assert set(task.labels[task.studies == "one"]) == set(task.labels[task.studies == "two"]) == {"type 0", "type 1"}


def test_a_gene_that_a_batch_never_has_is_not_measured(make_study: Study, tiny_model: PretrainedModel) -> None:
    def join(cells: AnnData) -> None:
        counts = cells.X.toarray()
        counts[::2, :50] = 0
        cells.X, cells.obs["batch"] = type(cells.X)(counts), ["x", "y"] * 12

    plain = make_study(join)
    joined = make_study(join, joined_by={plain.test_files[0]: "batch"})
    apart, together = (read_study_cells(one, tiny_model, progress=False).task for one in (joined, plain))
    assert together.genes.sum() == 400 and apart.genes.sum() <= 350


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"label_key": "kind"}, FieldError, "one's obs has no 'kind', it has cell_type, donor, score"),
        ({"label_key": "score"}, FieldError, r"one's obs\['score'\] holds float64 numbers"),
        ({"group_key": "batch"}, FieldError, "one's obs has no 'batch'"),
        ({"methods": ("forest",)}, ConfigError, "method='forest' is not one of"),
        ({"left_out": ("type 0", "type 1", "type 2")}, ConfigError, "no cell of one has a label that is asked for"),
    ],
)
def test_refused(settings: dict[str, object], error: type[Exception], words: str, make_study: Study) -> None:
    with pytest.raises(error, match=words):
        annotation(make_study(**settings), progress=False)


def test_what_cannot_be_learned_is_told_before_anything_is_embedded(
    make_study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Inference, "cell_embeddings", lambda *_, **__: pytest.fail("too late"))
    renamed = make_study(lambda cells: cells.obs.insert(0, "kind", "T" + cells.obs["cell_type"].astype(str)))
    renamed = replace(renamed, label_keys={renamed.test_files[0]: "kind"})
    words = r"no label that is tested \(Ttype 0, .*\) is one of those learned from \(type 0, .*\); say in \[labels\]"
    with pytest.raises(ConfigError, match=words):
        annotation(renamed, progress=False)

    def part(cells: AnnData) -> None:
        cells.obs["donor"] = np.where(cells.obs["cell_type"] == "type 0", "healthy", "ill")

    study = make_study(part, left_out=("type 2",))
    study = replace(study, files=study.test_files, test_files=(), group_key="donor")
    with pytest.raises(ConfigError, match="the split 'donor: healthy' leaves cells of 1 label to learn from; two are"):
        annotation(study, progress=False)


def test_what_cannot_be_renamed_or_held_out_is_told(make_study: Study) -> None:
    plain = make_study()
    with pytest.raises(ConfigError, match="labels names 'type 9', which no cell of one has; it has type 0, type 1"):
        annotation(make_study(labels={plain.files[0]: {"T": ("type 9",)}}), progress=False)

    study = make_study(lambda cells: cells.obs.insert(0, "kind", "same"))
    study = replace(study, files=study.test_files, test_files=(), group_key="kind")
    with pytest.raises(ConfigError, match="all cells belong to the kind 'same'; two are needed"):
        annotation(study, progress=False)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["pbmc3k_to_hao", "baron_by_library", "zilionis_by_donor"])
def test_the_studies_of_the_benchmarks_can_be_read(name: str, shared: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    study = read_study(root / "benchmarks" / "annotation_studies" / f"{name}.toml")
    files = read_labelled_files(study)
    assert all(file.used.any() for file in files)
    if name == "pbmc3k_to_hao":
        for file, mapped in zip(files, (PBMC3K_COARSE, HAO_COARSE), strict=True):
            ours = {theirs: label for label, names in study.labels[file.path].items() for theirs in names}
            assert ours == dict(mapped)
