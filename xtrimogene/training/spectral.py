"""Begin a network with what the training cells vary in, so that training starts where PCA ends.

A gene's row is its loading on the leading components of the cells: log1p values, each study centred by itself (what
sets two studies apart is no axis), each gene divided by its deviation plus half the median one, which lies between
covariance, ruled by a few genes, and correlation, ruled by noise. The row's last number is the gene's mean, so that
means need not be learned gene by gene.
Letters: B cells, R studies (gene panels), G genes, D width.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, svds
from torch import Tensor

from xtrimogene.config import MaskingConfig
from xtrimogene.data.cell_store import CellsInMemory
from xtrimogene.data.packed_cells import pack_cells
from xtrimogene.errors import ConfigError
from xtrimogene.model.transformer_block import EncoderBlock
from xtrimogene.model.xtrimogene import XTrimoGene

LATENT_DEVIATION = 3.0
MEAN_LENGTH = 0.35  # deviation of the means in the rows, where the longest rows have unit root mean square
PROBED_CELLS = 512
MIN_CELLS = 3
CELLS_AT_ONCE = 16


def begin_with_components(network: XTrimoGene, cells: CellsInMemory, masking: MaskingConfig, seed: int) -> None:
    """Set a fresh network so that it knows components and means of genes.

    The gene table gets loadings and means, and the residual branches of the encoder begin at zero. The latent vector,
    if there is one, begins as the value-weighted mean of the tokens, close to the cell's principal components, three
    deviations of the noise it may be read with.
    """
    embedding, head = network.gene_embedding, network.latent_head
    dim, num_cells = embedding.table.shape[1], len(cells.panel)
    loadings = gene_loadings(cells, max(1, min(dim, *cells.counts.shape) - 1), seed)  # (G, < D)
    lengths = np.linalg.norm(loadings, axis=1)
    scale = dim**0.5 / np.quantile(lengths[lengths > 0], 0.99)  # the longest hundredth has unit root mean square
    with torch.no_grad():
        genes = embedding.table[: embedding.num_genes]
        genes[:, : loadings.shape[1]] = torch.from_numpy(scale * loadings)
        if masking.nonzero_fraction > 0:  # else only zeros are hidden, or nothing
            fractions = (masking.nonzero_fraction, masking.zero_fraction)
            means = gene_means(cells, *(np.full(num_cells, fraction) for fraction in fractions))
            genes[:, -1] = MEAN_LENGTH * dim**0.5 * (means - means.mean()) / means.std()
        for block in network.encoder.blocks:
            assert isinstance(block, EncoderBlock)
            block.attention.out.weight.zero_()
            block.contract.weight.zero_()
        if head is not None:
            head.to_latent.weight.mul_(0.03)
            head.to_latent.weight[:, -dim:] = torch.eye(head.to_latent.out_features, dim)
            rows = np.random.default_rng(seed).choice(len(cells.panel), min(PROBED_CELLS, len(cells.panel)), False)
            batches = np.array_split(rows, -(-len(rows) // CELLS_AT_ONCE))
            latent = torch.cat([_latent(network, cells.counts[batch]) for batch in batches])  # (B, L)
            stretch = LATENT_DEVIATION / latent.std(0).clamp(min=1e-6)  # (L,)
            head.to_latent.weight.mul_(stretch[:, None])
            head.to_latent.bias.copy_(-latent.mean(0) * stretch)
            head.expand.weight.div_(LATENT_DEVIATION)
            head.contract.weight.zero_()  # a value begins as its gene's bias
            head.gene_query.weight.mul_(head.gene_query.out_features**-0.5)  # else the first steps overshoot by far
            lengths = np.diff(cells.counts.indptr)
            silent = cells.measured.sum(1)[cells.panel] - lengths
            head.gene_bias.copy_(gene_means(cells, 1.0 / lengths, 1.0 / np.maximum(silent, 1)))  # as the loss weighs


def _latent(network: XTrimoGene, counts: sparse.csr_matrix) -> Float[Tensor, "b L"]:
    packed = pack_cells(counts)
    depth = packed.totals.log10()
    packed = network.append_read_depth(packed, depth, depth)
    return network.latent(network.encode(packed), packed)


def gene_means(
    cells: CellsInMemory, of_nonzeros: Float[np.ndarray, "B"], of_zeros: Float[np.ndarray, "B"]
) -> Float[Tensor, "G"]:
    """Return each gene's mean over the cells that measured it, a cell's non-zeros and zeros having these weights."""
    packed, num_genes = pack_cells(cells.counts), cells.counts.shape[1]
    cell, genes = packed.cell_of_row().numpy(), packed.gene_ids.numpy()

    def by_gene(weights: Float[np.ndarray, "N"]) -> Float[np.ndarray, "G"]:
        return np.bincount(genes, weights, num_genes)

    zeros = np.bincount(cells.panel, of_zeros, len(cells.measured)) @ cells.measured - by_gene(of_zeros[cell])
    nonzeros = of_nonzeros[cell]
    weight = zeros + by_gene(nonzeros)
    means = by_gene(nonzeros * packed.values.numpy()) / np.where(weight > 0, weight, 1.0)
    return torch.from_numpy(means.astype(np.float32))


def gene_loadings(cells: CellsInMemory, num_components: int, seed: int) -> Float32[np.ndarray, "G K"]:
    """Return the leading right singular vectors of the centred, scaled values, times each gene's scale.

    Raises
    ------
    ConfigError
        Fewer than three cells, or no study whose cells differ.
    """
    if cells.counts.shape[0] < MIN_CELLS:
        raise ConfigError(
            f"start = 'spectral' needs {MIN_CELLS} cells at least, got {cells.counts.shape[0]}; set start = 'random'."
        )
    packed = pack_cells(cells.counts)
    values = sparse.csr_matrix(
        (packed.values.numpy(), cells.counts.indices, cells.counts.indptr), shape=cells.counts.shape
    )
    num_cells, num_studies = values.shape[0], len(cells.measured)
    study = sparse.csr_matrix(  # (B, R), one 1 a row
        (np.ones(num_cells, np.float32), cells.panel, np.arange(num_cells + 1)), shape=(num_cells, num_studies)
    )
    cells_in_study = np.asarray(study.sum(0)).ravel()  # (R,)
    means = (study.T @ values).toarray() / np.maximum(cells_in_study, 1)[:, None]  # (R, G)
    scales = _gene_scales(values, means, cells_in_study, cells.measured)  # (G,)
    scaled, means = (values @ sparse.diags_array(scales)).tocsr(), means * scales

    def forward(x: Float[np.ndarray, "G *one"]) -> Float[np.ndarray, "B *one"]:
        return scaled @ x - study @ (means @ x)

    def backward(x: Float[np.ndarray, "B *one"]) -> Float[np.ndarray, "G *one"]:
        return scaled.T @ x - means.T @ (study.T @ x)

    centred = LinearOperator(scaled.shape, matvec=forward, rmatvec=backward, dtype=np.float32)
    _, _, components = svds(centred, k=num_components, tol=1e-3, rng=np.random.default_rng(seed))
    return (components[::-1].T * scales[:, None]).astype(np.float32)


def _gene_scales(
    values: sparse.csr_matrix,
    means: Float[np.ndarray, "R G"],
    cells_in_study: Float[np.ndarray, "R"],
    measured: Bool[np.ndarray, "R G"],
) -> Float32[np.ndarray, "G"]:
    """One over the deviation within studies that measured the gene, plus half the median deviation."""
    squares = np.asarray(values.multiply(values).sum(0)).ravel() - cells_in_study @ means**2
    deviations = np.sqrt(np.maximum(squares, 0.0) / np.maximum(cells_in_study @ measured, 1))
    varying = deviations[deviations > 0]
    if len(varying) == 0:
        raise ConfigError("start = 'spectral' needs cells that differ within a study; set start = 'random'.")
    return (1.0 / (deviations + 0.5 * np.median(varying))).astype(np.float32)
