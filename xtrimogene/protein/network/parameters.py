"""How many weights a protein model has, and how many operations it takes; free of torch.

Only matrix products count; a multiplication with its addition is two operations. Scores that a causal mask hides count
too, as they do in the usual 6 N D + 12 L D n; kernels that skip them do less.
"""

from collections.abc import Sequence

from xtrimogene.config import ActivationCheckpointing
from xtrimogene.protein.config import ProteinConfig


def count_parameters(config: ProteinConfig) -> int:
    """Return the number of weights of `ProteinLM`."""
    return non_embedding_parameters(config) + 2 * config.vocabulary_size * config.dim


def non_embedding_parameters(config: ProteinConfig) -> int:
    """Return the number of weights without the embedding and the head: N of the laws, and the norms."""
    norms = (2 * config.num_layers + 1) * config.dim
    return config.num_layers * _layer_weights(config) + norms


def transformer_parameters(num_layers: int, dim: int) -> int:
    """Return 12 L D^2, the laws' N of a shape; the study's 10B model is 47 x 4352, its 7B one 36 x 4096."""
    return 12 * num_layers * dim**2


def forward_flops(config: ProteinConfig, lengths: Sequence[int], prefix_lengths: Sequence[int] | None = None) -> int:
    """Return the operations of one pass over packed sequences.

    Parameters
    ----------
    prefix_lengths
        Of each sequence, the part that is read in both directions; None: all or nothing of it, which cost the same.
    """
    num_tokens = sum(lengths)
    scores = sum(_scores(length, prefix) for length, prefix in zip(lengths, prefix_lengths or lengths, strict=True))
    layer = 2 * num_tokens * _layer_weights(config) + 4 * scores * config.dim
    return config.num_layers * layer + 2 * num_tokens * config.vocabulary_size * config.dim


def training_flops(
    config: ProteinConfig,
    lengths: Sequence[int],
    prefix_lengths: Sequence[int] | None = None,
    *,
    checkpointing: ActivationCheckpointing = "none",
) -> int:
    """Return the operations of a forward and a backward pass, with what backward computes again."""
    forward = forward_flops(config, lengths, prefix_lengths)
    num_tokens, layers, width = sum(lengths), config.num_layers, config.feed_forward_width
    # A part is computed again up to the input of its last product; by oneDNN, on a CPU, that product too.
    last = 2 * num_tokens * config.dim * width
    head = 2 * num_tokens * config.vocabulary_size * config.dim
    again = {"none": 0, "feed_forward": layers * 2 * last, "layer": forward - head - layers * last}
    return 3 * forward + again[checkpointing]


def _layer_weights(config: ProteinConfig) -> int:
    return 4 * config.dim**2 + 3 * config.dim * config.feed_forward_width


def _scores(length: int, prefix: int) -> int:
    """Pairs of a query and a key: a prefix with itself, what follows with everything."""
    return prefix**2 + (length - prefix) * length
