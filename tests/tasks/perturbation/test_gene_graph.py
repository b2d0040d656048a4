import numpy as np
import pytest
from scipy.sparse import csr_matrix

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.perturbation.gene_graph import coexpression_graph, edge_graph, neighborhoods, smooth, walk


def test_edges_are_symmetric_and_added_up() -> None:
    graph = edge_graph(np.array([0, 1, 2, 0]), np.array([1, 0, 2, 2]), np.array([1.0, 2.0, 5.0, 0.0]), 3)
    np.testing.assert_array_equal(graph.toarray(), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])
    for weight, words in ((-1.0, "finite weights"), (np.nan, "finite weights"), (0.0, "no edge")):
        with pytest.raises(ConfigError, match=words):
            edge_graph(np.array([0]), np.array([1]), np.array([weight]), 2)


def test_the_nearest_by_correlation_are_joined() -> None:
    random = np.random.default_rng(0)
    values = random.random((300, 5))
    values[:, 1] = values[:, 0] + 0.1 * random.random(300)
    values[:, 2] = -values[:, 0] + 1
    values[:, 4] = 0
    graph = coexpression_graph(csr_matrix(values), num_neighbors=1, block=2).toarray()
    true = np.corrcoef(values[:, :4].T)
    assert graph[0, 1] == pytest.approx(true[0, 1]) and (graph == graph.T).all()
    assert graph[0, 2] == 0 and not graph[4].any() and not graph.diagonal().any()


def test_walks_end_at_neighbours() -> None:
    graph = edge_graph(np.array([0, 1]), np.array([1, 2]), np.ones(2), 4)
    step = walk(graph).toarray()
    assert step[0, 1] == pytest.approx(1 / np.sqrt(2 * 3)) and step[3, 3] == 1
    ends = neighborhoods(graph, np.array([0, 3]))
    assert np.linalg.norm(ends[[0]].toarray()) == pytest.approx(1) and ends[0, 2] > 0
    assert ends[[1]].nnz == 0 or not ends[[1]].toarray().any()  # no neighbour: like nothing else
    np.testing.assert_allclose(smooth(graph, np.eye(4), num_steps=1), step)
