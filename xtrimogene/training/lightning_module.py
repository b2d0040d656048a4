"""Pre-training as a LightningModule: masked regression through the decoder and, where there is one, the latent head.

What a study's genes have in common (its chemistry, its ambient RNA) is learned as one offset per study and gene, added
to every prediction and thrown away with the module: the network need not hold it. As in scVI the latent vector may be
read with noise and pay for its size, so that it holds what pays for itself.

A loss is a sum over the step's cells, of all micro-batches and devices, divided by what it sums over: a step is the
same however it is cut.
Letters: B cells, M hidden genes, G genes, R studies (gene panels).
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from jaxtyping import Bool, Float
from lightning import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.optim.lr_scheduler import LambdaLR

from xtrimogene.config import PretrainConfig, check_latent, uses_bfloat16
from xtrimogene.model.checkpointing import set_activation_checkpointing
from xtrimogene.model.initialization import redraw_projections
from xtrimogene.model.losses import masked_squared_error, reconstruction_error
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.data_module import TrainingStep
from xtrimogene.training.least_squares import fit_linear
from xtrimogene.training.micro_batch import MicroBatch
from xtrimogene.training.optimizer import build_optimizer, build_schedule
from xtrimogene.training.sharding import shard
from xtrimogene.training.validation import validation_losses

Losses = dict[str, Tensor]


class Pretraining(LightningModule):
    """The loss is "decoder" x ``decoder_share`` + "latent" x ``latent_weight`` + "latent_kl" x ``latent_kl_weight``."""

    measured: Tensor

    def __init__(self, network: XTrimoGene, config: PretrainConfig, measured: Bool[np.ndarray, "R G"]) -> None:
        super().__init__()
        check_latent(config, network.config)
        self.automatic_optimization = False
        set_activation_checkpointing(network, config.activation_checkpointing)
        self.network = network
        self.config = config
        self.micro_batch_size = config.micro_batch_size
        self.study_offsets = nn.Parameter(torch.zeros(measured.shape))
        self.register_buffer("measured", torch.from_numpy(measured), persistent=False)
        # the decoder reads a share of the cells and its mean counts for that share, or few cells would rule the encoder
        weights = {
            "decoder": config.decoder_share,
            "latent": config.latent_weight,
            "latent_kl": config.latent_kl_weight,
        }
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        if "decoder" not in self.weights:
            network.decoder.requires_grad_(False)
            network.head.requires_grad_(False)
        if "latent" not in self.weights and network.latent_head is not None:
            network.latent_head.requires_grad_(False)

    def training_step(self, batch: TrainingStep, batch_index: int) -> None:
        optimizer, schedule = self.optimizers(), self.lr_schedulers()
        assert isinstance(optimizer, LightningOptimizer) and isinstance(schedule, LambdaLR)
        self.zero_grad(set_to_none=True)
        totals = self.totals(batch)
        losses = self._backward_in_memory(batch, totals)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters(), self.config.optimizer.gradient_clip)
        self.log("gradient_norm", norm.full_tensor() if isinstance(norm, DTensor) else norm)
        self.log("learning_rate", optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
        self.log_dict({f"{name}_loss": self._over_devices(loss) for name, loss in losses.items()})

    def totals(self, batch: TrainingStep) -> Losses:
        """Return what each loss is a mean over: hidden genes or cells of the step, on all devices together."""
        num_cells = sum(part.num_cells for part in batch)
        num_targets = sum(part.num_targets for part in batch)
        counts = {"decoder": num_targets, "latent": num_cells, "latent_kl": num_cells}
        own = torch.tensor([float(counts[name]) for name in self.weights], device=self.device)
        return dict(zip(self.weights, self._over_devices(own).clamp(min=1).unbind(), strict=True))

    def backward_step(self, batch: TrainingStep, totals: Losses) -> Losses:
        """Leave the step's gradients in the parameters and return this device's part of each loss."""
        losses = {name: torch.zeros((), device=self.device) for name in self.weights}
        if isinstance(self, FSDPModule):
            # each pass gathers weights from all devices, so all take as many: the rest of them with no weight
            most = torch.tensor(len(batch), device=self.device)
            torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
            for _ in range(int(most) - len(batch)):
                self._backward_pass(batch[0], totals, weight=0.0)
        with self._gradients_apart():
            for part in batch:
                for name, loss in self._backward_pass(part, totals).items():
                    losses[name] += loss
        if self._world_size > 1 and not isinstance(self, FSDPModule):
            # nothing but the exchange of gradients: here every process does the same, whatever its cells
            self.manual_backward(torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum() * 0.0)
        return losses

    def _backward_pass(self, part: MicroBatch, totals: Losses, weight: float = 1.0) -> Losses:
        torch.manual_seed(part.seed)
        with self._bfloat16_where_sharded():
            means = {name: error / totals[name] for name, error in self.errors(part).items()}
        loss = torch.stack([self.weights[name] * mean for name, mean in means.items()]).sum()
        with torch.autocast(self.device.type, enabled=False):  # Lightning's is around the whole step
            self.manual_backward(loss * self._world_size * weight)  # devices take the mean of their gradients
        return {name: mean.detach() for name, mean in means.items()}

    def errors(self, batch: MicroBatch) -> Losses:
        """Return the sums of "decoder", "latent" and "latent_kl", those that are trained.

        Squared errors at the hidden genes of the decoder's share of cells and, through the latent head, the mean one
        of each cell over all its genes; the latent vector's divergence from noise, in nats.
        """
        network, cells, study = self.network, batch.cells, batch.study
        target_depth = cells.raw.totals.log10()
        tokens, packed = network.encode_visible(cells)  # (N, D)
        offsets = self.centred_offsets()  # (R, G)
        errors = {}
        if "decoder" in self.weights:
            some, asked = packed.between(0, batch.num_decoded), cells.hidden.between(0, batch.num_decoded)
            genes = network.decode(tokens[: some.segments.num_rows], some, asked.gene_ids, asked.segments, asked)
            own = offsets[study[asked.segments.segment_of_row()], asked.gene_ids]  # (M,)
            errors["decoder"] = self.decoder_error(genes, own, cells.targets[: len(genes)])
        if "latent" in self.weights:
            latent = network.latent(tokens, packed)  # (B, L)
            if "latent_kl" in self.weights:
                errors["latent_kl"] = 0.5 * latent.float().square().sum()
                latent = latent + torch.randn_like(latent)
            predicted = network.predict_from_latent(latent, target_depth) + offsets[study]  # (B, G)
            errors["latent"] = reconstruction_error(predicted, cells.raw)
        return errors

    def decoder_error(
        self, genes: Float[Tensor, "M E"], offsets: Float[Tensor, "M"], targets: Float[Tensor, "M"]
    ) -> Float[Tensor, ""]:
        """Return what is minimized, summed over hidden genes, from the decoder's output and the studies' offsets."""
        return masked_squared_error(self.network.head(genes) + offsets, targets)

    def fit_head(self, genes: Float[Tensor, "M E"], targets: Float[Tensor, "M"]) -> None:
        """Set a fresh head to the best for `decoder_error` on this output of the decoder."""
        fit_linear(self.network.head, genes, targets)

    def validation_losses(self, batches: Sequence[MicroBatch]) -> dict[str, float]:
        """As the function of this name, of the network."""
        return validation_losses(self.network, batches)

    def centred_offsets(self) -> Float[Tensor, "R G"]:
        """Offsets that sum to zero over the studies that measured a gene, so that they hold nothing of its mean."""
        own = self.study_offsets * self.measured
        return (own - own.sum(0) / self.measured.sum(0).clamp(min=1)) * self.measured

    def on_train_batch_start(self, batch: TrainingStep, batch_index: int) -> None:
        step = self.global_step
        if self.config.redraw_every and step and step % self.config.redraw_every == 0:
            generator = torch.Generator().manual_seed(self.config.seed + step)
            redraw_projections(self.network, generator)

    def configure_model(self) -> None:
        """Shard the network where the trainer's strategy has a mesh of devices: FSDP2."""
        if self.device_mesh is not None and not isinstance(self, FSDPModule):
            shard(self, self.network, self.device_mesh["data_parallel"], ("errors", "validation_losses"))

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self, self.config.optimizer)
        schedule = build_schedule(optimizer, self.config.optimizer, self.config.num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _backward_in_memory(self, batch: TrainingStep, totals: Losses) -> Losses:
        """As `backward_step`; where memory runs out, the step is cut smaller, from then on.

        Not where the module is sharded: the others would wait for a pass that was given up.
        """
        while True:
            size = self.micro_batch_size or max(part.num_cells for part in batch)
            try:
                pieces = [piece for part in batch for piece in part.split(size, self.config.micro_batch_tokens)]
                return self.backward_step(pieces, totals)
            except RuntimeError as error:
                if size == 1 or isinstance(self, FSDPModule) or not _out_of_memory(error):
                    raise
            self.micro_batch_size = -(-size // 2)
            self.zero_grad(set_to_none=True)
            rank_zero_warn(
                f"Out of memory with {size} cells a pass; going on with {self.micro_batch_size}. To begin so, set "
                f"micro_batch_size = {self.micro_batch_size}.",
                category=UserWarning,
            )
            torch.cuda.empty_cache()

    @contextmanager
    def _gradients_apart(self) -> Iterator[None]:
        """Each process adds up gradients of its own."""
        strategy = self.trainer.strategy if self._world_size > 1 else None
        apart: AbstractContextManager[None] = nullcontext()
        if isinstance(strategy, DDPStrategy):
            apart = strategy.block_backward_sync()
        with apart:
            yield

    def _bfloat16_where_sharded(self) -> AbstractContextManager[object]:
        """Lightning knows no mixed precision for sharded modules; for others it is around the whole step."""
        if isinstance(self, FSDPModule) and uses_bfloat16(self.config.precision, accelerator=torch.cuda.is_available()):
            return torch.autocast(self.device.type, torch.bfloat16)
        return nullcontext()

    @property
    def _world_size(self) -> int:
        return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1

    def _over_devices(self, own: Tensor) -> Tensor:
        """Add up over all processes."""
        if self._world_size > 1:
            torch.distributed.all_reduce(own)
        return own


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
