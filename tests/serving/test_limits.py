import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.serving.limits import Limits


def test_what_is_not_positive_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_cells=0 must be positive"):
        Limits(max_cells=0)


def test_a_request_that_is_alone_finds_a_place() -> None:
    Limits(max_body_bytes=3, max_decoded_bytes=5, max_waiting_bytes=8)
    with pytest.raises(ConfigError, match="would find no place even alone"):
        Limits(max_body_bytes=4, max_decoded_bytes=5, max_waiting_bytes=8)
