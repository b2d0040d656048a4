"""The network as a whole: a cell's result is its own, and what is hidden stays hidden."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from torch import Tensor

from xtrimogene.config import DecoderConfig, EncoderConfig, MaskingConfig, ModelConfig
from xtrimogene.data.masking import MaskedCells, mask_cells
from xtrimogene.data.packed_cells import PackedCells, pack_cells
from xtrimogene.errors import ConfigError
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene_kernels.segments import Segments

NUM_GENES = 60
CONFIG = ModelConfig(
    num_genes=NUM_GENES,
    encoder=EncoderConfig(dim=16, num_layers=2, num_heads=2),
    decoder=DecoderConfig(dim=12, num_layers=2, num_heads=3, num_features=16),
    num_bins=8,
    latent_dim=6,
)
OURS = XTrimoGene(CONFIG).eval()
RELEASED = XTrimoGene(replace(CONFIG, unmeasured="zero", encoder=replace(CONFIG.encoder, norm_first=False))).eval()
CROSS_CONFIG = replace(CONFIG, decoder=replace(CONFIG.decoder, kind="cross_attention"))
CROSS = XTrimoGene(CROSS_CONFIG).eval()
NETWORKS = pytest.mark.parametrize("network", [OURS, RELEASED, CROSS], ids=["ours", "released", "cross"])
PANELS = np.stack([np.ones(NUM_GENES, dtype=bool), np.arange(NUM_GENES) < 50])


def make_counts(num_cells: int, seed: int) -> sparse.csr_matrix:
    """Cells of 2 to 40 genes, all of them measured in both panels."""
    random = np.random.default_rng(seed)
    counts = np.zeros((num_cells, NUM_GENES), dtype=np.float32)
    for row in counts:
        genes = random.choice(50, size=random.integers(2, 41), replace=False)
        row[genes] = random.geometric(0.3, size=len(genes))
    return sparse.csr_matrix(counts)


def with_depth(network: XTrimoGene, packed: PackedCells) -> PackedCells:
    source = packed.totals.log10()
    return network.append_read_depth(packed, source + 0.5, source)


def pack(network: XTrimoGene, counts: sparse.csr_matrix, panel: np.ndarray | None = None) -> PackedCells:
    panel = np.zeros(counts.shape[0], dtype=np.int64) if panel is None else panel
    return with_depth(network, pack_cells(counts, measured=PANELS, panel=panel))


def all_genes(num_cells: int) -> tuple[Tensor, Segments]:
    return torch.arange(NUM_GENES).repeat(num_cells), Segments.from_lengths([NUM_GENES] * num_cells)


@torch.inference_mode()
def results(network: XTrimoGene, counts: sparse.csr_matrix, panel: np.ndarray) -> list[Tensor]:
    """Everything that is read off the network, one row per cell."""
    packed = pack(network, counts, panel)
    embeddings = [network.embed_cells(packed, pool) for pool in ("all", "max", "mean", "latent")]
    genes = network.decode(network.encode(packed), packed, *all_genes(packed.num_cells))
    shape = (packed.num_cells, NUM_GENES)
    return [*embeddings, genes.unflatten(0, shape), network.head(genes).unflatten(0, shape)]


@NETWORKS
@given(seed=st.integers(0, 2**32 - 1), num_cells=st.integers(1, 7))
@settings(max_examples=8)
def test_a_cell_has_one_result_in_any_company(network: XTrimoGene, seed: int, num_cells: int) -> None:
    random = np.random.default_rng(seed)
    counts, panel = make_counts(num_cells, seed), random.integers(2, size=num_cells)
    together = results(network, counts, panel)
    order = random.permutation(num_cells)
    shuffled = results(network, counts[order], panel[order])
    alone = [results(network, counts[[i]], panel[[i]]) for i in range(num_cells)]
    for kind, whole in enumerate(together):
        assert (shuffled[kind] - whole[order]).abs().max() <= 1e-5
        for cell in range(num_cells):
            assert (alone[cell][kind][0] - whole[cell]).abs().max() <= 1e-5


def test_read_depth_tokens_end_each_cell() -> None:
    packed = pack_cells(make_counts(3, 0))
    target, source = torch.tensor([4.0, 5.0, 6.0]), torch.tensor([1.0, 2.0, 3.0])
    ended = OURS.append_read_depth(packed, target, source)
    assert ended.segments.lengths == tuple(length + 2 for length in packed.segments.lengths)
    starts = packed.segments.cu_seqlens.tolist()
    for cell, stop in enumerate(ended.segments.cu_seqlens.tolist()[1:]):
        start = stop - ended.segments.lengths[cell]
        genes = packed.gene_ids[starts[cell] : starts[cell + 1]].tolist()
        levels = packed.values[starts[cell] : starts[cell + 1]].tolist()
        assert ended.gene_ids[start:stop].tolist() == [*genes, NUM_GENES, NUM_GENES + 1]
        assert ended.values[start:stop].tolist() == [*levels, target[cell], source[cell]]


def test_read_depth_reaches_the_embedding() -> None:
    packed = pack_cells(make_counts(1, 0))
    source = packed.totals.log10()
    one, other = (OURS.embed_cells(OURS.append_read_depth(packed, target, source)) for target in (source, source + 1))
    assert (one - other).abs().max() > 1e-3


@NETWORKS
@torch.inference_mode()
def test_decoding_some_genes_gives_the_rows_of_decoding_all(network: XTrimoGene) -> None:
    packed = pack(network, make_counts(3, 1))
    tokens = network.encode(packed)
    everything = network.decode(tokens, packed, *all_genes(3)).unflatten(0, (3, NUM_GENES))
    some = [[5, 1, 59], [], [0, 7, 7, 30]]  # any order, none, repeated
    asked = torch.tensor([gene for genes in some for gene in genes])
    decoded = network.decode(tokens, packed, asked, Segments.from_lengths([len(genes) for genes in some]))
    expected = torch.cat([everything[cell, genes] for cell, genes in enumerate(some)])
    assert (decoded - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("panels", [[0], [1, 0, 1]])
@pytest.mark.parametrize("unmeasured", ["mask", "zero"])
@torch.inference_mode()
def test_blank_genes_made_once_are_those_of_each_cell(unmeasured: str, panels: list[int], num_layers: int) -> None:
    decoder = replace(CONFIG.decoder, num_layers=num_layers)
    network = XTrimoGene(replace(CONFIG, unmeasured=unmeasured, decoder=decoder)).eval()
    blank = network.blank_genes()
    for seed in range(2):  # the second time shows that the first left them as they were
        packed = pack(network, make_counts(len(panels), seed), np.array(panels))
        tokens, asked = network.encode(packed), all_genes(len(panels))
        once = network.decode(tokens, packed, *asked, blank=blank)
        assert (once - network.decode(tokens, packed, *asked)).abs().max() <= 1e-6


@torch.inference_mode()
def test_the_first_layer_makes_nothing_of_blank_genes_again() -> None:
    packed = pack(OURS, make_counts(2, 0))
    tokens, blank, seen = OURS.encode(packed), OURS.blank_genes(), []
    hook = OURS.decoder.blocks[0].attention.key.register_forward_hook(lambda *given: seen.append(len(given[1][0])))
    OURS.decode(tokens, packed, *all_genes(2), blank=blank)
    hook.remove()
    assert seen == [packed.segments.num_rows]


def test_a_decoder_of_the_genes_asked_for_has_no_blank_genes() -> None:
    assert CROSS.blank_genes() is None


def mask(counts: sparse.csr_matrix, config: MaskingConfig, panel: int = 0) -> MaskedCells:
    panels = np.full(counts.shape[0], panel)
    return mask_cells(counts, counts, config, np.random.default_rng(5), measured=PANELS, panel=panels)


def swapped(counts: sparse.csr_matrix, genes: Tensor) -> sparse.csr_matrix:
    """The same cell with the counts of these two of its genes exchanged: genes and total stay."""
    dense = counts.toarray()
    one, other = genes.tolist()
    assert dense[0, one] != dense[0, other]
    dense[0, [one, other]] = dense[0, [other, one]]
    return sparse.csr_matrix(dense)


def first_two_that_differ(genes: Tensor, counts: sparse.csr_matrix) -> Tensor:
    row = torch.from_numpy(counts.toarray()[0])[genes]
    other = ((row != row[0]) & (row > 0)).nonzero()[0, 0]
    return genes[[0, int(other)]]


@pytest.mark.parametrize("network", [OURS, CROSS], ids=["ours", "cross"])
@torch.inference_mode()
def test_the_value_of_a_hidden_gene_is_not_read(network: XTrimoGene) -> None:
    counts = make_counts(1, 2)
    config = MaskingConfig(nonzero_fraction=0.5, zero_fraction=0.2, replace_fraction=1.0, random_fraction=0.0)
    masked = mask(counts, config)
    expressed = masked.hidden.gene_ids[masked.targets > 0]
    twin = swapped(counts, first_two_that_differ(expressed, counts))
    other = mask(twin, config)
    assert torch.equal(other.hidden.gene_ids, masked.hidden.gene_ids) and not torch.equal(other.targets, masked.targets)
    assert torch.equal(network(other), network(masked))
    # ... while a visible one is read, and a hidden one whose true value is shown
    seen = swapped(counts, first_two_that_differ(masked.visible.gene_ids, counts))
    assert not torch.equal(network(mask(seen, config)), network(masked))
    shown = replace(config, replace_fraction=0.0)
    assert not torch.equal(network(mask(twin, shown)), network(mask(counts, shown)))


@pytest.mark.parametrize("ours", [OURS, CROSS], ids=["ours", "cross"])
@torch.inference_mode()
def test_the_decoder_reads_the_mask_where_a_gene_was_not_measured(ours: XTrimoGene) -> None:
    counts = make_counts(1, 3)

    def expression(network: XTrimoGene, panel: int) -> Tensor:
        return results(network, counts, np.array([panel]))[-1][0]

    assert (expression(ours, 0) - expression(ours, 1))[50:].abs().min() > 1e-4
    assert torch.equal(expression(RELEASED, 0), expression(RELEASED, 1))
    # the same as hiding those genes by hand
    packed = pack(ours, counts)
    hidden = mask(counts, MaskingConfig(zero_fraction=0.0)).hidden
    unmeasured = replace(hidden, gene_ids=torch.arange(50, 60), shown=torch.full((10,), torch.nan))
    unmeasured = replace(unmeasured, segments=Segments.from_lengths([10]))
    by_hand = ours.head(ours.decode(ours.encode(packed), packed, *all_genes(1), hidden=unmeasured))
    assert (by_hand - expression(ours, 1)).abs().max() <= 1e-5


@pytest.mark.parametrize("config", [CONFIG, CROSS_CONFIG], ids=["ours", "cross"])
def test_the_gradient_reaches_every_parameter(config: ModelConfig) -> None:
    network = XTrimoGene(config, seed=1)
    batch = mask(make_counts(6, 4), MaskingConfig(nonzero_fraction=0.4, zero_fraction=0.4), panel=1)
    packed = with_depth(network, batch.visible)
    latent = network.latent(network.encode(packed), packed)
    through_latent = network.predict_from_latent(latent, batch.raw.totals.log10())
    assert through_latent.shape == (6, NUM_GENES)
    (network(batch).square().mean() + through_latent.square().mean()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name
    buffers = {name.rsplit(".", 1)[1] for name, _ in network.named_buffers()}
    assert buffers == ({"projection", "depth_direction"} if config is CONFIG else {"depth_direction"})


def test_the_gene_table_is_learned_for_genes_of_every_kind() -> None:
    network = XTrimoGene(CONFIG, seed=1)
    batch = mask(make_counts(1, 4), MaskingConfig(nonzero_fraction=0.4, zero_fraction=0.0), panel=1)
    network(batch).square().mean().backward()
    assert network.gene_embedding.table.grad is not None
    assert (network.gene_embedding.table.grad.abs().amax(1) > 0).all()  # visible, hidden, zero, unmeasured, T, S


@torch.inference_mode()
def test_the_cross_decoder_reads_each_gene_as_what_it_is() -> None:
    packed = pack(CROSS, make_counts(2, 6))
    tokens = CROSS.encode(packed)
    seen = tokens + CROSS.gene_embedding(packed.gene_ids)
    read = CROSS._queries(seen, packed, *all_genes(2), None).unflatten(0, (2, NUM_GENES))
    rows = packed.segments.lengths[0]
    assert torch.equal(read[1, packed.gene_ids[rows:-2]], seen[rows:-2])  # its own cell's token
    zero = torch.tensor([gene for gene in range(NUM_GENES) if gene not in packed.gene_ids[:rows]])
    expected = CROSS.value_embedding(torch.zeros(1)) + CROSS.gene_embedding(zero)
    assert torch.equal(read[0, zero], expected)


def test_latent_needs_a_latent_head() -> None:
    network = XTrimoGene(replace(CONFIG, latent_dim=None))
    with pytest.raises(ConfigError, match="latent cell vector"):
        network.embed_cells(pack(network, make_counts(1, 0)), "latent")
