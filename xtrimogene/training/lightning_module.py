"""Pre-training as a LightningModule: masked regression through the decoder and, where there is one, the latent head."""

import math

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from xtrimogene.config import PretrainConfig
from xtrimogene.data.masking import MaskedCells
from xtrimogene.errors import ConfigError
from xtrimogene.model.initialization import redraw_projections
from xtrimogene.model.losses import masked_regression_loss, reconstruction_loss
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.optimizer import build_optimizer, build_schedule


class Pretraining(LightningModule):
    """The loss is ``decoder_share`` times the decoder's plus ``latent_weight`` times the latent head's."""

    def __init__(self, network: XTrimoGene, config: PretrainConfig) -> None:
        super().__init__()
        if config.latent_weight > 0 and network.latent_head is None:
            raise ConfigError(
                "latent_weight > 0 needs a preset with latent_dim, such as 'demo'; set latent_weight = 0."
            )
        self.network = network
        self.config = config

    def training_step(self, batch: MaskedCells, batch_index: int) -> Tensor:
        losses = self.losses(batch)
        # the decoder reads a share of the cells and its mean counts for that share, or few cells would rule the encoder
        weights = {"decoder": self.config.decoder_share, "latent": self.config.latent_weight}
        self.log_dict({f"{name}_loss": value.detach() for name, value in losses.items()}, prog_bar=True)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

    def losses(self, batch: MaskedCells) -> dict[str, Tensor]:
        """Mean squared errors: "decoder" at the hidden genes of its share of cells, "latent" at all genes of all."""
        network, hidden = self.network, batch.hidden
        packed = network.append_read_depth(batch.visible, batch.raw.totals.log10(), batch.visible.totals.log10())
        tokens = network.encode(packed)  # (N, D)
        losses = {}
        if self.config.latent_weight > 0:
            predicted = network.predict_from_latent(network.pool(tokens, packed, "latent"))  # (B, G)
            losses["latent"] = reconstruction_loss(predicted, batch.raw)
        num_decoded = math.ceil(self.config.decoder_share * packed.num_cells)
        if num_decoded:
            some, asked = packed.first(num_decoded), hidden.first(num_decoded)
            genes = network.decode(tokens[: some.segments.num_rows], some, asked.gene_ids, asked.segments, asked)
            losses["decoder"] = masked_regression_loss(network.head(genes), batch.targets[: len(genes)])
        return losses

    def on_train_batch_start(self, batch: MaskedCells, batch_index: int) -> None:
        step = self.global_step
        torch.manual_seed(
            hash((self.config.seed, step)) % 2**63
        )  # dropout of a resumed step is what it would have been
        if self.config.redraw_every and step and step % self.config.redraw_every == 0:
            generator = torch.Generator().manual_seed(self.config.seed + step)
            redraw_projections(self.network, generator)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self.network, self.config.optimizer)
        schedule = build_schedule(optimizer, self.config.optimizer, self.config.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
