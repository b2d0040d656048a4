"""What a protein language model and its training are, as frozen data."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from xtrimogene.config import ActivationCheckpointing, OptimizerConfig, Precision, require
from xtrimogene.protein.tokenizer import Vocabulary

Objective = Literal["mlm", "clm", "span", "suffix"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProteinConfig:
    """A transformer with 2-D rotary positions and GeGLU; ``max_length`` is the longest piece it is trained on."""

    dim: int = 256
    num_layers: int = 6
    num_heads: int = 8
    feed_forward_dim: int | None = None  # None: 8/3 of dim, up to a multiple of 64: 12 dim^2 weights a layer
    vocabulary_size: int = 128
    max_length: int = 1_024

    def __post_init__(self) -> None:
        for name in ("dim", "num_layers", "num_heads", "vocabulary_size"):
            require(getattr(self, name) >= 1, f"protein model: {name}={getattr(self, name)} must be at least 1.")
        require(self.max_length >= 8, f"protein model: max_length={self.max_length} must be at least 8.")
        require(
            self.dim % (4 * self.num_heads) == 0,
            f"protein model: dim={self.dim} is not a multiple of 4 x num_heads={self.num_heads}, and each of two "
            "positions turns pairs of a head's channels; change one of the two.",
        )
        width = self.feed_forward_dim
        require(width is None or width >= 1, f"protein model: feed_forward_dim={width} must be at least 1, or None.")

    @property
    def feed_forward_width(self) -> int:
        return self.feed_forward_dim or 64 * -(-8 * self.dim // (3 * 64))


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenMaskingConfig:
    """MLM: which share of the letters is asked for, and what is read in their place."""

    fraction: float = 0.15
    replace_fraction: float = 0.8  # the mask
    random_fraction: float = 0.1  # a random standard amino acid; the rest shows the true letter

    def __post_init__(self) -> None:
        require(0.0 < self.fraction <= 1.0, f"masking: fraction={self.fraction} must lie in (0, 1].")
        for name in ("replace_fraction", "random_fraction"):
            value = getattr(self, name)
            require(0.0 <= value <= 1.0, f"masking: {name}={value} must lie in [0, 1].")
        require(
            self.replace_fraction + self.random_fraction <= 1.0,
            f"masking: replace_fraction={self.replace_fraction} and random_fraction={self.random_fraction} "
            "exceed 1 together.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanMaskingConfig:
    """Blank infilling: spans of Poisson lengths, until this share of the letters is hidden."""

    fraction: float = 0.15
    mean_length: float = 3.0
    max_length: int = 39

    def __post_init__(self) -> None:
        require(
            0.0 < self.fraction <= 0.5,
            f"spans: fraction={self.fraction} must lie in (0, 0.5]; a letter stands between two spans.",
        )
        require(
            1 <= self.mean_length <= self.max_length,
            f"spans: mean_length={self.mean_length} must lie between 1 and max_length={self.max_length}.",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectiveStage:
    """So many steps in which each piece of a sequence is trained on by one objective, drawn by these shares.

    "mlm" hides letters in place, "clm" predicts the next one, "span" (sMASK) fills in blanks and "suffix" (gMASK) goes
    on from a prefix that is read in both directions.
    """

    num_steps: int
    mlm: float = 0.0
    clm: float = 0.0
    span: float = 0.0
    suffix: float = 0.0

    def __post_init__(self) -> None:
        require(self.num_steps >= 1, f"stage: num_steps={self.num_steps} must be at least 1.")
        for name, share in self.shares.items():
            require(0.0 <= share <= 1.0, f"stage: {name}={share} must lie in [0, 1].")
        total = sum(self.shares.values())
        require(abs(total - 1.0) < 1e-6, f"stage: mlm, clm, span and suffix sum to {total:g}; they must sum to 1.")

    @property
    def shares(self) -> dict[Objective, float]:
        return {"mlm": self.mlm, "clm": self.clm, "span": self.span, "suffix": self.suffix}


def unified_stages(num_mlm_steps: int, num_mixed_steps: int) -> tuple[ObjectiveStage, ObjectiveStage]:
    """Return xTrimoPGLM's two stages: MLM alone, then 20 % MLM and 80 % GLM, half of it blanks (our choice)."""
    return (
        ObjectiveStage(num_steps=num_mlm_steps, mlm=1.0),
        ObjectiveStage(num_steps=num_mixed_steps, mlm=0.2, span=0.4, suffix=0.4),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ProteinPretrainConfig:
    """One run: what is read, what is learned from it, where it is written.

    The defaults are those of the compute-optimal study (arXiv 2411.02142) for 25M to 49M parameters. Its transfer from
    CLM to MLM is a run with ``initialize_from``.
    """

    files: tuple[str, ...]  # FASTA, gzipped or not, or parquet
    output: str
    stages: tuple[ObjectiveStage, ...]
    column: str = "sequence"  # of a parquet
    tokenizer: Vocabulary = "xtrimopglm"
    model: ProteinConfig = field(default_factory=ProteinConfig)
    initialize_from: str | None = None  # folder of a trained model of the same shape and vocabulary
    tokens_per_step: int = 524_288  # of pieces before the objectives add their marks; 512 x 1,024
    tokens_per_pass: int | None = None  # of a step's passes, whose gradients add up; None: all in one
    peak_lr: float = 6e-4
    weight_decay: float = 0.1
    warmup_fraction: float = 0.025
    final_lr_fraction: float = 0.1
    gradient_clip: float = 1.0
    betas: tuple[float, float] = (0.9, 0.95)
    masking: TokenMaskingConfig = field(default_factory=TokenMaskingConfig)
    spans: SpanMaskingConfig = field(default_factory=SpanMaskingConfig)
    activation_checkpointing: ActivationCheckpointing = "none"
    precision: Precision = "auto"  # auto: bfloat16 on CUDA, float32 elsewhere
    validation_files: tuple[str, ...] = ()  # not trained on
    validate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        require(len(self.files) > 0, "files is empty; name at least one FASTA or parquet to train on.")
        require(len(self.stages) > 0, "stages is empty; give one, such as ObjectiveStage(num_steps=1_000, mlm=1.0).")
        for name in ("validate_every", "checkpoint_every", "log_every"):
            require(getattr(self, name) >= 1, f"{name}={getattr(self, name)} must be at least 1.")
        for name in ("tokens_per_step", "tokens_per_pass"):
            most = getattr(self, name)
            require(
                most is None or most >= self.model.max_length,
                f"{name}={most} is less than model.max_length={self.model.max_length}, and a piece is never cut "
                "in two; raise the one or lower the other.",
            )
        require(self.seed >= 0, f"seed={self.seed} must not be negative.")
        require(0 <= self.warmup_fraction <= 1, f"warmup_fraction={self.warmup_fraction} must lie in [0, 1].")
        literals = {
            "tokenizer": Vocabulary,
            "precision": Precision,
            "activation_checkpointing": ActivationCheckpointing,
        }
        for name, kinds in literals.items():
            value = getattr(self, name)
            require(value in get_args(kinds), f"{name}={value!r} is not one of {', '.join(get_args(kinds))}.")
        require(
            self.tokenizer == "xtrimopglm" or all(stage.span == stage.suffix == 0 for stage in self.stages),
            f"tokenizer={self.tokenizer!r} has no marks for span and suffix; use 'xtrimopglm', or mlm and clm only.",
        )
        _ = self.optimizer

    @property
    def num_steps(self) -> int:
        return sum(stage.num_steps for stage in self.stages)

    @property
    def optimizer(self) -> OptimizerConfig:
        return OptimizerConfig(
            peak_lr=self.peak_lr,
            weight_decay=self.weight_decay,
            warmup_steps=round(self.warmup_fraction * self.num_steps),
            final_lr_fraction=self.final_lr_fraction,
            gradient_clip=self.gradient_clip,
            betas=self.betas,
        )

    def stage_at(self, step: int) -> ObjectiveStage:
        """Return the stage that a step, counted from 0, belongs to."""
        for stage in self.stages:
            if step < stage.num_steps:
                return stage
            step -= stage.num_steps
        raise IndexError(step)
