"""What a model's latent vectors say of single genes, as arrays: no network is needed to ask.

Letters: B cells; G genes of the model; P width of the latent vector, H of the expanded one; m genes asked for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from scipy.special import erf

from xtrimogene.model.xtrimogene import XTrimoGene

LOG_TOTAL = 4.0  # the depth at which a value is log1p of the counts themselves, of 10,000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LatentExpression:
    """The latent head: a vector is expanded and contracted, and each gene's factors multiply what comes out."""

    expand: Float32[np.ndarray, "H P"]
    expand_bias: Float32[np.ndarray, " H"]
    contract: Float32[np.ndarray, "P H"]
    contract_bias: Float32[np.ndarray, " P"]
    factors: Float32[np.ndarray, "G P"]
    bias: Float32[np.ndarray, " G"]

    @classmethod
    def of(cls, network: XTrimoGene) -> "LatentExpression | None":
        """Return the network's; None where its cell embedding is no latent vector."""
        head = network.latent_head
        if head is None or network.config.pool != "latent":
            return None
        with torch.inference_mode():
            depth = head.depth(torch.full((1, 1), LOG_TOTAL, device=head.gene_bias.device))[0]
            arrays = {
                "expand": head.expand.weight,
                "expand_bias": head.expand.bias,
                "contract": head.contract.weight,
                "contract_bias": head.contract.bias + depth,
                "factors": head.gene_query(network.gene_embedding.table[: network.config.num_genes]),
                "bias": head.gene_bias,
            }
            return cls(**{name: array.float().cpu().numpy().copy() for name, array in arrays.items()})

    def predict(self, latent: Float[np.ndarray, "B P"], genes: Int[np.ndarray, " m"]) -> Float[np.ndarray, "B m"]:
        """Return log1p of counts per 10,000, as `XTrimoGene.predict_from_latent`."""
        return np.asarray(self.mix(latent) @ self.factors[genes].T + self.bias[genes])

    def mix(self, latent: Float[np.ndarray, "B P"]) -> Float[np.ndarray, "B P"]:
        """Return what the genes' factors multiply: the factors of the cells."""
        expanded = latent @ self.expand.T + self.expand_bias
        active = expanded * (0.5 + 0.5 * erf(expanded / np.sqrt(2.0)))  # GELU
        return np.asarray(active @ self.contract.T + self.contract_bias)
