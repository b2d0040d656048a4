from pathlib import Path

import pytest

from xtrimogene.errors import ConfigError
from xtrimogene.serving.tokens import Tokens

TOKEN = "0123456789abcdef0123"


def test_a_token_names_its_holder(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"# who may ask\nlab {TOKEN}\n\nward {TOKEN[::-1]}\n")
    tokens = Tokens.read(tmp_path / "tokens")
    assert tokens.holder(f"Bearer {TOKEN}") == "lab"
    assert tokens.holder(f"bearer  {TOKEN[::-1]} ") == "ward"
    for wrong in (None, "", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}0", "Bearer ", "Bearer \u00fc"):
        assert tokens.holder(wrong) is None
    assert TOKEN not in repr(tokens)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no token"),
        ("lab\n", "Line 1"),
        ("# x\nlab short\n", "Line 2"),
        (f"lab {TOKEN}\nlab {TOKEN}\n", "Line 2"),
    ],
)
def test_a_file_of_anything_else_is_refused_without_a_token_in_the_message(
    tmp_path: Path, content: str, told: str
) -> None:
    (tmp_path / "tokens").write_text(content)
    with pytest.raises(ConfigError, match=told) as error:
        Tokens.read(tmp_path / "tokens")
    assert TOKEN not in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Tokens.read(tmp_path / "none")
