"""The three lifts hand a rule the same things in the same order: the gradient, the parameter, its memory, h."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.treewise import treewise

W = {"w": jnp.arange(6.0).reshape(2, 3), "v": 2 + jnp.arange(6.0).reshape(2, 3), "u": jnp.ones((3, 2))}


class Sum(NamedTuple):
    count: Any
    total: Any


def rule(g, p, total, h):
    """Half of the parameter, if there is one, and the sum of the gradients."""
    return g + (0 if p is None else h.half * p), total + g


def lifted(lift, **options):
    hypers = {"half": (0.5, jo.errors.FINITE)}
    init = (lambda shape, dtype: (jnp.zeros(shape, dtype),)) if lift is matrixwise else lambda p: (jnp.zeros_like(p),)
    return lift("mine", Sum, init=init, rule=rule, hypers=hypers, **options)


@pytest.mark.parametrize("lift", [jo.leafwise, treewise, matrixwise])
@pytest.mark.parametrize("needs_params", [True, False])
def test_one_rule_is_the_same_in_every_lift(lift, needs_params):
    opt = lifted(lift, needs_params=needs_params)
    g = jax.tree.map(lambda x: 3 * x, W)
    u, state = jax.jit(opt.update)(g, opt.init(W), W)
    jax.tree.map(lambda u, x: np.testing.assert_array_equal(u, (3.5 if needs_params else 3.0) * x), u, W)
    jax.tree.map(np.testing.assert_array_equal, state.total, g)
    assert state.count == 1
    if needs_params:
        with pytest.raises(jo.errors.MissingArgumentError, match="mine"):
            opt.update(g, opt.init(W))


class Counted(NamedTuple):
    count: Any
    calls: Any
    first: Any


@pytest.mark.parametrize("lift", [jo.leafwise, matrixwise])
@pytest.mark.parametrize("leaves", [1, 20])  # few and many: scalars go one by one, or in a table
@pytest.mark.parametrize("traced", [True, False])
def test_integers_truth_values_and_keys_stay_what_they_are(lift, leaves, traced):
    seen = []

    def shared(t, h):
        key = jax.random.fold_in(jax.random.key(0), t)
        return {"calls": h.calls + 1, "first": jnp.zeros_like(h.first), "was": h.first, "key": key, "low": h.rate / 2}

    def rule(g, p, h):
        seen.append((str(h.calls.dtype), str(h.was.dtype), str(h.low.dtype)))
        return (jnp.where(h.was, g, h.calls.astype(g.dtype) * g) + 0 * jax.random.normal(h.key, g.shape, g.dtype),)

    options = {"hypers": {"rate": (0.5, jo.errors.FINITE)}, "scalars": {"calls": 0, "first": True}}
    init = (lambda shape, dtype: ()) if lift is matrixwise else lambda p: ()
    opt = lift("mine", Counted, init=init, rule=rule, shared=shared, **options)
    g = [jnp.ones((2, 2))] * leaves
    update = jax.jit(opt.update) if traced else opt.update
    u, state = update(g, opt.init(g))
    np.testing.assert_array_equal(u[-1], 1.0)
    u, state = update(g, state)
    np.testing.assert_array_equal(u[-1], 2.0)
    assert set(seen) == {("int32", "bool", "float32")}
    assert (state.calls, state.calls.dtype, state.first.dtype) == (2, jnp.int32, bool)
