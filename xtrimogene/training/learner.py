"""What learns in fine-tuning: the last layers of a network, and a linear head that reads labels off their vectors.

Letters: B cells; L labels; R batches of origin; P width of a cell's vector.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from xtrimogene.config import FineTuneConfig, Pool
from xtrimogene.model.tail import Tail
from xtrimogene.model.xtrimogene import XTrimoGene
from xtrimogene.training.labelled_cells import LabelledBatch

NO_LABEL = -1e4  # the bias of a label that a learner has no cell of
MEMORY = 0.9  # of a running mean, for each cell that it takes in


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LinearHead:
    """Where a head begins; it reads vectors less ``center``, over ``scale``. A label without cells has `NO_LABEL`."""

    center: Float[np.ndarray, " P"]
    scale: Float[np.ndarray, " P"]
    weight: Float[np.ndarray, "L P"]
    bias: Float[np.ndarray, " L"]


class Learner(nn.Module):
    """A tail, and the head that reads labels off its vectors.

    ``means`` are running ones of each label's vectors in each batch, and NaN where a batch lacks the label.
    """

    center: Tensor  # (P,)
    scale: Tensor
    label_weights: Tensor  # (L,)
    means: Tensor  # (L, R, P)

    def __init__(
        self,
        network: XTrimoGene,
        head: LinearHead,
        config: FineTuneConfig,
        *,
        pool: Pool,
        label_weights: Float32[np.ndarray, " L"],
        means: Float[np.ndarray, "L R P"],
    ) -> None:
        super().__init__()
        self.config = config
        self.tail = Tail(network, pool, num_layers=config.num_layers)
        num_labels, width = head.weight.shape
        self.head = nn.Linear(width, num_labels, device="meta").to_empty(device="cpu")  # draws no random number
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(head.weight))
            self.head.bias.copy_(torch.from_numpy(head.bias))
        means = (means - head.center) / head.scale
        arrays = {"center": head.center, "scale": head.scale, "label_weights": label_weights, "means": means}
        for name, array in arrays.items():
            self.register_buffer(name, torch.from_numpy(array).float())

    def loss(
        self, cells: LabelledBatch, label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"] | None
    ) -> Float[Tensor, ""]:
        """Return the mean cross-entropy and, of batches, squared distance, labels weighted to equal total weight."""
        vectors = self._vectors(cells)  # (B, P)
        each = F.cross_entropy(self.head(vectors).float(), label, reduction="none")
        if batch is not None:
            target = self._of_other_batches(label, batch)  # (B, P), NaN where no other batch has the label
            apart = (vectors.float() - torch.where(target.isnan(), vectors.detach().float(), target)).square()
            each = each + 0.5 * self.config.batch_weight * apart.mean(dim=1)
            self._follow(vectors.detach().float(), label, batch)
        return (each * self.label_weights[label]).mean()

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the tail's weights."""
        return {name: weight.to("cpu", copy=True) for name, weight in self.tail.weights().items()}

    def _of_other_batches(self, label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"]) -> Float[Tensor, "B P"]:
        means = self.means[label]  # (B, R, P)
        means[torch.arange(len(label), device=label.device), batch] = torch.nan
        return means.nanmean(dim=1)

    def _follow(self, vectors: Float[Tensor, "B P"], label: Int64[Tensor, "B"], batch: Int64[Tensor, "B"]) -> None:
        place = label * self.means.shape[1] + batch
        number = torch.bincount(place, minlength=self.means[..., 0].numel())  # (L R,)
        sums = torch.zeros_like(self.means).flatten(0, 1).index_add(0, place, vectors)  # (L R, P)
        kept = MEMORY ** number[:, None]
        new = kept * self.means.flatten(0, 1) + (1 - kept) * sums / number.clamp(min=1)[:, None]
        self.means.copy_(torch.where(number[:, None] > 0, new, self.means.flatten(0, 1)).view_as(self.means))

    def _vectors(self, cells: LabelledBatch) -> Float[Tensor, "B P"]:
        return (self.tail(cells.tokens, cells.packed) - self.center) / self.scale
