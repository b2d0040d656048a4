"""The closed-form predictor: kernel ridge over (perturbation, context), which falls back on the training mean.

What is left of an effect after the training mean is predicted from the effects of perturbations that resemble it, in
contexts that resemble its own. The kernel of two effects is

    (shared + sum of w_s <p, q>_s + pairs * [both are combinations] * parts in common)
    * (1 - near + near * likeness of contexts)

where the first sum runs over `PartFeatures.products`. A combination's vector is the sum of its parts', so that parts
add up, and "pairs" is what the parts of combinations do beyond that. All genes share the kernel: this is the bilinear
ridge of Ahlmann-Eltze et al. (Nature Methods 2025) without its gene factor. An effect of few cells counts for less.
With an infinite ``strength`` and no ``denoise`` it is the training mean, to the bit.

A prediction is a weighted sum of training effects, so the noise of their cells in it is known: a gene's variance times
nu. A change f that is small beside it is mostly noise, and becomes f * f^2 / (f^2 + denoise * nu * variance).
Letters: E training effects; Q effects asked for; C contexts; M genes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from xtrimogene.tasks.perturbation.baselines import mean_weights
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of
from xtrimogene.tasks.perturbation.part_features import PartFeatures

DENOISES = (0.0, 0.3, 1.0, 3.0, 10.0)
STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, np.inf)


@dataclass(frozen=True, kw_only=True, slots=True)
class Kernel:
    """The weights of a kernel: ``weights`` by source, and "own" for the very parts."""

    weights: Mapping[str, float]
    shared: float = 0.0
    pairs: float = 0.0
    near: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"weights": dict(self.weights)}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class KernelRidge:
    """A fitted predictor; ``solve`` turns what is left of the training effects into dual weights."""

    kernel: Kernel
    strength: float
    train: Effects
    features: PartFeatures
    solve: Float[np.ndarray, "E E"]
    denoise: float = 0.0

    @classmethod
    def fit(
        cls, train: Effects, features: PartFeatures, kernel: Kernel, strength: float, denoise: float = 0.0
    ) -> "KernelRidge":
        return replace(next(cls.path(train, features, kernel, (strength,))), denoise=denoise)

    @classmethod
    def path(
        cls, train: Effects, features: PartFeatures, kernel: Kernel, strengths: Sequence[float]
    ) -> Iterator["KernelRidge"]:
        """Fit at each strength; the kernel is decomposed once."""
        weight = np.sqrt(train.num_cells / train.num_cells.mean())[:, None]  # of an effect: how little noise it has
        gram = kernel_of(kernel, features, train, train.perturbation.tolist(), train.control[train.context])
        values, vectors = eigh(gram * weight * weight.T)
        turned = weight * vectors
        for strength in strengths:
            solve = (turned / (np.maximum(values, 0) + strength)) @ turned.T
            yield cls(kernel=kernel, strength=strength, train=train, features=features, solve=solve)

    def predict(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the change by each perturbation in a context of this mean control expression."""
        return next(self.predict_all(names, control, (self.denoise,)))

    def predict_all(
        self, names: Sequence[str], control: Float[np.ndarray, "Q M"], denoises: Sequence[float]
    ) -> Iterator[Float[np.ndarray, "Q M"]]:
        """Yield what `predict` returns with each denoising."""
        weights = self._weights(names, control)
        change, noise = weights @ self.train.change, np.outer(self._noise(weights), self.train.variance)
        for denoise in denoises:
            yield quiet(change, noise, denoise)

    def _weights(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q E"]:
        """Return what each training effect weighs in the predictions."""
        pull = kernel_of(self.kernel, self.features, self.train, names, control) @ self.solve
        return (
            mean_weights(self.train, names) + pull - pull @ mean_weights(self.train, self.train.perturbation.tolist())
        )

    def _noise(self, weights: Float[np.ndarray, "Q E"]) -> Float[np.ndarray, " Q"]:
        """Return nu: effects of one context share its control cells, whose noise does not average out."""
        of_context = np.eye(len(self.train.context_names))[self.train.context]  # (E, C)
        return weights**2 @ (1 / self.train.num_cells) + (weights @ of_context) ** 2 @ (1 / self.train.num_controls)


def quiet(
    change: Float[np.ndarray, "Q M"], noise: Float[np.ndarray, "Q M"], denoise: float
) -> Float[np.ndarray, "Q M"]:
    """Shrink changes that are small beside their noise."""
    if not denoise:
        return change
    size = change**2
    both = size + denoise * noise
    return change * np.divide(size, both, out=np.zeros_like(size), where=both > 0)


def kernel_of(
    kernel: Kernel, features: PartFeatures, train: Effects, names: Sequence[str], control: Float[np.ndarray, "Q M"]
) -> Float[np.ndarray, "Q E"]:
    """Return the kernel of the effects asked for with the training effects."""
    theirs = train.perturbation.tolist()
    products = features.products(names, theirs)
    alike = kernel.shared + sum(weight * products[source] for source, weight in kernel.weights.items())
    if kernel.pairs:
        ours_joined, theirs_joined = (np.array([len(parts_of(one)) > 1 for one in many]) for many in (names, theirs))
        alike = alike + kernel.pairs * products["own"] * np.outer(ours_joined, theirs_joined)
    if kernel.near:
        alike = alike * (1 - kernel.near + kernel.near * likeness(control, train.control)[:, train.context])
    return np.broadcast_to(alike, (len(names), len(theirs)))


def likeness(ours: Float[np.ndarray, "Q M"], contexts: Float[np.ndarray, "C M"]) -> Float[np.ndarray, "Q C"]:
    """Return exp(-d^2 / 2 s^2) of control expression, s the median distance of two training contexts; itself is 1."""
    apart = _squared(contexts, contexts)[np.triu_indices(len(contexts), 1)]
    scale = float(np.median(apart)) if len(apart) else 0.0
    return np.exp(-_squared(ours, contexts) / (2 * max(scale, 1e-12)))


def _squared(a: Float[np.ndarray, "Q M"], b: Float[np.ndarray, "C M"]) -> Float[np.ndarray, "Q C"]:
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)


def candidate_kernels(
    sources: Sequence[str], *, many_contexts: bool, combinations: bool, seen: bool
) -> tuple[Kernel, ...]:
    """Return the kernels to choose from, by what the training effects can tell apart.

    Parameters
    ----------
    seen
        The perturbation itself, or a part of it, is among the training effects, so that its own effect counts too.
    """
    mixes: list[dict[str, float]] = [{"own": 1.0}] if seen else []
    for chosen in [(name,) for name in sources] + ([tuple(sources)] if len(sources) > 1 else []):
        share = {name: 1 / len(chosen) for name in chosen}
        own = (0.5,) if seen or many_contexts or combinations else (0.0,)
        mixes += [{"own": w} | {name: (1 - w) * part for name, part in share.items()} for w in own]
    return tuple(
        Kernel(weights=mix, shared=shared, pairs=pairs, near=near)
        for mix in mixes
        for shared in ((0.0, 1.0) if many_contexts else (0.0,))
        for near in ((0.0, 0.5, 1.0) if many_contexts else (0.0,))
        for pairs in ((0.0, 0.3, 1.0) if combinations else (0.0,))
    )
