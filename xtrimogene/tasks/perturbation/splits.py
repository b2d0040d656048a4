"""Which effects are learned from and which are tested: unseen perturbations, combinations and contexts.

A split holds out whole perturbations or whole contexts, never cells. Rows are those of `Effects`.
"""

import numpy as np
from jaxtyping import Shaped

from xtrimogene.errors import ConfigError
from xtrimogene.evaluation.splits import Split
from xtrimogene.tasks.perturbation.effects import Effects
from xtrimogene.tasks.perturbation.names import parts_of


def unseen_perturbations(effects: Effects, *, num_folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Test every perturbation once, in all contexts, where no effect of one of its parts was learned from.

    Parts are dealt to folds. A combination is tested with its first part, its other part being seen or not, and is not
    learned from where any part of it is held out.

    Raises
    ------
    ConfigError
        Fewer parts than folds, or fewer than two folds.
    """
    parts = [parts_of(name) for name in effects.perturbation.tolist()]
    names = sorted(set().union(*parts))
    if not 2 <= num_folds <= len(names):
        raise ConfigError(
            f"{num_folds} folds are not possible with {len(names)} perturbed genes; give 2 to {len(names)}."
        )
    dealt = np.random.default_rng(seed).permutation(names).tolist()
    fold = {name: number % num_folds for number, name in enumerate(dealt)}
    first = np.array([fold[one[0]] for one in parts])
    splits = []
    for number in np.unique(first).tolist():
        hides = np.array([number in {fold[part] for part in one} for one in parts])
        splits.append(
            Split(
                name=f"perturbation: fold {number + 1}",
                train=np.flatnonzero(~hides),
                test=np.flatnonzero(first == number),
                grouping="perturbation",
            )
        )
    return tuple(splits)


def unseen_contexts(effects: Effects) -> tuple[Split, ...]:
    """Test every context once (a donor, replicate, cell type), with all of its effects held out.

    Raises
    ------
    ConfigError
        One context only.
    """
    there = np.unique(effects.context)
    if len(there) < 2:
        raise ConfigError("a held-out context needs another to learn from, and there is one; give group_key=.")
    return tuple(_hold_out(effects.context_names[k], effects.context == k, "context") for k in there.tolist())


def unseen_pairs(effects: Effects, *, num_folds: int = 5, seed: int = 0) -> tuple[Split, ...]:
    """Test every combination once that has all of its parts in effects of others; none where there are under five."""
    parts = {name: set(parts_of(name)) for name in effects.perturbation.tolist()}
    joined = [
        name
        for name, own in parts.items()
        if len(own) > 1 and own <= set().union(*(other for one, other in parts.items() if one != name))
    ]
    if len(joined) < num_folds:
        return ()
    dealt = np.random.default_rng(seed).permutation(sorted(joined))
    return tuple(
        _hold_out(f"fold {k + 1}", np.isin(effects.perturbation, dealt[k::num_folds]), "combination")
        for k in range(num_folds)
    )


def unseen_combinations(effects: Effects, *, num_seen: int, share: float = 0.25, seed: int = 0) -> Split:
    """Hold out combinations, ``num_seen`` (0, 1 or 2) of whose two parts are learned from in some other effect.

    A random ``share`` of the parts is never learned from, alone or combined; with ``num_seen=2`` instead, that share
    of the pairs whose both parts remain. Effects that neither train nor test are left out.

    Raises
    ------
    ConfigError
        ``num_seen`` is none of these, or no combination is left to test.
    """
    if num_seen not in (0, 1, 2):
        raise ConfigError(f"num_seen={num_seen} of the two parts is none of 0, 1 and 2.")
    random = np.random.default_rng(seed)
    parts = [set(parts_of(name)) for name in effects.perturbation.tolist()]
    pairs = sorted({"+".join(sorted(one)) for one in parts if len(one) == 2})
    if num_seen == 2:
        chosen = set(random.permutation(pairs)[: max(1, round(share * len(pairs)))].tolist()) if pairs else set()
        test = np.isin(effects.perturbation, list(chosen))
        hidden: set[str] = set()
    else:
        single = sorted(set().union(*parts))
        hidden = set(random.permutation(single)[: max(2, round(share * len(single)))].tolist())
        test = np.array([len(one) == 2 and len(one & hidden) == 2 - num_seen for one in parts])
    train = np.array([not one & hidden for one in parts]) & ~test
    if not test.any() or not train.any():
        raise ConfigError(f"no combination with {num_seen} seen parts can be held out of these effects.")
    name = f"{num_seen} of 2 seen"
    return Split(name=name, train=np.flatnonzero(train), test=np.flatnonzero(test), grouping="combination")


def _hold_out(name: str, test: Shaped[np.ndarray, " E"], grouping: str) -> Split:
    return Split(name=f"{grouping}: {name}", train=np.flatnonzero(~test), test=np.flatnonzero(test), grouping=grouping)
