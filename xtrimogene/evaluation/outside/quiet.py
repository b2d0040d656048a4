"""What other libraries leave behind, kept to their calls: warnings, log lines, random state."""

import logging
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Silence what is imported and called inside, seed the random numbers it shares, and give them back after."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    disabled = logging.root.manager.disable
    shared, python = np.random.get_state(), random.getstate()
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        try:
            yield
        finally:
            logging.disable(disabled)
            root.handlers[:] = handlers  # celltypist adds one when it is imported
            root.setLevel(level)
            np.random.set_state(shared)
            random.setstate(python)
