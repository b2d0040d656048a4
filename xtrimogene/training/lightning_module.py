"""Pre-training as a LightningModule: masked regression through the decoder and, where there is one, the latent head.

What a study's genes have in common (its chemistry, its ambient RNA) is learned as one offset per study and gene, added
to every prediction and thrown away with the module: the network need not hold it. As in scVI the latent vector may be
read with noise and pay for its size, so that it holds what pays for itself.
Letters: B cells, M hidden genes, G genes, R studies (gene panels).
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from xtrimogene.config import PretrainConfig
from xtrimogene.data.masking import MaskedCells
from xtrimogene.errors import ConfigError
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.model.initialization import redraw_projections
from xtrimogene.model.losses import masked_regression_loss, reconstruction_loss
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.optimizer import build_optimizer, build_schedule


class Pretraining(LightningModule):
    """The loss is "decoder" x ``decoder_share`` + "latent" x ``latent_weight`` + "latent_kl" x ``latent_kl_weight``."""

    measured: Tensor

    def __init__(self, network: XTrimoGene, config: PretrainConfig, measured: Bool[np.ndarray, "R G"]) -> None:
        super().__init__()
        if config.latent_weight > 0 and network.latent_head is None:
            raise ConfigError(
                "latent_weight > 0 needs a preset with latent_dim, such as 'demo'; set latent_weight = 0."
            )
        set_activation_checkpointing(network, config.activation_checkpointing)
        self.network = network
        self.config = config
        self.study_offsets = nn.Parameter(torch.zeros(measured.shape))
        self.register_buffer("measured", torch.from_numpy(measured), persistent=False)

    def training_step(self, batch: MaskedCells, batch_index: int) -> Tensor:
        losses = self.losses(batch)
        # the decoder reads a share of the cells and its mean counts for that share, or few cells would rule the encoder
        weights = {
            "decoder": self.config.decoder_share,
            "latent": self.config.latent_weight,
            "latent_kl": self.config.latent_kl_weight,
        }
        self.log_dict({f"{name}_loss": value.detach() for name, value in losses.items()}, prog_bar=True)
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        return torch.stack([weights[name] * value for name, value in losses.items()]).sum()

    def losses(self, batch: MaskedCells) -> dict[str, Tensor]:
        """Return "decoder", "latent" and "latent_kl", those that are trained.

        Mean squared errors at the hidden genes of the decoder's share of cells and, through the latent head, at all
        genes of all cells; the latent vector's divergence from noise, in nats a cell.
        """
        network, hidden, config = self.network, batch.hidden, self.config
        target_depth = batch.raw.totals.log10()
        packed = network.append_read_depth(batch.visible, target_depth, batch.visible.totals.log10())
        tokens = network.encode(packed)  # (N, D)
        offsets = self.centred_offsets()  # (R, G)
        losses = {}
        if config.latent_weight > 0:
            latent = network.pool(tokens, packed, "latent")  # (B, L)
            if config.latent_kl_weight > 0:
                losses["latent_kl"] = 0.5 * latent.float().square().sum(1).mean()
                latent = latent + torch.randn_like(latent)
            predicted = network.predict_from_latent(latent, target_depth) + offsets[batch.raw.panel]  # (B, G)
            losses["latent"] = reconstruction_loss(predicted, batch.raw)
        num_decoded = math.ceil(config.decoder_share * packed.num_cells)
        if num_decoded:
            some, asked = packed.first(num_decoded), hidden.first(num_decoded)
            genes = network.decode(tokens[: some.segments.num_rows], some, asked.gene_ids, asked.segments, asked)
            study = some.panel[asked.segments.segment_of_row()]  # (M,)
            predicted = network.head(genes) + offsets[study, asked.gene_ids]  # (M,)
            losses["decoder"] = masked_regression_loss(predicted, batch.targets[: len(genes)])
        return losses

    def centred_offsets(self) -> Float[Tensor, "R G"]:
        """Offsets that sum to zero over the studies that measured a gene, so that they hold nothing of its mean."""
        own = self.study_offsets * self.measured
        return (own - own.sum(0) / self.measured.sum(0).clamp(min=1)) * self.measured

    def on_train_batch_start(self, batch: MaskedCells, batch_index: int) -> None:
        step = self.global_step
        torch.manual_seed(
            hash((self.config.seed, step)) % 2**63
        )  # dropout of a resumed step is what it would have been
        if self.config.redraw_every and step and step % self.config.redraw_every == 0:
            generator = torch.Generator().manual_seed(self.config.seed + step)
            redraw_projections(self.network, generator)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self, self.config.optimizer)
        schedule = build_schedule(optimizer, self.config.optimizer, self.config.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
