"""Checks of values: silent on good steps, precise on bad ones, absent when switched off."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cases import assert_rounded
from jaxopt_ko.analysis import debug
from jaxopt_ko.training import data, fit
from jaxopt_ko.types import GradientTransformation

PARAMS = {"w": jnp.ones(3), "b": {"{x}": jnp.ones(())}}
GOOD = jax.tree.map(lambda p: 0.1 * p, PARAMS)


class SquaresState(NamedTuple):
    count: jax.Array
    nu: dict


def squares(lr=0.1):
    def init(params):
        return SquaresState(jnp.zeros((), jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def scale_by_squares(grads, state, params=None):
        nu = jax.tree.map(lambda v, g: 0.9 * v + 0.1 * g * g, state.nu, grads)
        steps = jax.tree.map(lambda g, v: -lr * g / (jnp.sqrt(v) + 1e-8), grads, nu)
        return steps, SquaresState(state.count + 1, nu)

    return GradientTransformation(init, scale_by_squares)


def with_bad(tree, leaf, value):
    return {**tree, leaf: jax.tree.map(lambda x: jnp.full_like(x, value), tree[leaf])}


checked = debug.check_values(squares())
run = debug.raise_on_bad_values(jax.jit(checked.update))


def call(how, grads, state):
    return (run if how == "jit" else checked.update)(grads, state, PARAMS)


def test_off_is_the_thing_itself():
    plain = squares()
    off = debug.check_values(plain, enabled=False)
    assert off is plain
    state = plain.init(PARAMS)
    jaxprs = [str(jax.make_jaxpr(pair.update)(GOOD, state, PARAMS)) for pair in (plain, off)]
    assert jaxprs[0] == jaxprs[1]
    assert debug.raise_on_bad_values(plain.update, enabled=False) is plain.update


@pytest.mark.rounding
def test_on_changes_neither_values_nor_the_state():
    plain = squares()
    state = checked.init(PARAMS)
    assert jax.tree.structure(state) == jax.tree.structure(plain.init(PARAMS))
    got, want = run(GOOD, state, PARAMS), jax.jit(plain.update)(GOOD, state, PARAMS)
    assert_rounded(got, want)


@pytest.mark.parametrize("how", ["eager", "jit"])
@pytest.mark.parametrize(
    ("grads", "nu", "words"),
    [
        (with_bad(GOOD, "w", np.nan), 0.0, r"scale_by_squares: the gradients leaf \['w'\] .*3 bad of 3.*overflow"),
        (with_bad(GOOD, "b", np.inf), 0.0, r"the gradients leaf \['b'\]\['\{x\}'\] must be finite"),
        (GOOD, -1.0, r"scale_by_squares: the updates leaf \['b'\]\['\{x\}'\] .*1 bad of 1.*learning rate"),
    ],
)
def test_bad_gradients_and_updates(how, grads, nu, words):
    state = jax.tree.map(lambda x: jnp.full_like(x, nu) if x.dtype == jnp.float32 else x, checked.init(PARAMS))
    with pytest.raises(AssertionError, match=words):
        call(how, grads, state)


def state_class(field):
    return NamedTuple("State", [("mu", dict), (field, dict)])


def keeping(cls):
    """A rule that keeps its state; only what is in it matters."""

    def keep(grads, state, params=None):
        return grads, state

    return GradientTransformation(lambda params: cls(params, params), keep)


@pytest.mark.parametrize("field", sorted(debug.SECOND_MOMENTS))
def test_every_field_of_squares_at_any_depth(field):
    cls = state_class(field)
    pair = debug.check_values(keeping(cls))
    good = {"outer": (cls(with_bad(PARAMS, "w", -1.0), PARAMS),)}  # mu may be negative
    pair.update(GOOD, good, PARAMS)
    for value in (-1.0, np.nan):
        bad = {"outer": (cls(PARAMS, with_bad(PARAMS, "w", value)),)}
        with pytest.raises(AssertionError, match=rf"\['outer'\]\[0\]\.{field}\['w'\] must be >= 0.*3 bad of 3"):
            pair.update(GOOD, bad, PARAMS)


def test_a_parameter_called_nu_is_no_moment():
    class Params(NamedTuple):
        mu: jax.Array
        nu: jax.Array

    params = Params(jnp.ones(2), -jnp.ones(2))
    optimizer = debug.check_values(optax.sgd(0.1, momentum=0.9))
    optimizer.update(params, optimizer.init(params), params)


def quadratic(params, batch):
    return jnp.sum(jnp.square(params - batch[0]))


def test_inside_a_whole_run_scanned_and_mapped():
    traces = []

    def train(lr):
        traces.append(1)
        return fit.fit(
            quadratic, jnp.ones(2), debug.check_values(squares(lr)), jnp.zeros((4, 2)), data.stochastic(4),
            key=jax.random.key(0), epochs=2, progress=lambda *_: None,
        ).params  # fmt: skip

    run = debug.raise_on_bad_values(jax.jit(jax.vmap(train)))
    assert np.all(np.isfinite(run(jnp.array([0.1, 0.2]))))
    with pytest.raises(AssertionError, match=r"scale_by_squares: the updates leaf \(root\)"):
        run(jnp.array([0.1, np.inf]))
    assert len(traces) == 1


def test_a_compiled_step_that_cannot_raise_says_so():
    with pytest.raises(RuntimeError, match="raise_on_bad_values"):
        jax.jit(debug.check_values(squares()).update)(GOOD, checked.init(PARAMS), PARAMS)
    step = jax.jit(checked.update)
    debug.raise_on_bad_values(step)(GOOD, checked.init(PARAMS), PARAMS)
    if hasattr(jax, "make_user_context"):
        with pytest.raises(RuntimeError, match="raise_on_bad_values"):  # not with what was traced before
            step(GOOD, checked.init(PARAMS), PARAMS)
    with pytest.raises(RuntimeError, match="outermost"):
        jax.jit(debug.raise_on_bad_values(checked.update))(GOOD, checked.init(PARAMS), PARAMS)


def test_nothing_is_said_at_the_end_of_a_program():
    program = """
import jax, jax.numpy as jnp, jaxopt_ko as jo
opt = jo.debug.check_values(jo.sgd(0.5))
step = jo.debug.raise_on_bad_values(jax.jit(lambda g: opt.update(g, opt.init(g))[0]))
print(step(jnp.ones(2)).tolist())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "[-0.5, -0.5]\n" and not done.stderr


def test_what_is_no_transformation_is_refused():
    with pytest.raises(TypeError, match=r"check_values.*without its call"):
        debug.check_values(optax.adam)
