"""Lightning inside a program: without its greetings, and leaving Ctrl-C to whoever called."""

import logging
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# an outdated call of its own, few workers (our loaders hold the cells in memory), and a loader that it cannot rewind
# (ours begins at the trainer's step)
NOT_OURS = (".*LeafSpec", ".*does not have many workers", ".*dataloader is not resumable")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence what its users can do nothing about; a Ctrl-C inside is a KeyboardInterrupt, as elsewhere."""
    logger = logging.getLogger("lightning.pytorch")
    level, on_interrupt = logger.level, signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for message in NOT_OURS:
            warnings.filterwarnings("ignore", message)
        logger.setLevel(logging.WARNING)
        try:
            yield
        except SystemExit:  # Lightning's answer to Ctrl-C; it also leaves the process deaf to the next one
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        finally:
            logger.setLevel(level)
