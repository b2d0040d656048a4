"""Lightning as a guest: silent about itself, and Ctrl-C is the caller's."""

import logging
import signal
import warnings

import pytest

from xtrimogene.training.quiet_lightning import quiet_lightning


def test_it_is_silent_about_itself_alone(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning.pytorch")
    before = logger.level
    with warnings.catch_warnings(record=True) as caught, quiet_lightning():
        warnings.simplefilter("default")
        for message in ("The 'train_dataloader' does not have many workers", "loss is NaN"):
            with quiet_lightning():
                warnings.warn(message, UserWarning, stacklevel=1)
        logger.info("GPU available: False")
        logger.warning("out of memory")
    assert [str(one.message) for one in caught] == ["loss is NaN"]
    assert "out of memory" in caplog.text and "GPU" not in caplog.text
    assert logger.level == before


def test_ctrl_c_comes_through() -> None:
    answer = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), quiet_lightning():
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as Lightning does before it exits
        raise SystemExit(1)
    assert signal.getsignal(signal.SIGINT) is answer
