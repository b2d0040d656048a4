"""How well a network predicts what is hidden of cells that it was not trained on, under masks that never change."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from xtrimogene.config import PretrainConfig
from xtrimogene.data.cell_store import CellStore
from xtrimogene.model.losses import masked_squared_error, reconstruction_error
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.micro_batch import MicroBatch, micro_batch

CELLS_AT_ONCE = 8


def validation_batches(store: CellStore, config: PretrainConfig) -> list[MicroBatch]:
    """Draw, thin and mask ``validation_cells`` cells: the same ones for every seed of a run."""
    fixed = replace(config, seed=0, decoder_share=1.0)
    num_cells = min(config.validation_cells, len(store.panel))
    rows = np.sort(np.random.default_rng(0).choice(len(store.panel), num_cells, replace=False))
    batches = []
    for number, some in enumerate(np.array_split(rows, -(-num_cells // CELLS_AT_ONCE))):
        low, high = int(some[0]), int(some[-1])
        counts = store.read(low, high + 1)[some - low]
        batches.append(micro_batch(counts, some, store, fixed, step=0, lane=number))
    return batches


@torch.no_grad()
def validation_losses(network: XTrimoGene, batches: Sequence[MicroBatch]) -> dict[str, float]:
    """Return mean squared errors of log1p values.

    "decoder" is that of the hidden genes, "decoder_nonzero" and "decoder_zero" those of the expressed and of the silent
    ones among them; "latent", where there is a latent head, that of all genes, zeros and non-zeros weighing the same.
    """
    sums: dict[str, float] = defaultdict(float)
    totals: dict[str, int] = defaultdict(int)
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    for batch in batches:
        cells = batch.to(device).cells
        tokens, packed = network.encode_visible(cells)  # (N, D)
        genes = network.decode(tokens, packed, cells.hidden.gene_ids, cells.hidden.segments, cells.hidden)  # (M, E)
        predicted = network.head(genes)  # (M,)
        expressed = cells.targets > 0  # (M,)
        every = torch.ones_like(expressed)
        for name, chosen in (("decoder", every), ("decoder_nonzero", expressed), ("decoder_zero", ~expressed)):
            sums[name] += float(masked_squared_error(predicted[chosen], cells.targets[chosen]))
            totals[name] += int(chosen.sum())
        if network.latent_head is not None:
            values = network.predict_from_latent(network.latent(tokens, packed), cells.raw.totals.log10())
            sums["latent"] += float(reconstruction_error(values, cells.raw))
            totals["latent"] += batch.num_cells
    network.train(was_training)
    return {name: sums[name] / max(1, totals[name]) for name in sums}
