import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.tasks.perturbation.names import all_parts, canonical, parts_of


def test_order_control_and_repeats_make_no_difference() -> None:
    assert canonical("TP53+KRAS", "ctrl") == canonical(" KRAS + TP53", "ctrl") == canonical("KRAS+KRAS+TP53", "ctrl")
    assert canonical("KRAS+ctrl", "ctrl") == "KRAS" and canonical("ctrl", "ctrl") == "ctrl"
    assert parts_of("B+A") == ("A", "B") and all_parts(["B+A", "C", "A"]) == ("A", "B", "C")


@pytest.mark.parametrize("name", ["", "KRAS+", "+", " "])
def test_a_name_without_a_part_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="names no perturbation"):
        parts_of(name)
