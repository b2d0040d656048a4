from collections.abc import Callable

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import xtrimogene.tasks.gene_states as gene_states
from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.errors import CountsError
from xtrimogene.inference import Inference
from xtrimogene.tasks.gene_states import mean_gene_embeddings


@pytest.fixture
def inference(tiny_model: PretrainedModel) -> Inference:
    return Inference(tiny_model, device="cpu")


def test_is_the_mean_over_the_cells_of_each_group(
    inference: Inference, make_counts: Callable[..., csr_matrix], monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = make_counts(9, inference.config.num_genes)
    counts.data[counts.indptr[4] : counts.indptr[5]] = 0  # cannot be read, so it is in no mean
    counts.eliminate_zeros()
    groups, genes = np.arange(9) % 2, np.array([7, 3, 11])
    single = inference.gene_embeddings(counts, genes=genes)
    monkeypatch.setattr(gene_states, "_BLOCK_BYTES", 4 * 3 * inference.config.decoder.dim * 2)  # two cells at a time
    means = mean_gene_embeddings(inference, counts, groups=groups, genes=genes)
    for group in (0, 1):
        np.testing.assert_allclose(means[group], np.nanmean(single[groups == group], axis=0), atol=1e-5)


def test_an_empty_group_is_refused(inference: Inference, make_counts: Callable[..., csr_matrix]) -> None:
    counts = make_counts(3, inference.config.num_genes)
    with pytest.raises(CountsError, match="Group 1 has no cell"):
        mean_gene_embeddings(inference, counts, groups=np.array([0, 2, 2]))
