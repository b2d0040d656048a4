import numpy as np

from xtrimogene.tasks.annotation.voting import vote


def test_one_odd_cell_among_others_is_outvoted() -> None:
    random = np.random.default_rng(0)
    embedding = np.concatenate([random.normal(0, 1, (40, 2)), random.normal(50, 1, (40, 2))])
    probabilities = np.repeat([[0.7, 0.3], [0.2, 0.8]], 40, axis=0)
    probabilities[[3, 50]] = [[0.4, 0.6], [0.6, 0.4]]
    assert vote(embedding, probabilities).tolist() == [0] * 40 + [1] * 40


def test_a_cell_weighs_as_much_as_its_neighbours_together() -> None:
    embedding = np.arange(3, dtype=float)[:, None]
    own, others = [0.0, 1.0], [0.6, 0.4]
    assert vote(embedding, np.array([own, others, others])).tolist() == [1, 1, 1]
    assert vote(embedding, np.array([[0.45, 0.55], others, others])).tolist() == [0, 0, 0]
    assert vote(embedding[:1], np.array([own])).tolist() == [1], "no neighbour, no vote"


def test_cells_without_an_embedding_neither_vote_nor_get_a_label() -> None:
    embedding = np.array([[0.0], [np.nan], [1.0]])
    probabilities = np.array([[0.6, 0.4], [np.nan, np.nan], [0.6, 0.4]])
    assert vote(embedding, probabilities).tolist() == [0, -1, 0]
    assert vote(embedding[1:2], probabilities[1:2]).tolist() == [-1]
