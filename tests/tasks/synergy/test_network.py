"""The network cannot see the order of drugs, and one answers for single drugs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from xtrimogene.tasks.synergy.drug_graph import drug_graphs
from xtrimogene.tasks.synergy.network import ResponseNetwork

GRAPHS = drug_graphs(["CCO", "c1ccccc1", "CC(=O)N"])


def build(num_bits: int = 20, graph_layers: int = 0, cell_dim: int = 5, seed: int = 0) -> ResponseNetwork:
    torch.manual_seed(seed)
    made = ResponseNetwork(num_bits=num_bits, graph_layers=graph_layers, cell_dim=cell_dim, width=8, dropout=0.3)
    return made.eval()


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(0, 2), st.booleans(), st.sampled_from([0, 5]))
def test_the_order_of_two_drugs_says_nothing(seed: int, layers: int, has_bits: bool, cell_dim: int) -> None:
    num_bits = 20 if has_bits or not layers else 0
    network = build(num_bits, layers, cell_dim, seed)
    random = torch.Generator().manual_seed(seed)
    drugs = torch.randint(3, (9, 2), generator=random)
    lines = torch.randint(4, (9,), generator=random)
    inputs = torch.rand(3, num_bits, generator=random), GRAPHS, torch.randn(4, cell_dim, generator=random)
    assert torch.equal(network(drugs, lines, *inputs), network(drugs.flip(1), lines, *inputs))


@pytest.mark.parametrize("num_drugs", [1, 2])
def test_a_row_is_answered_by_its_own_drugs_and_line(num_drugs: int) -> None:
    network, bits, cells = build(), torch.rand(3, 20), torch.randn(4, 5)
    drugs, lines = torch.tensor([[0, 1], [2, 1], [0, 2]])[:, :num_drugs], torch.tensor([3, 0, 2])
    together = network(drugs, lines, bits, None, cells)
    assert together.shape == (3,) and len(together.unique()) == 3
    for row in range(3):
        torch.testing.assert_close(network(drugs[[row]], lines[[row]], bits, None, cells)[0], together[row])
    changed = cells.clone()
    changed[0] += 1
    moved = network(drugs, lines, bits, None, changed) != together
    np.testing.assert_array_equal(moved.numpy(), [False, True, False])


def test_a_row_costs_no_table_of_all_drugs_and_lines() -> None:
    """30,000 x 30,000 of width 8 would take 29 GB."""
    network, bits, cells = build(), torch.rand(30_000, 20), torch.randn(30_000, 5)
    drugs, lines = torch.tensor([[0, 29_999], [5, 7]]), torch.tensor([29_999, 3])
    alone = network(torch.tensor([[0, 1]]), torch.tensor([0]), bits[[0, 29_999]], None, cells[[29_999]])
    torch.testing.assert_close(network(drugs, lines, bits, None, cells)[:1], alone)


def test_without_a_line_all_lines_are_alike() -> None:
    network, drugs = build(cell_dim=0), torch.tensor([[0, 1], [0, 1]])
    answers = network(drugs, torch.tensor([0, 3]), torch.rand(3, 20), None, torch.zeros(4, 0))
    assert answers[0] == answers[1]
