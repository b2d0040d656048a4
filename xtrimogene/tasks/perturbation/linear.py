"""The closed-form predictor: kernel ridge over (perturbation, context), which falls back on the training mean.

What is left of an effect after the training mean is predicted from the effects of perturbations that resemble it, in
contexts that resemble its own. The kernel of two effects is

    (shared + sum of w_s <p, q>_s + pairs * [both are combinations] * parts in common)
    * (1 - near + near * likeness of contexts)

where the first sum runs over `PartFeatures.products`. A combination's vector is the sum of its parts', so that parts
add up, and "pairs" is what the parts of combinations do beyond that. All genes share the kernel: this is the bilinear
ridge of Ahlmann-Eltze et al. (Nature Methods 2025) without its gene factor. An effect of few cells counts for less.
With an infinite ``strength`` it is the training mean, to the bit.
Letters: E training effects; Q effects asked for; C contexts; M genes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.linalg import eigh

from xtrimogene.tasks.perturbation.baselines import training_mean
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of
from xtrimogene.tasks.perturbation.part_features import PartFeatures

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
    """A fitted predictor: the training effects and one row of dual weights for each."""

    kernel: Kernel
    strength: float
    train: Effects
    features: PartFeatures
    dual: Float[np.ndarray, "E M"]

    @classmethod
    def fit(cls, train: Effects, features: PartFeatures, kernel: Kernel, strength: float) -> "KernelRidge":
        return next(cls.path(train, features, kernel, (strength,)))

    @classmethod
    def path(
        cls, train: Effects, features: PartFeatures, kernel: Kernel, strengths: Sequence[float]
    ) -> Iterator["KernelRidge"]:
        """Fit at each strength; the kernel is decomposed once."""
        left = train.change - training_mean(train, train.perturbation.tolist())
        weight = np.sqrt(train.num_cells / train.num_cells.mean())[:, None]  # of an effect: how little noise it has
        gram = kernel_of(kernel, features, train, train.perturbation.tolist(), train.control[train.context])
        values, vectors = eigh(gram * weight * weight.T)
        turned = vectors.T @ (weight * left)
        for strength in strengths:
            dual = weight * (vectors @ (turned / (np.maximum(values, 0) + strength)[:, None]))
            yield cls(kernel=kernel, strength=strength, train=train, features=features, dual=dual)

    def predict(self, names: Sequence[str], control: Float[np.ndarray, "Q M"]) -> Float[np.ndarray, "Q M"]:
        """Return the change by each perturbation in a context of this mean control expression."""
        gram = kernel_of(self.kernel, self.features, self.train, names, control)
        return training_mean(self.train, names) + gram @ self.dual


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
