import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation import baseline_cache, metrics
from xtrimogene.evaluation.baseline_cache import cached_baselines, cached_predictions, fingerprint
from xtrimogene.evaluation.baselines import HvgPca
from xtrimogene.evaluation.classifiers import classify
from xtrimogene.evaluation.comparison import ALL_GENES, JOINT_PCA, MAJORITY, Baselines, Method, compare, run_baselines
from xtrimogene.evaluation.task_tables import as_dict, overview, summary, to_markdown
from xtrimogene.evaluation.tasks import Source, Study, Task, TaskPlan, build_task


def make_study(name: str, seed: int, num_cells: int = 40) -> Study:
    random = np.random.default_rng(seed)
    labels = np.array(["a", "b"])[np.arange(num_cells) % 2]
    rates = np.tile(np.random.default_rng(0).gamma(0.5, 2.0, size=80), (num_cells, 1))
    rates[labels == "b", :8] += 3
    counts = csr_matrix(random.poisson(rates).astype(np.float32))
    donors = np.array([f"d{number}" for number in random.integers(3, size=num_cells)])
    return Study(name=name, counts=counts, measured=np.ones(80, dtype=bool), obs={"cell_type": labels, "donor": donors})


STUDIES = {name: make_study(name, seed) for seed, name in enumerate(["one", "two"], start=1)}


@pytest.fixture(scope="module")
def task() -> Task:
    return build_task(
        TaskPlan(name="one -> two", sources=(Source(study="one"), Source(study="two")), mixing=True), STUDIES
    )


@pytest.fixture(scope="module")
def known(task: Task) -> Baselines:
    return run_baselines(task)


def perfect_and_useless(task: Task) -> dict[str, list[np.ndarray]]:
    random = np.random.default_rng(5)
    signal = np.where(task.labels == "a", 5.0, -5.0)[:, None] + random.normal(size=(len(task.labels), 1))
    return {
        "ours": [signal.astype(np.float32)],
        "random weights": [random.normal(size=signal.shape).astype(np.float32) for _ in range(3)],
    }


def test_every_baseline_answers_for_every_tested_cell(task: Task, known: Baselines) -> None:
    names = {str(method) for method in known.predictions}
    assert {"HVG + PCA, linear", "HVG + PCA, knn", "joint HVG + PCA, knn", "all genes, linear"} <= names
    for predicted in known.predictions.values():
        assert len(predicted) == 3 and all(set(one) <= {"a", "b"} and len(one) == 40 for one in predicted)
    assert known.space.mixing is not None


def test_pca_is_read_with_the_scaling_that_serves_it_best(task: Task, known: Baselines) -> None:
    split, counts = task.splits[0][0], task.counts[:, np.flatnonzero(task.genes)]
    pca = HvgPca.fit(counts[split.train], seed=0)
    train, test = pca.transform(counts[split.train]), pca.transform(counts[split.test])
    each, together = (
        classify(train, task.labels[split.train], test, scaling=scaling) for scaling in ("each", "together")
    )
    assert (each != together).any()
    assert (known.predictions[Method(features="HVG + PCA", classifier="linear")][0] == each).all()


def test_the_joint_pca_stands_only_between_studies() -> None:
    plan = TaskPlan(name="by donor", sources=(Source(study="one"),), grouping="donor")
    inside = run_baselines(build_task(plan, STUDIES))
    assert not any(method.features == JOINT_PCA for method in inside.predictions)
    assert inside.space.mixing is None


def test_baselines_learn_nothing_from_test_labels_or_other_test_counts(task: Task, known: Baselines) -> None:
    two = STUDIES["two"]
    altered = two.counts.toarray()
    altered[20:] = altered[20:, ::-1] * 3 + 1
    other = Study(
        name="other",
        counts=csr_matrix(altered),
        measured=two.measured,
        obs={"cell_type": np.array(["never", "seen"])[np.arange(40) // 20]},
    )
    plan = TaskPlan(name="one -> other", sources=(Source(study="one"), Source(study="other")))
    again = run_baselines(build_task(plan, {**STUDIES, "other": other}))
    for method, predicted in known.predictions.items():
        if method.features != JOINT_PCA:
            for seed in range(3):
                np.testing.assert_array_equal(again.predictions[method][seed][:20], predicted[seed][:20])


def test_a_perfect_embedding_beats_and_a_useless_one_loses(task: Task, known: Baselines) -> None:
    embeddings = perfect_and_useless(task)
    result = compare(task, embeddings, known, num_resamples=300)
    scores = {str(score.method): score.macro_f1.mean for score in result.scores}
    assert scores["ours, linear"] == scores["ours, knn"] == 1.0 and scores["random weights, knn"] < 0.8
    verdicts = {(str(one.method), str(one.baseline)): one.verdict for one in result.differences}
    assert verdicts["ours, linear", "random weights, linear"] == "beats"
    assert verdicts["ours, knn", "most frequent label"] == verdicts["ours, linear", "most frequent label"] == "beats"
    assert ("ours, knn", "all genes, linear") not in verdicts
    swapped = compare(task, dict(reversed(embeddings.items())), known, num_resamples=300)
    assert {one.verdict for one in swapped.differences if one.baseline.features == "ours"} == {"loses"}
    assert result.spaces["ours"].clusters.ari == 1.0
    assert result.num_tested == 40 and result.labels == ("a", "b") and result.unseen_labels == ()


def test_an_embedding_of_other_cells_is_refused(task: Task, known: Baselines) -> None:
    with pytest.raises(ConfigError, match="arrays of \\[3\\] rows"):
        compare(task, {"ours": [np.zeros((3, 2), dtype=np.float32)]}, known)


def test_report_says_who_wins_in_words_tables_and_json(task: Task, known: Baselines) -> None:
    embeddings = perfect_and_useless(task)
    results = [compare(task, dict(reversed(embeddings.items())), known, num_resamples=300)]
    sentences = list(summary(results))
    lost = next(sentence for sentence in sentences if "beats ours, linear" in sentence)
    assert lost.startswith(
        "random weights, linear: beats ours, linear on 0 of 1 task, ties on 0; ours, linear wins on one -> two (-0."
    )
    linear, knn = overview(results)
    assert "| one -> two |" in linear and "1.000 -" in linear and "all genes" in linear and "all genes" not in knn
    text = to_markdown(results)
    assert max(map(len, text.splitlines()[len(sentences) :])) <= 100
    assert "### one -> two" in text and "40 test cells, 2 labels; kept apart: study." in text
    stored = json.loads(json.dumps(as_dict(results)))
    assert stored["summary"] == sentences
    assert stored["tasks"][0]["scores"][0]["method"] == {"features": "random weights", "classifier": "linear"}


def test_report_of_the_baselines_alone(task: Task, known: Baselines) -> None:
    result = compare(task, {}, known, num_resamples=100)
    assert result.differences == () and list(summary([result])) == []
    assert to_markdown([result]).startswith("### one -> two")


def test_cache_gives_back_what_was_found_and_notices_a_change(
    tmp_path, task: Task, known: Baselines, monkeypatch
) -> None:  # type: ignore[no-untyped-def]
    first = cached_baselines(task, tmp_path / "cache")
    monkeypatch.setattr(baseline_cache, "run_baselines", lambda task: pytest.fail("read it instead"))
    again = cached_baselines(task, tmp_path / "cache")
    assert again.space == first.space == known.space
    assert (
        again.predictions.keys()
        == known.predictions.keys()
        > {ALL_GENES, MAJORITY, Method(features="HVG + PCA", classifier="knn")}
    )
    for method, predicted in known.predictions.items():
        np.testing.assert_array_equal(again.predictions[method], predicted)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".json"]
    plan = TaskPlan(name="two -> one", sources=(Source(study="two"), Source(study="one")), mixing=True)
    assert fingerprint(build_task(plan, STUDIES)) != fingerprint(task)


def test_cache_tells_methods_versions_and_code_apart(tmp_path: Path, task: Task) -> None:
    def of(label: str) -> Callable[[], dict[Method, tuple[np.ndarray, ...]]]:
        return lambda: {Method(features=label, classifier=None): (np.full(len(task.tested), label),) * 3}

    first = cached_predictions(task, tmp_path, of("a"), made_by="theirs 1.0", code=(baseline_cache,))
    again = cached_predictions(task, tmp_path, of("b"), made_by="theirs 1.0", code=(baseline_cache,))
    assert [method.features for method in again] == ["a"]
    np.testing.assert_array_equal(*first.values(), *again.values())
    for made_by, code in (("theirs 1.1", (baseline_cache,)), ("theirs 1.0", (metrics,)), ("theirs 1.0", ())):
        (found,) = cached_predictions(task, tmp_path, of("b"), made_by=made_by, code=code)
        assert found.features == "b"
