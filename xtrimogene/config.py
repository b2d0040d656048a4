"""What a model and a run are, as frozen data: checked once, written to JSON and TOML, free of torch."""

import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from xtrimogene.errors import ConfigError

Pool = Literal["all", "max", "mean", "latent"]
Unmeasured = Literal["mask", "zero"]
Start = Literal["random", "spectral"]
DecoderKind = Literal["performer", "cross_attention"]
Precision = Literal["auto", "float32", "bfloat16"]
EncoderPrecision = Literal["float32", "bfloat16", "int8"]
ActivationCheckpointing = Literal["none", "feed_forward", "layer"]
T = TypeVar("T")


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with ``message`` where the condition does not hold."""
    if not condition:
        raise ConfigError(message)


def _check_heads(part: str, dim: int, num_heads: int) -> None:
    require(dim > 0 and num_heads > 0, f"{part}: dim={dim} and num_heads={num_heads} must be positive.")
    require(
        dim % num_heads == 0, f"{part}: dim={dim} is not a multiple of num_heads={num_heads}; change one of the two."
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderConfig:
    """Exact softmax attention over the expressed genes of a cell; the feed-forward part is 4 x dim wide."""

    dim: int = 256
    num_layers: int = 4
    num_heads: int = 8
    norm_first: bool = True  # False is the released scFoundation
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_heads("encoder", self.dim, self.num_heads)
        require(self.num_layers >= 1, f"encoder: num_layers={self.num_layers} must be at least 1.")
        require(0.0 <= self.dropout < 1.0, f"encoder: dropout={self.dropout} must lie in [0, 1).")


@dataclass(frozen=True, kw_only=True, slots=True)
class DecoderConfig:
    """The feed-forward part is 4 x dim wide.

    "performer" is the paper's decoder: FAVOR+ attention over every gene of the model. "cross_attention" is ours, at a
    fraction of the operations: only the genes asked for, attending to what the encoder saw.
    """

    kind: DecoderKind = "performer"
    dim: int = 256
    num_layers: int = 2
    num_heads: int = 8
    num_features: int = 256  # random features of a head (performer); 266 is the released scFoundation

    def __post_init__(self) -> None:
        kinds = get_args(DecoderKind)
        require(self.kind in kinds, f"decoder: kind={self.kind!r} is not one of {', '.join(kinds)}.")
        _check_heads("decoder", self.dim, self.num_heads)
        require(self.num_layers >= 1, f"decoder: num_layers={self.num_layers} must be at least 1.")
        require(self.num_features >= 1, f"decoder: num_features={self.num_features} must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The whole network. ``pool`` and ``read_depth`` are what its embeddings use unless the caller says otherwise."""

    num_genes: int
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    num_bins: int = 100
    bin_alpha: float = 1.0
    latent_dim: int | None = None  # width of the latent cell vector; None: the model has none
    unmeasured: Unmeasured = "mask"  # what the decoder reads at genes that were not measured; "zero" is scFoundation
    pool: Pool = "all"
    read_depth: str = "f1"

    def __post_init__(self) -> None:
        require(self.num_genes >= 1, f"num_genes={self.num_genes} must be at least 1.")
        require(self.num_bins >= 1, f"num_bins={self.num_bins} must be at least 1.")
        require(
            self.latent_dim is None or self.latent_dim >= 2,
            f"latent_dim={self.latent_dim} must be at least 2, one of them for read depth, or None.",
        )
        require(self.pool in get_args(Pool), f"pool={self.pool!r} is not one of {', '.join(get_args(Pool))}.")
        require(
            self.unmeasured in get_args(Unmeasured), f"unmeasured={self.unmeasured!r} is neither 'mask' nor 'zero'."
        )
        require(
            self.pool != "latent" or self.latent_dim is not None,
            "pool='latent' needs a model with a latent cell vector; set latent_dim, or choose all, max or mean.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskingConfig:
    """Which genes of a cell are hidden, and what the decoder reads in their place."""

    nonzero_fraction: float = 0.3
    zero_fraction: float = 0.03
    replace_fraction: float = 0.8  # the mask row
    random_fraction: float = 0.1  # a random non-zero value of the cell; the rest shows the true value
    max_visible: int | None = None  # a cell with more visible genes hides the surplus as well

    def __post_init__(self) -> None:
        for name in ("nonzero_fraction", "zero_fraction", "replace_fraction", "random_fraction"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"masking: {name}={value} must lie in [0, 1].")
        require(self.nonzero_fraction < 1.0, "masking: nonzero_fraction=1 leaves the encoder nothing to read.")
        require(
            self.replace_fraction + self.random_fraction <= 1.0,
            f"masking: replace_fraction={self.replace_fraction} and random_fraction={self.random_fraction} "
            "exceed 1 together.",
        )
        require(
            self.max_visible is None or self.max_visible >= 1,
            f"masking: max_visible={self.max_visible} must be at least 1, or None.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReadDepthConfig:
    """How the input of a training cell is thinned: unchanged with this probability, else at a Beta(a, b) rate."""

    unchanged_probability: float = 0.5
    beta_a: float = 2.0
    beta_b: float = 2.0
    gene_spread: float = 0.0  # deviation of a gene's log capture rate, drawn for each thinned cell: another chemistry

    def __post_init__(self) -> None:
        value = self.unchanged_probability
        require(0.0 <= value <= 1.0, f"read_depth: unchanged_probability={value} must lie in [0, 1].")
        require(self.beta_a > 0 and self.beta_b > 0, "read_depth: beta_a and beta_b must be positive.")
        require(self.gene_spread >= 0, f"read_depth: gene_spread={self.gene_spread} must not be negative.")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW with a linear warm-up and a cosine to ``final_lr_fraction`` of the peak."""

    peak_lr: float = 1e-4
    weight_decay: float = 0.0
    warmup_steps: int = 500
    final_lr_fraction: float = 0.01
    gradient_clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)

    def __post_init__(self) -> None:
        require(self.peak_lr > 0, f"optimizer: peak_lr={self.peak_lr} must be positive.")
        require(self.warmup_steps >= 0, f"optimizer: warmup_steps={self.warmup_steps} must not be negative.")
        require(all(0 <= beta < 1 for beta in self.betas), f"optimizer: betas={self.betas} must lie in [0, 1).")
        require(self.weight_decay >= 0, f"optimizer: weight_decay={self.weight_decay} must not be negative.")
        require(self.gradient_clip > 0, f"optimizer: gradient_clip={self.gradient_clip} must be positive.")
        value = self.final_lr_fraction
        require(0 <= value <= 1, f"optimizer: final_lr_fraction={value} must lie in [0, 1].")


@dataclass(frozen=True, kw_only=True, slots=True)
class FineTuneConfig:
    """How the last layers of an encoder learn to tell labels apart and, by ``batch_weight``, batches not.

    Steps are of genes read, not of cells, so that they take as long and as much memory whatever the reference and
    however many genes a cell expresses. Cells come with their labels in turn.
    """

    num_layers: int = 1
    peak_lr: float = 3e-4
    head_lr: float = 3e-4
    weight_decay: float = 0.01
    warmup_steps: int = 5
    gradient_clip: float = 1.0
    averaging: float = 0.9  # of the weights so far, at each step; the averages are what is kept
    step_tokens: int = 25_000  # expressed genes read in a step, which bound the memory; a longer cell goes alone
    steps_per_epoch: int = 8
    judged_tokens: int = 400_000  # expressed genes of the cells, drawn once, that are answered after each epoch; kept
    max_epochs: int = 10
    patience: int = 2  # epochs without a better answer in held-out cells
    batch_weight: float = 1.0
    read_depth: ReadDepthConfig = field(default_factory=lambda: ReadDepthConfig(unchanged_probability=1.0))
    precision: Precision = "auto"  # as in `PretrainConfig`
    seed: int = 0

    def __post_init__(self) -> None:
        require(0 <= self.averaging < 1, f"fine-tuning: averaging={self.averaging} must lie in [0, 1).")
        for name in ("num_layers", "step_tokens", "steps_per_epoch", "judged_tokens", "max_epochs", "patience"):
            require(getattr(self, name) >= 1, f"fine-tuning: {name}={getattr(self, name)} must be at least 1.")
        for name in ("peak_lr", "head_lr", "gradient_clip"):
            require(getattr(self, name) > 0, f"fine-tuning: {name}={getattr(self, name)} must be positive.")
        for name in ("weight_decay", "warmup_steps", "batch_weight", "seed"):
            require(getattr(self, name) >= 0, f"fine-tuning: {name}={getattr(self, name)} must not be negative.")


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig:
    """How cells are shuffled: blocks of neighbours at random, then the cells of a buffer of blocks.

    A step's cells come from ``num_lanes`` lanes, each a share of the epoch; a lane is the smallest part that a device
    can have, so that a run may go on with any number of devices that divides ``num_lanes``, on the same cells.
    """

    num_lanes: int = 8
    block_size: int = 256
    buffer_size: int = 16_384  # cells of all lanes

    def __post_init__(self) -> None:
        for name in ("num_lanes", "block_size", "buffer_size"):
            require(getattr(self, name) >= 1, f"sampling: {name}={getattr(self, name)} must be at least 1.")


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """One pre-training run: what is read, what is trained, where it is written."""

    files: tuple[str, ...]
    output: str
    joined_by: Mapping[str, str] = field(default_factory=dict)  # file: obs column of the batches it joins
    weights: Mapping[str, float] = field(default_factory=dict)  # file: how often an epoch reads it, 1 unless named
    in_memory: bool = True  # False: cells are read from their files block by block, again and again
    preset: str = "demo"
    model: Mapping[str, Any] = field(default_factory=dict)  # settings of a ModelConfig that replace the preset's
    num_steps: int = 10_000
    batch_size: int = 64  # cells of a step, on all devices together
    micro_batch_size: int | None = None  # cells of one pass, None: a lane's; their gradients add up to the step's
    micro_batch_tokens: int | None = None  # genes that the encoder sees in one pass; a longer cell goes alone
    min_genes: int = 200  # cells with fewer expressed genes are left out
    decoder_share: float = 1.0  # share of a batch's cells that pass through the gene decoder
    latent_weight: float = 0.0  # weight of the latent head's loss; needs a preset with latent_dim
    latent_kl_weight: float = 0.0  # above 0 the latent vector is read with unit noise and costs its divergence from it
    start: Start = "random"  # spectral: begin with the means of genes and with what the training cells vary in
    redraw_every: int = 1000  # steps between two draws of the FAVOR+ projections; 0: never
    checkpoint_every: int = 500
    log_every: int = 50
    tensorboard: bool = False  # the same numbers as TensorBoard events; needs the extra of that name
    validation_files: tuple[str, ...] = ()  # cells that are not trained on
    validation_cells: int = 256  # of them, drawn once
    validate_every: int = 500
    seed: int = 0
    precision: Precision = "auto"  # auto: bfloat16 on CUDA, float32 elsewhere
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    activation_checkpointing: ActivationCheckpointing = "none"  # what backward computes again instead of keeping it
    masking: MaskingConfig = field(default_factory=MaskingConfig)
    read_depth: ReadDepthConfig = field(default_factory=ReadDepthConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "files is empty; name at least one .h5ad or .zarr to train on.")
        known = {"joined_by": {*self.files, *self.validation_files}, "weights": {*self.files}}
        for name, files in known.items():
            strangers = sorted(set(getattr(self, name)) - files)
            require(not strangers, f"{name} names {', '.join(map(repr, strangers))}, which is not among files.")
        both = sorted(set(self.validation_files) & set(self.files))
        require(not both, f"validation_files names {', '.join(map(repr, both))}, which is trained on; leave it out.")
        for file, weight in self.weights.items():
            fits = 0 < weight < math.inf
            require(fits, f"weights: {file!r} has {weight}; a positive number is needed, or leave the file out.")
        for name in (
            "num_steps",
            "batch_size",
            "min_genes",
            "checkpoint_every",
            "log_every",
            "validation_cells",
            "validate_every",
        ):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("micro_batch_size", "micro_batch_tokens"):
            most = getattr(self, name)
            require(most is None or most >= 1, f"{name}={most} must be at least 1, or None.")
        require(
            self.batch_size >= self.sampling.num_lanes,
            f"batch_size={self.batch_size} is less than sampling.num_lanes={self.sampling.num_lanes}, and each lane "
            "gives a cell to each step; lower num_lanes or raise batch_size.",
        )
        for name in ("seed", "redraw_every", "latent_weight"):
            require(getattr(self, name) >= 0, f"{name}={getattr(self, name)} must not be negative.")
        literals = {
            "start": Start,
            "precision": Precision,
            "activation_checkpointing": ActivationCheckpointing,
        }
        for name, kinds in literals.items():
            value = getattr(self, name)
            require(value in get_args(kinds), f"{name}={value!r} is not one of {', '.join(get_args(kinds))}.")
        require(0.0 <= self.decoder_share <= 1.0, f"decoder_share={self.decoder_share} must lie in [0, 1].")
        require(
            self.decoder_share > 0 or self.latent_weight > 0,
            "decoder_share=0 and latent_weight=0 leave nothing to train; raise one of the two.",
        )
        hides = self.masking.nonzero_fraction > 0 or self.masking.zero_fraction > 0
        require(
            self.decoder_share == 0 or hides,
            "masking: nonzero_fraction=0 and zero_fraction=0 leave the decoder nothing to predict; raise one of them.",
        )
        require(
            self.latent_kl_weight == 0.0 or (self.latent_kl_weight > 0 and self.latent_weight > 0),
            f"latent_kl_weight={self.latent_kl_weight} must be 0, or positive beside a positive latent_weight.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreConfig:
    """One cell store: which files go in, which of their cells, and in what order."""

    files: tuple[str, ...]
    output: str  # a folder that ends in .zarr
    donor_key: str | None = None  # column of obs
    batch_key: str | None = None  # column of obs: files are outer joins of batches that measured genes of their own
    min_genes: int = 200  # cells with fewer expressed genes are left out
    seed: int = 0
    memory: float = 4.0  # GB

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "files is empty; name at least one .h5ad or .zarr.")
        for file in self.files:
            require(self.files.count(file) == 1, f"{file} is given twice; its cells would be in the store twice.")
        require(self.output.endswith(".zarr"), f"The store is {self.output!r}; a name that ends in .zarr is needed.")
        require(self.min_genes >= 1, f"min_genes={self.min_genes} must be at least 1.")
        require(self.seed >= 0, f"seed={self.seed} must not be negative.")
        require(self.memory >= 1e-4, f"memory={self.memory} GB is too little to work with; give 0.0001 at least.")


def check_latent(run: PretrainConfig, model: ModelConfig) -> None:
    """Refuse a run that trains a latent cell vector which the model does not have."""
    require(
        run.latent_weight == 0 or model.latent_dim is not None,
        "latent_weight > 0 needs a preset with latent_dim, such as 'demo'; set latent_weight = 0.",
    )


def uses_bfloat16(precision: Precision, *, accelerator: bool) -> bool:
    """Whether a run multiplies in bfloat16, on an accelerator or on a CPU."""
    return precision == "bfloat16" or (precision == "auto" and accelerator)


def to_dict(config: Any) -> dict[str, Any]:
    """Plain dictionaries, lists and scalars, ready for JSON."""
    return asdict(config)


def read_toml(path: str | os.PathLike[str], needed: Sequence[str]) -> dict[str, Any]:
    """Read the settings of a TOML file; those ``needed`` have to be there.

    Raises
    ------
    ConfigError
        No such file, no TOML, or a setting is missing.
    """
    file = Path(path)
    try:
        values = tomllib.loads(file.read_text())
    except FileNotFoundError:
        least = " and ".join(f"`{name}`" for name in needed)
        raise ConfigError(f"No file {str(file)!r}; a TOML with at least {least} is needed.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read ({error.strerror}); a TOML is needed.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is not TOML: {error}.") from None
    for name in needed:
        require(name in values, f"{file}: `{name}` is missing.")
    return values


def from_dict(kind: type[T], values: Any, where: str = "config") -> T:
    """Build a config of this kind; an unknown name or a wrong type is a ConfigError that says where it stands."""
    require(isinstance(values, Mapping), f"{where}: a table of settings is needed, got {values!r}.")
    hints = get_type_hints(kind)
    known = {entry.name for entry in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    require(
        not unknown, f"{where}: unknown setting {', '.join(map(repr, unknown))}; known are {', '.join(sorted(known))}."
    )
    try:
        return kind(**{name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()})
    except TypeError as error:
        raise ConfigError(f"{where}: {error}.") from None


def _convert(hint: Any, value: Any, where: str) -> Any:
    if hint is Any:
        return value
    if is_dataclass(hint) and isinstance(hint, type):
        return from_dict(hint, value, where)
    options = get_args(hint)
    if get_origin(hint) is Literal:
        require(value in options, f"{where}: one of {', '.join(map(repr, options))} is needed, got {value!r}.")
        return value
    if get_origin(hint) is tuple:
        require(isinstance(value, list | tuple), f"{where}: a list is needed, got {value!r}.")
        kinds = options[:1] * len(value) if options[-1] is Ellipsis else options
        require(len(kinds) == len(value), f"{where}: {len(kinds)} values are needed, got {value!r}.")
        return tuple(
            _convert(kind, entry, f"{where}[{i}]") for i, (kind, entry) in enumerate(zip(kinds, value, strict=True))
        )
    if get_origin(hint) is Mapping:
        require(isinstance(value, Mapping), f"{where}: a table is needed, got {value!r}.")
        return {name: _convert(options[1], entry, f"{where}.{name}") for name, entry in value.items()}
    if get_origin(hint) is UnionType:  # X | None
        return None if value is None else _convert(options[0], value, where)
    if hint is float and type(value) is int:
        return float(value)
    require(type(value) is hint, f"{where}: {hint.__name__} is needed, got {value!r}.")
    return value
