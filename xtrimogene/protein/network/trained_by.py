"""What a model was trained by, as its card says; a network is of no use for what it never learned."""

from xtrimogene.errors import ConfigError
from xtrimogene.protein.config import Objective
from xtrimogene.protein.network.checkpoint import ProteinModel

OBJECTIVES: tuple[Objective, ...] = ("mlm", "clm", "span", "suffix")
CLM_ALONE: frozenset[Objective] = frozenset({"clm"})


def trained_by(model: ProteinModel) -> frozenset[Objective] | None:
    """Return the objectives of its last run; None where nothing is known."""
    stages = model.card.get("training", {}).get("stages", ())
    return frozenset(name for stage in stages for name in OBJECTIVES if stage.get(name, 0) > 0) or None


def reads_causally(model: ProteinModel) -> bool:
    """Return whether it never saw what follows a residue."""
    return trained_by(model) == CLM_ALONE


def require_objective(model: ProteinModel, objective: Objective, what: str) -> None:
    """Refuse a model that is known not to have learned this.

    Raises
    ------
    ConfigError
        It has not.
    """
    known = trained_by(model)
    if known is not None and objective not in known:
        raise ConfigError(
            f"{what} needs a model that was trained by {objective}, and {model.name!r} was trained by "
            f"{' and '.join(sorted(known))}; choose another method or model."
        )
