"""What every fitter asks of its points."""

import numpy as np
from jaxtyping import Float, Shaped

from xtrimogene.config import require


def check_points(least: int, **columns: Shaped[np.ndarray, "..."]) -> list[Float[np.ndarray, " P"]]:
    """Return the columns as float64.

    Raises
    ------
    ConfigError
        They are not vectors of one length, fewer than ``least`` long, or hold a value that is not positive and finite.
    """
    lengths = {name: np.shape(column) for name, column in columns.items()}
    first = next(iter(lengths.values()))
    require(
        len(first) == 1 and all(length == first for length in lengths.values()),
        f"one value a run is needed in each of {', '.join(lengths)}; got shapes {lengths}.",
    )
    require(first[0] >= least, f"{first[0]} points are too few to fit; at least {least} are needed.")
    arrays = [np.asarray(column, dtype=np.float64) for column in columns.values()]
    for name, values in zip(columns, arrays, strict=True):
        wrong = np.flatnonzero(~(np.isfinite(values) & (values > 0)))
        require(
            wrong.size == 0,
            f"{name} must be positive and finite; point {wrong[0] if wrong.size else 0} is "
            f"{values[wrong[0]] if wrong.size else 0:g}: leave such runs out.",
        )
    return arrays
