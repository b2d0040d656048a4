"""What each part of the network keeps in a training step, in bytes of tensors.

Counted from the code of the parts and of their kernels; benchmarks/plan_memory.py holds it against measured peaks.
"Widths" are numbers a row in multiples of the width of the encoder or decoder. P = num_genes + 2 positions.
"""

from dataclasses import dataclass

from xtrimogene.config import ActivationCheckpointing, DecoderConfig, EncoderConfig, ModelConfig

FULL = 4  # bytes of a weight, a gradient, a norm's input: float32, under autocast too
INDEX = 8
# linear_attention/streamed.py: for each thread of a CPU, on an accelerator
CHUNK_ROWS = {False: 1024, True: 16384}


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSize:
    """What a pass of a step reads on one device; genes are means over its cells."""

    num_cells: int
    num_decoded: int  # cells that pass the decoder
    num_visible: int  # tokens of a cell, T and S included
    num_hidden: int  # genes of a cell that are predicted through the decoder
    latent: bool = False  # every gene is predicted through the latent vector as well
    num_studies: int = 1
    num_passes: int = 1  # of the step on this device, whose cells are there together
    first: bool = False  # of these passes: there are no gradients yet
    decoder: bool = True  # is trained, whether or not cells of this pass go through it

    @property
    def num_tokens(self) -> int:
        return self.num_cells * self.num_visible


@dataclass(frozen=True, kw_only=True, slots=True)
class StepForm:
    """How a step is computed."""

    checkpointing: ActivationCheckpointing = "none"
    bfloat16: bool = False  # autocast as on CUDA, where norms are float32; a CPU keeps up to a fifth less
    accelerator: bool = False  # the kernels of a GPU, or those of a CPU
    data_parallel: bool = False  # gradients have copies that travel between devices

    @property
    def product(self) -> int:
        """Bytes of a number that enters or leaves a matrix product."""
        return 2 if self.bfloat16 else FULL


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """A part of a step: its weights in numbers, the rest in bytes."""

    weights: int = 0
    kept: int = 0  # from its forward to its backward
    again: int = 0  # computed again when its backward begins
    working: int = 0  # temporaries of its backward
    waits: bool = False  # its gradient is joined with that of earlier passes when backward ends


def parts_of(config: ModelConfig, size: StepSize, form: StepForm) -> list[Part]:
    """Return what a step trains, in the order of forward."""
    parts = [_offsets(config, size), _inputs(config, size, form)]
    parts += [_encoder_layer(config.encoder, size, form)] * config.encoder.num_layers
    parts.append(_encoder_norm(config.encoder, size))
    table = Part(
        weights=_table_weights(config), waits=True
    )  # read by what follows, whose backward already makes its gradient
    parts.append(table)
    if size.latent:
        parts.append(_latent_head(config, size))
    if size.decoder:
        if config.decoder.kind == "cross_attention":
            parts += [_cross_input(config, size, form), *_cross_decoder(config.decoder, size, form)]
        else:
            parts += [_decoder_input(config, size, form), *_decoder(config.decoder, config.num_genes + 2, size, form)]
    if not form.bfloat16:
        return parts
    copies = form.product * sum(part.weights for part in parts[2:] if part is not table)
    return [Part(kept=copies), *parts]  # of matrices, for as long as the step


def parameter_count(config: ModelConfig) -> int:
    """Return the number of weights of a network."""
    size = StepSize(num_cells=1, num_decoded=1, num_visible=1, num_hidden=1, latent=config.latent_dim is not None)
    return sum(part.weights for part in parts_of(config, size, StepForm())[1:])


def _offsets(config: ModelConfig, size: StepSize) -> Part:
    """One number for each gene of each study, and their centring."""
    weights = size.num_studies * config.num_genes
    return Part(weights=weights, kept=2 * FULL * weights, working=2 * FULL * weights)


def _inputs(config: ModelConfig, size: StepSize, form: StepForm) -> Part:
    """Values and genes of the visible tokens; a gradient of the whole gene table is added to the one that is there."""
    dim, bins = config.encoder.dim, config.num_bins
    return Part(
        weights=bins * (bins + 3) + (bins + 1) * dim,
        kept=_values(config, size.num_tokens, form),
        working=FULL * _table_weights(config),
    )


def _table_weights(config: ModelConfig) -> int:
    return (config.num_genes + 2) * config.encoder.dim


def _values(config: ModelConfig, num_values: int, form: StepForm) -> int:
    """An index of each value into the distinct ones; an accelerator keeps the scores of all bins, three times."""
    return num_values * (3 * FULL * config.num_bins if form.accelerator else INDEX)


def _encoder_layer(config: EncoderConfig, size: StepSize, form: StepForm) -> Part:
    dim, product = config.dim, form.product
    # q, k, v and the output; a short cell's SDPA call also copies k and v, and the outputs are put together
    attended = 4 if form.accelerator and form.bfloat16 else 7
    attention = FULL * dim + product * (1 + attended) * dim + FULL * config.num_heads
    feed_forward = FULL * dim + product * (1 + 4) * dim
    if config.dropout:
        noise = 1 if form.accelerator else FULL
        attention += 2 * noise * dim
        feed_forward += 4 * (product + noise) * dim
    sums = FULL * size.num_tokens * dim
    return _block(
        form,
        weights=_block_weights(dim),
        enters=sums,
        attention=size.num_tokens * attention,
        meets=sums,
        feed_forward=size.num_tokens * feed_forward,
        working=5 * product * size.num_tokens * dim,  # gradients of the sum (one width) and the hidden layer (four)
    )


def _block_weights(dim: int) -> int:
    return 12 * dim**2 + 13 * dim


def _block(
    form: StepForm, *, weights: int, enters: int, attention: int, meets: int, feed_forward: int, working: int
) -> Part:
    """What enters a block, what its attention keeps, what meets its feed-forward part, and what that keeps.

    A norm keeps its input, in float32: the one that comes in, or under autocast a copy.
    """
    kept = {"none": attention + feed_forward, "feed_forward": attention + meets, "layer": enters}
    chosen = kept[form.checkpointing]
    return Part(weights=weights, kept=chosen, again=kept["none"] - chosen, working=working)


def _encoder_norm(config: EncoderConfig, size: StepSize) -> Part:
    return Part(weights=2 * config.dim, kept=FULL * size.num_tokens * config.dim)


def _latent_head(config: ModelConfig, size: StepSize) -> Part:
    """Pooling keeps the tokens twice; the loss keeps each gene's value in each cell, and whether it was measured."""
    dim, width = config.encoder.dim, config.latent_dim or 0
    predicted = size.num_cells * config.num_genes
    return Part(
        weights=6 * dim * width + 4 * width**2 + 7 * width + config.num_genes,
        kept=FULL * (2 * size.num_tokens * dim + config.num_genes * width + predicted) + predicted,
        working=3 * FULL * predicted,
    )


def _decoder_input(config: ModelConfig, size: StepSize, form: StepForm) -> Part:
    """Every gene as a zero, what was seen and what is shown, each before its projection, the last two after it too."""
    dim, width, num_positions = config.encoder.dim, config.decoder.dim, config.num_genes + 2
    num_shown = size.num_decoded * size.num_hidden
    num_placed = size.num_decoded * size.num_visible + num_shown
    return Part(
        weights=width * (dim + 1),
        kept=form.product * (num_positions * dim + num_placed * (dim + width)) + _values(config, num_shown, form),
        working=3 * form.product * size.num_decoded * num_positions * width,
    )


def _decoder(config: DecoderConfig, num_positions: int, size: StepSize, form: StepForm) -> list[Part]:
    """Layers at all positions, the last of which answers only where it is asked; two norms and the head."""
    dim, product = config.dim, form.product
    num_rows, num_asked = size.num_decoded * num_positions, size.num_decoded * size.num_hidden
    casts = 3 if form.bfloat16 else 1  # of the norm's output: for q, for k and for v, or none
    exact = FULL * dim if form.bfloat16 else 0  # what attention answered, before it was rounded
    feed_forward = FULL * dim + product * (1 + 4 + 4) * dim
    chunk_rows = min(num_positions, CHUNK_ROWS[form.accelerator])
    heads_at_once = config.num_heads if form.accelerator else 1
    features = 2 * FULL * chunk_rows * heads_at_once * config.num_features
    layer = _block(
        form,
        weights=_block_weights(dim),
        enters=product * num_rows * dim,
        attention=num_rows * (FULL * dim + product * (casts + 4) * dim + exact + FULL * config.num_heads),
        meets=product * num_rows * dim,
        feed_forward=num_rows * feed_forward,
        working=5 * product * num_rows * dim + features,
    )
    read = FULL * dim + product * (max(1, casts - 1) + 2) * dim  # normed for k and v, which are kept
    asked = product * (1 + 2) * dim + exact + FULL * config.num_heads
    last = _block(
        form,
        weights=_block_weights(dim),
        enters=product * num_rows * dim,
        attention=num_rows * read + num_asked * asked,
        meets=product * num_asked * dim,
        feed_forward=num_asked * feed_forward,
        # gradients of k, of v and of their input, when what the feed-forward part kept has gone
        working=max(5 * product * num_asked * dim, 3 * product * num_rows * dim - num_asked * feed_forward) + features,
    )
    return [layer] * (config.num_layers - 1) + [last, _norms_and_head(dim, num_asked)]


def _norms_and_head(dim: int, num_asked: int) -> Part:
    return Part(weights=5 * dim + 1, kept=3 * FULL * num_asked * dim)


def _cross_input(config: ModelConfig, size: StepSize, form: StepForm) -> Part:
    """What was seen, and a query for each gene asked for: one of its own row, what is shown of it, or a zero."""
    dim, width, product = config.encoder.dim, config.decoder.dim, form.product
    num_seen, num_asked = size.num_decoded * size.num_visible, size.num_decoded * size.num_hidden
    return Part(
        weights=width * (dim + 1),
        kept=product * (num_seen + num_asked) * dim + 2 * INDEX * num_asked + _values(config, num_asked, form),
        working=FULL * ((2 * num_seen + 4 * num_asked) * dim + _table_weights(config)),
    )


def _cross_decoder(config: DecoderConfig, size: StepSize, form: StepForm) -> list[Part]:
    """Layers at the genes asked for, which read what was seen; two norms and the head."""
    dim, product = config.dim, form.product
    num_seen, num_asked = size.num_decoded * size.num_visible, size.num_decoded * size.num_hidden
    casts = 2 if form.bfloat16 else 1  # of the norm of what was seen: for k and for v, or none
    attended = 2 if form.accelerator and form.bfloat16 else 4  # k and v; a short cell's SDPA call copies them
    asked = FULL * dim + product * (1 + 3) * dim + FULL * config.num_heads  # normed, q, the output once and together
    layer = _block(
        form,
        weights=12 * dim**2 + 15 * dim,
        enters=product * num_asked * dim,
        attention=num_asked * asked + product * num_seen * (casts + attended) * dim,
        meets=product * num_asked * dim,
        feed_forward=num_asked * (FULL * dim + product * (1 + 4 + 4) * dim),
        working=5 * product * num_asked * dim,
    )
    memory = Part(kept=FULL * num_seen * dim)  # projected, once for all layers
    return [memory, *[layer] * config.num_layers, _norms_and_head(dim, num_asked)]
