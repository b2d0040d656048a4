import numpy as np
from scipy.sparse import csr_matrix

from xtrimogene.tasks.perturbation.control_genes import ControlGenes
from xtrimogene.tasks.perturbation.gene_graph import coexpression_graph


def test_a_context_that_is_left_out_says_nothing() -> None:
    random = np.random.default_rng(0)
    values, context = csr_matrix(random.random((30, 8))), np.arange(30) % 3
    states = random.normal(size=(3, 12, 4))
    genes = ControlGenes(context_names=("x", "y", "z"), states=states, values=values, context=context)
    known = genes.knowledge(("x", "z"))
    np.testing.assert_allclose(known.states, (states[0] + states[2]) / 2)
    expected = coexpression_graph(values[context != 1])
    assert (genes.coexpression(("z", "x")) != expected).nnz == 0
    assert (genes.coexpression(("x", "y", "z")) != expected).nnz > 0
