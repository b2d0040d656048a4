"""Cells of a reference as tuned networks see them that had learned of them, and that had not.

Letters: A cells; P width of the embedding.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float32
from torch import Tensor

from xtrimogene.checkpoint import PretrainedModel
from xtrimogene.evaluation.splits import Split
from xtrimogene.inference import Inference
from xtrimogene.model.tail import with_weights


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Tuned:
    """``weights`` replace the model's (`with_tuned`) and give ``embedding``, having learned from all cells.

    ``folds`` are all cells as networks embed them that learned from the training cells of each split alone.
    ``losses``: of held-out cells, before tuning and after each epoch; the least says after how many it stopped.
    """

    weights: Mapping[str, Tensor]
    embedding: Float32[np.ndarray, "A P"]
    splits: tuple[Split, ...]
    folds: tuple[Float32[np.ndarray, "A P"], ...]
    losses: tuple[float, ...]

    @property
    def num_epochs(self) -> int:
        return int(np.argmin(self.losses))


def with_tuned(inference: Inference, model: PretrainedModel, weights: Mapping[str, Tensor]) -> Inference:
    """Return what reads as ``inference`` does, with the model's weights replaced.

    Raises
    ------
    ConfigError
        They are not those of such a model.
    """
    tuned = replace(model, network=with_weights(model.network, weights))
    return Inference(tuned, device=inference.device, token_budget=inference.token_budget)
