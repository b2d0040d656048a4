import anndata
import numpy as np
import pytest
import scanpy as sc
from scipy.sparse import csr_matrix

from xtrimogene.evaluation.baselines import (
    HvgPca,
    highly_variable_genes,
    joint_hvg_pca,
    log_normalize,
    logistic_regression,
    majority,
)


def cells_of_two_kinds(num_cells: int, seed: int) -> tuple[csr_matrix, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.array(["a", "b"])[np.arange(num_cells) % 2]
    rates = random.gamma(0.5, 2.0, size=60)[None, :] * np.ones((num_cells, 1))
    rates[labels == "b", :10] += 4
    return csr_matrix(random.poisson(rates).astype(np.float32)), labels


def other_counts(counts: csr_matrix) -> csr_matrix:
    return csr_matrix(counts.toarray()[:, ::-1] * 3 + 1)


def test_log_normalize_by_hand() -> None:
    values = log_normalize(csr_matrix(np.array([[1, 3, 0], [0, 0, 0]], dtype=np.float32))).toarray()
    np.testing.assert_allclose(values, [[np.log1p(2500), np.log1p(7500), 0], [0, 0, 0]], rtol=1e-6)
    assert values.dtype == np.float32


@pytest.mark.parametrize("empty", [0, 5])
def test_genes_are_scanpys(empty: int) -> None:
    random = np.random.default_rng(0)
    counts = random.negative_binomial(0.5, 0.5 / (0.5 + random.gamma(0.4, 2.0, size=400)), size=(300, 400))
    counts[:, :empty] = 0
    values = log_normalize(csr_matrix(counts.astype(np.float32)))
    theirs = anndata.AnnData(values.astype(np.float64))
    sc.pp.highly_variable_genes(theirs, n_top_genes=60, flavor="seurat")
    np.testing.assert_array_equal(highly_variable_genes(values, 60), np.flatnonzero(theirs.var["highly_variable"]))


def test_genes_without_a_count_are_never_chosen() -> None:
    counts = csr_matrix(np.array([[0, 5, 5, 5], [0, 5, 2, 8], [0, 5, 9, 1]], dtype=np.float32))
    np.testing.assert_array_equal(highly_variable_genes(log_normalize(counts), 4), [1, 2, 3])


def test_principal_components_are_those_of_the_chosen_genes() -> None:
    counts, _ = cells_of_two_kinds(40, seed=1)
    fitted = HvgPca.fit(counts, num_genes=20, num_components=5)
    dense = log_normalize(counts)[:, fitted.genes].toarray().astype(np.float64)
    dense -= dense.mean(axis=0)
    lengths = np.linalg.svd(dense, compute_uv=False)
    placed = fitted.transform(counts)
    assert placed.shape == (40, 5) and placed.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(placed, axis=0)[:3], lengths[:3], rtol=0.01)


def test_few_cells_give_as_many_components_as_they_have() -> None:
    counts, _ = cells_of_two_kinds(6, seed=1)
    assert HvgPca.fit(counts).transform(counts).shape == (6, 5)


def test_what_is_fitted_on_training_cells_does_not_see_the_test() -> None:
    train, labels = cells_of_two_kinds(40, seed=2)
    test, _ = cells_of_two_kinds(10, seed=3)
    both, altered = (csr_matrix(np.vstack([train.toarray(), part.toarray()])) for part in (test, other_counts(test)))
    rows = np.arange(40)
    fitted = [HvgPca.fit(counts[rows], num_genes=20, num_components=4) for counts in (both, altered)]
    np.testing.assert_array_equal(fitted[0].genes, fitted[1].genes)
    np.testing.assert_array_equal(fitted[0].transform(train), fitted[1].transform(train))
    mixed = csr_matrix(np.vstack([test.toarray(), other_counts(test).toarray()]))
    np.testing.assert_array_equal(
        logistic_regression(train, labels, test), logistic_regression(train, labels, mixed)[:10]
    )
    np.testing.assert_allclose(fitted[0].transform(test), fitted[0].transform(mixed)[:10], atol=1e-5)


def test_the_joint_variant_does_see_the_test() -> None:
    train, _ = cells_of_two_kinds(40, seed=2)
    test, _ = cells_of_two_kinds(10, seed=3)
    placed, _ = joint_hvg_pca(train, test, num_genes=20, num_components=4)
    after, _ = joint_hvg_pca(train, other_counts(test), num_genes=20, num_components=4)
    assert np.abs(placed - after).max() > 0.1
    np.testing.assert_allclose(
        np.vstack(joint_hvg_pca(train, test, num_genes=20, num_components=4)).mean(axis=0), 0, atol=1e-3
    )


def test_logistic_regression_learns_the_labels_and_never_invents_one() -> None:
    train, labels = cells_of_two_kinds(60, seed=4)
    test, truth = cells_of_two_kinds(20, seed=4)
    assert (logistic_regression(train, labels, test) == truth).mean() > 0.9
    assert logistic_regression(train, np.full(60, "only"), test).tolist() == ["only"] * 20


def test_majority_by_hand() -> None:
    assert majority(np.array(["b", "a", "b", "c"]), 3).tolist() == ["b", "b", "b"]
    assert majority(np.array(["b", "a"]), 1).tolist() == ["a"]
