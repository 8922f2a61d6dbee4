"""Budgets of what a compiled step on eight devices exchanges, and of the state on each of them."""

import sys
from pathlib import Path

import jax
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "benchmarks"))
import mesh_cost

OURS = ("ours, automatic", "ours, explicit")


@pytest.fixture(scope="module")
def optax_adamw():
    with jax.numpy_dtype_promotion("standard"):  # optax needs it
        return mesh_cost.cost("clip + adamw", "optax", width=32)


@pytest.mark.parametrize("layout", OURS)
def test_a_clip_and_adamw_exchange_once_as_with_optax(layout, optax_adamw):
    """For the norm, at most two numbers a leaf; optax's exchange is of one a leaf, and its norm may overflow."""
    found = mesh_cost.cost("clip + adamw", layout, width=32)
    assert found.collectives == 1 <= optax_adamw.collectives
    assert found.moved <= 2 * optax_adamw.moved < 0.001
    assert found.state <= 1.001


@pytest.mark.parametrize("layout", OURS)
def test_muon_on_48_matrices(layout):
    """Each stack is exchanged once, and once back."""
    found = mesh_cost.cost("muon", layout, width=32)
    assert 0 < found.collectives <= 16
    assert 0 < found.moved <= 0.5
    assert found.state <= 1.001


@pytest.mark.parametrize("layout", OURS)
@pytest.mark.parametrize(("method", "most"), [("shampoo", 48), ("soap", 64)])
def test_factors_and_bases_are_cut_as_finely_as_the_parameters(method, most, layout):
    found = mesh_cost.cost(method, layout, width=32, layers=1)
    assert found.collectives <= most
    assert found.state <= 1.001
