import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.tasks import Source, Study, TaskPlan, build_task


def study(name: str, labels: list[str], measured: list[bool], **obs: list[str]) -> Study:
    counts = np.arange(1, 1 + len(labels) * len(measured)).reshape(len(labels), -1) * np.array(measured)
    return Study(
        name=name,
        counts=csr_matrix(counts.astype(np.float32)),
        measured=np.array(measured),
        obs={key: np.array(values) for key, values in {"cell_type": labels, **obs}.items()},
    )


BLOOD = study("blood", ["T4", "T8", "B", "unlabelled", "T4"], [True, True, False], donor=["d1", "d1", "d2", "d2", "d2"])
LUNG = study("lung", ["T cell", "Ciliated", "B cell"], [False, True, True])
STUDIES = {"blood": BLOOD, "lung": LUNG}
TWO = TaskPlan(
    name="blood -> lung",
    sources=(
        Source(study="blood", rename={"T4": "T", "T8": "T", "B": "B"}),
        Source(study="lung", rename={"T cell": "T", "B cell": "B"}),
    ),
)


def test_two_studies_meet_on_shared_names_and_genes() -> None:
    task = build_task(TWO, STUDIES)
    assert task.labels.tolist() == ["T", "T", "B", "T", "T", "B"]
    assert task.groups.tolist() == task.studies.tolist() == ["blood"] * 4 + ["lung"] * 2
    assert task.rows.tolist() == [0, 1, 2, 4, 0, 2]  # unlabelled and ciliated cells are out
    assert task.genes.tolist() == [False, True, False]
    np.testing.assert_array_equal(task.counts.toarray()[-1], LUNG.counts.toarray()[2])
    assert task.grouping == "study" and task.tested.tolist() == [4, 5] and len(task.splits) == 3
    for (split,) in task.splits:
        assert set(split.train) <= {0, 1, 2, 3} and split.test.tolist() == [4, 5]


def test_folds_inside_a_study_by_donor_or_by_cell() -> None:
    by_donor = build_task(TaskPlan(name="d", sources=(Source(study="blood"),), grouping="donor"), STUDIES)
    assert by_donor.tested.tolist() == [0, 1, 2, 3]
    assert by_donor.unseen_labels == ("B", "T8")
    by_cell = build_task(TaskPlan(name="c", sources=(Source(study="blood"),), grouping="cell", num_folds=2), STUDIES)
    assert by_cell.grouping == "cell" and len(by_cell.splits[0]) == 2


def test_only_some_cells() -> None:
    source = Source(study="blood", only=("donor", "d2"))
    task = build_task(TaskPlan(name="d2", sources=(source,), grouping="cell", num_folds=2), STUDIES)
    assert task.rows.tolist() == [2, 4]


def test_an_outer_join_measures_what_every_batch_saw() -> None:
    counts = csr_matrix(np.array([[1, 2, 0], [1, 0, 0], [1, 0, 3], [0, 0, 1]], dtype=np.float32))
    obs = {"cell_type": np.array(list("abab")), "batch": np.array(["x", "x", "y", "y"])}
    joined = Study(name="joined", counts=counts, measured=np.ones(3, dtype=bool), obs=obs)
    plan = TaskPlan(name="j", sources=(Source(study="joined"),), grouping="batch", joined_by="batch")
    assert build_task(plan, {"joined": joined}).genes.tolist() == [True, False, False]


def test_predictions_and_embeddings_land_on_their_cells() -> None:
    task = build_task(TWO, STUDIES)
    embeddings = {
        "blood": np.arange(5, dtype=np.float32)[:, None],
        "lung": 10 + np.arange(3, dtype=np.float32)[:, None],
    }
    np.testing.assert_array_equal(task.gather(embeddings).ravel(), [0, 1, 2, 4, 10, 12])
    predicted = task.predict(lambda split, seed: np.array([f"{seed}:{row}" for row in split.test]))
    assert [one.tolist() for one in predicted] == [["0:4", "0:5"], ["1:4", "1:5"], ["2:4", "2:5"]]


def test_a_missing_study_is_named() -> None:
    with pytest.raises(ConfigError, match=r"the study 'lung' is needed and was not given; there are blood\."):
        build_task(TWO, {"blood": BLOOD})
