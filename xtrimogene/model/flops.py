"""Floating-point operations of a cell, in closed form; a multiplication with its addition counts as two.

Only matrix products are counted.
"""

from typing import Literal

from xtrimogene.config import ActivationCheckpointing, DecoderConfig, EncoderConfig, ModelConfig, Pool


def cell_embedding_flops(config: ModelConfig, num_tokens: int, pool: Pool | None = None) -> int:
    """Return the operations to embed a cell of so many tokens."""
    dim = config.encoder.dim
    latent = 2 * 5 * dim * (config.latent_dim or 0) if (pool or config.pool) == "latent" else 0
    return _values(config, num_tokens) + _encoder(config.encoder, num_tokens) + latent


def gene_embedding_flops(
    config: ModelConfig, num_tokens: int, num_asked: int | None = None, *, blank: bool = False
) -> int:
    """Return the operations to embed genes (default: all) in the context of a cell that goes alone.

    ``blank``: what blank genes are to the first layer is there already (`XTrimoGene.blank_genes`).
    """
    asked = config.num_genes if num_asked is None else num_asked
    decoder, positions = config.decoder, config.num_genes + 2
    encoded = _values(config, num_tokens) + _encoder(config.encoder, num_tokens)
    decoded = _decoder_shown(config, num_tokens) + _decoder(config, num_tokens, asked)
    if decoder.kind == "cross_attention":
        return encoded + decoded + _values(config, 1) + _decoder_shown(config, asked)
    if not blank:
        return encoded + decoded + _decoder_zeros(config)
    queries = asked if decoder.num_layers == 1 else positions
    return encoded + decoded - 2 * decoder.dim**2 * (queries + 2 * positions - 3 * num_tokens)


def training_step_flops(
    config: ModelConfig,
    num_visible: int,
    num_hidden: int,
    *,
    num_cells: int = 1,
    num_decoded: int | None = 1,
    latent: bool = False,
    checkpointing: ActivationCheckpointing = "none",
) -> int:
    """Return the operations a cell of a training step, forward and backward, in a pass of cells of one size.

    Parameters
    ----------
    num_visible
        Tokens the encoder reads, T and S included.
    num_hidden
        Genes whose values are predicted through the decoder.
    num_cells, num_decoded
        Cells of the pass (micro-batch), which share what does not depend on a cell: the decoder's zeros and the queries
        of the latent vector's genes. Those of them that pass the decoder; None: it is not trained.
    latent
        All genes are predicted through the latent vector as well.
    checkpointing
        What backward computes again.
    """
    decoder, dim = config.decoder, config.encoder.dim
    forward = _values(config, num_visible) + _encoder(config.encoder, num_visible)
    # Values, depths and random features want no gradient: what multiplies them goes back once, everything else twice.
    once = 2 * config.num_bins * num_visible
    if latent and config.latent_dim is not None:
        width = config.latent_dim
        forward += 2 * width * (5 * dim + 4 * width + 1 + config.num_genes)
        forward += 2 * width * dim * config.num_genes // num_cells
        once += 2 * width
    decoded = (
        _values(config, num_hidden)
        + _decoder_shown(config, num_visible + num_hidden)
        + _decoder(config, num_visible, num_hidden)
        + 2 * num_hidden * decoder.dim  # the head
    )
    decoded_once = 2 * config.num_bins * num_hidden
    if decoder.kind == "performer":
        feature_rows = (2 * decoder.num_layers - 1) * (config.num_genes + 2) + num_hidden  # of queries and of keys
        decoded_once += 2 * decoder.num_features * decoder.dim * feature_rows
    again = _decoder_again(config, num_visible, num_hidden, checkpointing)
    in_pass = 0
    if num_decoded is not None:
        in_pass = num_decoded * (3 * decoded - decoded_once + again)
        in_pass += 3 * _decoder_zeros(config) - 2 * config.num_bins
    again = _encoder_again(config.encoder, num_visible, checkpointing)
    return 3 * forward - once + again + in_pass // num_cells


def dense_flops(config: ModelConfig, attention: Literal["softmax", "performer"]) -> int:
    """Return the operations of the same encoder over every gene, expressed or not: what this design avoids."""
    num_tokens, encoder = config.num_genes + 2, config.encoder
    if attention == "softmax":
        return _values(config, num_tokens) + _encoder(encoder, num_tokens)
    performer = DecoderConfig(
        dim=encoder.dim,
        num_layers=encoder.num_layers,
        num_heads=encoder.num_heads,
        num_features=config.decoder.num_features,
    )
    layer = performer_layer_flops(performer, num_tokens, num_tokens)
    return _values(config, num_tokens) + encoder.num_layers * layer


def performer_layer_flops(config: DecoderConfig, num_keys: int, num_queries: int) -> int:
    """Return the operations of one layer of the paper's decoder."""
    dim, features = config.dim, config.num_features
    keys = 4 * dim**2 + 4 * features * dim  # key, value; features, state
    queries = 20 * dim**2 + 2 * features * (2 * dim + config.num_heads)  # query, out, feed-forward; features, mix, sums
    return num_keys * keys + num_queries * queries


def _values(config: ModelConfig, num_values: int) -> int:
    bins = config.num_bins
    return 2 * num_values * (bins + bins * bins + bins * config.encoder.dim)


def _encoder(config: EncoderConfig, num_tokens: int) -> int:
    linear = 24 * num_tokens * config.dim**2  # 4 D^2 weights in the attention, 8 D^2 in the feed-forward part
    return config.num_layers * (linear + 4 * num_tokens**2 * config.dim)


def _encoder_again(config: EncoderConfig, num_tokens: int, checkpointing: ActivationCheckpointing) -> int:
    """Backward computes a part again up to the input of its last matrix product; by oneDNN, that product too."""
    half = config.num_layers * 8 * num_tokens * config.dim**2  # one of the feed-forward part's two products
    return {"none": 0, "feed_forward": half, "layer": _encoder(config, num_tokens) - half}[checkpointing]


def _decoder_again(
    config: ModelConfig, num_visible: int, num_asked: int, checkpointing: ActivationCheckpointing
) -> int:
    decoder = config.decoder
    rows = num_asked if decoder.kind == "cross_attention" else config.num_genes + 2  # of all layers but the last
    half = ((decoder.num_layers - 1) * rows + num_asked) * 8 * decoder.dim**2
    whole = _decoder(config, num_visible, num_asked)
    return {"none": 0, "feed_forward": half, "layer": whole - half}[checkpointing]


def _decoder_zeros(config: ModelConfig) -> int:
    """Once for all cells of a batch: the embedding of zero and, for the paper's decoder, every position as a zero."""
    positions = config.num_genes + 2 if config.decoder.kind == "performer" else 0
    return _values(config, 1) + _decoder_shown(config, positions)


def _decoder_shown(config: ModelConfig, num_shown: int) -> int:
    return 2 * num_shown * config.encoder.dim * config.decoder.dim


def _decoder(config: ModelConfig, num_visible: int, num_asked: int) -> int:
    """All layers; the paper's at all positions but the last, which answers only where it is asked."""
    decoder, num_positions = config.decoder, config.num_genes + 2
    if decoder.kind == "cross_attention":
        return decoder.num_layers * _cross_layer(decoder, num_visible, num_asked)
    whole = performer_layer_flops(decoder, num_positions, num_positions)
    return (decoder.num_layers - 1) * whole + performer_layer_flops(decoder, num_positions, num_asked)


def _cross_layer(config: DecoderConfig, num_keys: int, num_queries: int) -> int:
    keys = 4 * config.dim**2  # key, value
    queries = 20 * config.dim**2 + 4 * num_keys * config.dim  # query, out, feed-forward; scores, mix
    return num_keys * keys + num_queries * queries
