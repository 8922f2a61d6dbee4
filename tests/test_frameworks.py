"""Pairs made elsewhere inside ours, ours inside optax, flax, nnx and equinox; a state through orbax in mid-run."""

import sys
import warnings

import equinox as eqx
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import jaxopt_ko as jo
from cases import assert_close, assert_same_bits, descend, every, loss, params_like, whole

X = jax.random.normal(jax.random.key(0), (16, 3))
Y = X @ jnp.array([[1.0], [-2.0], [0.5]])


@pytest.fixture(autouse=True)
def standard_promotion():
    """The frameworks' own code is not written for strict promotion."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def run(opt, steps=5):
    params = params_like()
    step = jax.jit(lambda c: descend(opt)(c)[0])
    carry = (params, opt.init(params))
    for _ in range(steps):
        carry = step(carry)
    return carry[0]


def test_optax_pairs_work_in_our_combinators():
    expected = run(optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.scale(-0.1)))
    for opt in (
        jo.chain(optax.clip_by_global_norm(1.0), jo.scale_by_adam(), optax.scale(-0.1)),
        jo.chain(jo.clip_by_global_norm(1.0), optax.scale_by_adam(), jo.scale_by_learning_rate(0.1)),
        optax.chain(jo.clip_by_global_norm(1.0), jo.adam(0.1)),
        jo.named_chain(("clip", jo.clip_by_global_norm(1.0)), ("adam", optax.adam(0.1))),
        jo.chain(jo.masked(optax.clip_by_global_norm(1.0), True), jo.adam(0.1)),
        jo.chain(optax.clip_by_global_norm(1.0), jo.partition({"all": optax.adam(0.1)}, "all")),
        jo.chain(jo.clip_by_global_norm(1.0), jo.inject_hyperparams(optax.adam)(0.1)),
        jo.chain(jo.clip_by_global_norm(1.0), jo.apply_if_finite(optax.adam(0.1), 3)),
        jo.MultiSteps(optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)), 1),
        jo.masked(optax.chain(jo.clip_by_global_norm(1.0), optax.adam(0.1)), True),
        optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(jo.adam)(0.1)),
    ):
        assert_close(run(opt), expected, rtol=1e-4, atol=1e-5)  # optax's 1 - b2**t has four digits in float32


def test_ours_inside_optax_wrappers():
    expected = run(jo.adam(0.1))
    assert_close(run(optax.apply_if_finite(jo.adam(0.1), 3)), expected)
    assert_close(run(optax.masked(jo.adam(0.1), True)), expected)
    assert_close(run(optax.MultiSteps(jo.adam(0.1), 1)), expected)


def test_raw_pairs_of_a_user():
    halve = jo.GradientTransformation(lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda x: x / 2, g), s))
    bare = (lambda p: (), lambda g, s: (jax.tree.map(lambda x: x * 2, g), s))  # neither class nor params
    g = {"w": jnp.ones(2)}
    opt = jo.chain(halve, bare, jo.sgd(1.0), bare)
    u, _ = opt.update(g, opt.init(g), g, value=3.0)
    np.testing.assert_allclose(u["w"], -2.0)


def test_extra_arguments_reach_whoever_takes_them():
    seen = {}

    def everything(g, s, p=None, **extra):
        seen["everything"] = set(extra)
        return g, s

    def value_only(g, s, p=None, *, value):
        seen["value"] = value
        return g, s

    pairs = [jo.GradientTransformation(lambda p: (), f) for f in (everything, value_only)]
    backtracking = optax.scale_by_backtracking_linesearch(5)
    opt = jo.chain(jo.clip(1.0), *pairs, jo.masked(pairs[0], True), jo.sgd(0.1), backtracking)
    p = {"w": jnp.ones(2)}
    f = lambda p, batch=None: jnp.sum(p["w"] ** 2)  # noqa: E731
    opt.update(p, opt.init(p), p, value=f(p), grad=p, value_fn=f, batch=None)
    assert seen == {"everything": {"value", "grad", "value_fn", "batch"}, "value": 2.0}


def test_to_optax_gives_the_classes_that_optax_asks_for():
    user = jo.GradientTransformation(lambda p: (), lambda g, s, p=None: (jax.tree.map(lambda x: -x / 2, g), s))
    inner = jo.chain(jo.clip_by_global_norm(1.0), jo.masked(jo.adam(0.1), True))
    tx = jo.to_optax(inner)
    assert type(tx) is optax.GradientTransformationExtraArgs
    assert type(jo.to_optax(user)) is optax.GradientTransformation
    theirs = optax.adam(0.1)
    assert jo.to_optax(theirs) is theirs
    params = params_like()
    state = tx.init(params)
    assert isinstance(state[0], optax.EmptyState) and isinstance(state[1], optax.MaskedState)
    assert isinstance(state[1].inner_state[0], optax.ScaleByAdamState)
    step = jax.jit(tx.update)
    updates, new = step(params, state, params, value=1.0)
    assert jax.tree.structure(new) == jax.tree.structure(state)
    expected, ours = jax.jit(inner.update)(params, inner.init(params), params)
    assert_close(updates, expected)
    assert_close(step(params, ours, params)[0], step(params, new, params)[0])  # a state of either library
    with pytest.raises(TypeError):
        jo.to_optax(user).update(params, (), params, value=1.0)
    assert_close(run(optax.chain(jo.to_optax(user))), run(user))
    assert_close(run(optax.apply_if_finite(tx, 2)), run(inner))
    assert_close(run(jo.MultiSteps(jo.to_optax(jo.sgd(0.1, 0.9)), 1)), run(jo.sgd(0.1, 0.9)))
    named = optax.tree_map_params(tx, lambda _: "like the parameters", new)
    assert named == optax.tree_map_params(inner, lambda _: "like the parameters", ours)
    assert set(jax.tree.leaves(named[1].inner_state[0].mu)) == {"like the parameters"}
    with pytest.raises(jo.errors.TransformationError, match="to_optax: tx is the function adam"):
        jo.to_optax(jo.adam)


def test_to_optax_says_that_optax_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    with pytest.raises(ImportError, match=r"to_optax: it needs optax.*pip install optax"):
        jo.to_optax(jo.adam(0.1))


def test_flax_train_state():
    state = TrainState.create(apply_fn=None, params=params_like(), tx=jo.adam(0.1))
    step = jax.jit(lambda s: s.apply_gradients(grads=jax.grad(loss)(s.params)))
    for _ in range(5):
        state = step(state)
    assert_close(state.params, run(jo.adam(0.1)))


def test_nnx_optimizer():
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, jo.adamw(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        value, grads = nnx.value_and_grad(lambda m: jnp.mean((m(X) - Y) ** 2))(model)
        optimizer.update(model, grads)
        return value

    values = [float(step(model, optimizer)) for _ in range(100)]
    assert values[-1] < 0.05 * values[0]


def test_equinox_loop():
    model = eqx.nn.MLP(3, 1, 8, 1, key=jax.random.key(1))  # holds activation functions among its leaves
    opt = jo.adamw(0.02)
    state = opt.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state):
        value, grads = eqx.filter_value_and_grad(lambda m: jnp.mean((jax.vmap(m)(X) - Y) ** 2))(model)
        updates, state = opt.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        whole_model, _ = opt.update(grads, state, model)  # the unfiltered model is understood, too
        assert jax.tree.structure(whole_model) == jax.tree.structure(updates)
        return eqx.apply_updates(model, updates), state, value

    values = []
    for _ in range(100):
        model, state, value = step(model, state)
        values.append(float(value))
    assert values[-1] < 0.05 * values[0]
    with pytest.raises(jo.errors.TreeError, match=r"activation.*masked"):
        opt.init(model)


@every("checkpoint", lambda c: c.name in ("adamw", "nadam-schedule", "partition", "inject_hyperparams", "add_noise"))
def test_orbax_saves_and_restores_in_mid_run(case, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import orbax.checkpoint as ocp

        opt, params = whole(case), params_like()
        step = jax.jit(lambda c: descend(opt)(c)[0])
        middle = step(step((params, opt.init(params))))
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "mid", middle)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / "mid", jax.eval_shape(lambda: middle))
    assert_same_bits(step(restored), step(middle))
