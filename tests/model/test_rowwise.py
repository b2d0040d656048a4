import pytest
import torch
from torch import Tensor

from xtrimogene.model import rowwise as module
from xtrimogene.model.rowwise import rowwise


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each call, where 8 rows 3 wide are a share."""
    monkeypatch.setattr(module, "NUMBERS_A_THREAD", 24 // torch.get_num_threads())
    return []


def cumulative(x: Tensor, seen: list[int]) -> Tensor:
    seen.append(len(x))
    return x.cumsum(1)


@pytest.mark.parametrize(("num_rows", "shares"), [(0, [0]), (8, [8]), (9, [8, 1]), (20, [8, 8, 4])])
@torch.no_grad()
def test_shares_are_the_whole(num_rows: int, shares: list[int], seen: list[int]) -> None:
    x = torch.randn(num_rows, 3)
    assert torch.equal(rowwise(lambda rows: cumulative(rows, seen), x), x.cumsum(1))
    assert seen == shares


def test_what_needs_gradients_is_not_cut(seen: list[int]) -> None:
    x = torch.randn(20, 3, requires_grad=True)
    rowwise(lambda rows: cumulative(rows, seen), x).sum().backward()
    assert seen == [20] and torch.equal(x.grad, torch.tensor([3.0, 2.0, 1.0]).expand(20, 3))


@torch.no_grad()
def test_a_width_beyond_a_share_goes_row_by_row(seen: list[int]) -> None:
    x = torch.randn(3, 30)
    assert torch.equal(rowwise(lambda rows: cumulative(rows, seen), x), x.cumsum(1))
    assert seen == [1, 1, 1]
