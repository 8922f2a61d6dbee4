"""Batch normalization beside torch's recorded layers; over devices and vmap's lanes; masks; derivatives; refusals."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from references import record_batch_norm as record
from references.record_batch_norm import CASES, FIELDS, INPUTS, PULLS, START, STEPS

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, StateError, TreeError

X = np.random.RandomState(3).normal(2.0, 3.0, (8, 3)).astype(np.float32)
NORM = jo.batch_norm(momentum=0.25)
near = functools.partial(np.testing.assert_allclose, rtol=2e-6, atol=2e-6)


@functools.partial(jax.jit, static_argnames=("norm", "features"))
def once(norm, x, weights=None, features=3):
    """One step of training from the start."""
    return norm.apply(*norm.init(features), x, train=True, weights=weights)


def same(got, want, **tolerance):
    jax.tree.map(functools.partial(near, **tolerance), got, want)


# ---- torch ----------------------------------------------------------------------------------------------


def walk(name, dtype):
    """What `record_batch_norm` records, by a scan of training steps and one evaluation."""
    norm = jo.batch_norm(**CASES[name].options, feature_axis=1)
    params, state = norm.init(3, dtype)
    if params.scale is not None:
        params = jo.BatchNormParams(*(START[key].astype(dtype) for key in START))

    def loss(params, x, state, pull, train):
        y, state = norm.apply(params, state, x, train=train)
        return jnp.sum(y * y * pull) / 2, (y, state)

    def step(carry, batch, train=True):
        params, state = carry
        x, pull = batch
        grads, (y, state) = jax.grad(loss, (0, 1), has_aux=True)(params, x, state, pull, train)
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, grads[0])
        nothing = jnp.zeros(0, dtype)
        by_params = [nothing if g is None else g for g in grads[0]]
        return (params, state), dict(zip(FIELDS, (y, grads[1], *by_params, state.mean, state.var), strict=True))

    @jax.jit
    def run(carry, xs, last):
        carry, rows = jax.lax.scan(step, carry, xs)
        carry, row = step(carry, last, train=False)
        return jax.tree.map(lambda many, one: jnp.concatenate([many, one[None]]), rows, row), carry[1].count

    batches = INPUTS[name].astype(dtype), PULLS[name].astype(dtype)
    return run((params, state), tuple(x[:STEPS] for x in batches), tuple(x[STEPS] for x in batches))


@pytest.mark.parametrize("name", CASES)
def test_torch_in_double_precision(name, x64):
    rows, count = walk(name, np.float64)
    for field, want in record.recorded(name).items():
        assert rows[field].dtype == np.float64
        np.testing.assert_allclose(rows[field], want, rtol=1e-12, atol=1e-13, err_msg=field)
    assert count == STEPS


@pytest.mark.parametrize("name", ["defaults", "images"])
def test_torch_in_single_precision(name):
    rows, _ = walk(name, np.float32)
    for field, want in record.recorded(name).items():
        np.testing.assert_allclose(rows[field], want, rtol=1e-6, atol=1e-6 * np.max(np.abs(want)), err_msg=field)


def test_momentum_eps_and_their_defaults_are_torchs():
    defaults = {key: p.default for key, p in inspect.signature(jo.batch_norm).parameters.items()}
    assert (defaults["momentum"], defaults["eps"], defaults["affine"]) == (0.1, 1e-5, True)


# ---- all at once, in parts, and with weights ------------------------------------------------------------


SCALE = np.array([1.0, 0.5, -2.0], np.float32)


def whole(x, weights=None, norm=NORM):
    """y, the new state and the gradients of one training step, of the mean of something over all examples."""
    params, state = norm.init(3)

    def loss(params, x, weights):
        y, new = norm.apply(params, state, x, train=True, weights=weights)
        return jnp.mean(jnp.sin(y)), (y, new)

    grads, (y, new) = jax.grad(loss, (0, 1), has_aux=True)(params._replace(scale=SCALE), x, weights)
    return y, new, *grads


@pytest.mark.parametrize("axes", ["i", ("i", "j")])
def test_lanes_are_one_batch(axes):
    names = axes if isinstance(axes, tuple) else (axes,)
    lanes = functools.partial(whole, norm=jo.batch_norm(momentum=0.25, axis_name=axes))
    for axis in reversed(names):
        lanes = jax.vmap(lanes, axis_name=axis)
    y, state, by_params, by_x = jax.jit(lanes)(X.reshape(*(4, 2)[: len(names)], -1, 3))
    want_y, want_state, want_by_params, want_by_x = jax.jit(whole)(X)
    n = 4 ** len(names) // (1, 2)[len(names) - 1]  # each lane's loss is the mean of its own examples
    same(y.reshape(X.shape), want_y)
    same(state.var.reshape(n, 3), np.tile(want_state.var, (n, 1)))
    same(state.mean.reshape(n, 3), np.tile(want_state.mean, (n, 1)))
    same(by_x.reshape(X.shape) / n, want_by_x)
    same([g.reshape(n, 3).mean(0) for g in by_params], [*want_by_params])


def test_devices_are_one_batch():
    norm = jo.batch_norm(momentum=0.25, axis_name="i")
    params, state = norm.init(3)
    mesh = jax.make_mesh((4,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=(P(), P("i")), out_specs=(P("i"), P(), P()))
    def sharded(state, x):  # out_specs P(): the state and the gradient are the same on each device, provably
        def loss(params):
            y, new = norm.apply(params, state, x, train=True)
            return jax.lax.pmean(jnp.mean(jnp.sin(y)), "i"), (y, new)

        grads, (y, new) = jax.grad(loss, has_aux=True)(params._replace(scale=SCALE))
        return y, new, grads

    y, new, by_params, _ = jax.jit(whole)(X)
    same(sharded(state, X), (y, new, by_params))
    text = sharded.lower(state, X).as_text()
    assert text.count("all_reduce") == 2 + 3, "two for the statistics, one for the loss, two for the gradient"
    y_parts, new_parts, *_ = jax.pmap(functools.partial(whole, norm=norm), axis_name="i")(X.reshape(4, 2, 3))
    same((y_parts.reshape(X.shape), jax.tree.map(lambda s: s[2], new_parts)), (y, new))


def test_one_example_a_lane_is_a_batch_over_lanes():
    norm = jo.batch_norm(momentum=0.25, axis_name="batch")
    each = jax.jit(jax.vmap(functools.partial(once, norm), out_axes=(0, None), axis_name="batch"))
    same(each(X), once(NORM, X))


@pytest.mark.parametrize("kind", [bool, np.int32, np.float32, "bfloat16"])
def test_weights_count_examples_and_padding_spoils_nothing(kind):
    weights = np.array([1, 0, 1, 1, 0, 1, 1, 1])
    padded = np.where(weights[:, None] > 0, X, np.array([np.nan, np.inf, 7.0], np.float32))
    rows = np.flatnonzero(weights)

    @jax.jit
    def step(x, weights):
        def loss(x):
            y, new = NORM.apply(*NORM.init(3), x, train=True, weights=weights)
            return jnp.sum(jnp.where(jnp.asarray(weights, bool)[:, None], jnp.sin(y), 0.0)), (y, new)

        return jax.grad(loss, has_aux=True)(x)

    by_x, (y, state) = step(padded, weights.astype(kind))
    want_by_x, (want_y, want_state) = step(X[rows], np.ones(6, np.float32))
    same((y[rows], state), (want_y, want_state))
    same(by_x[rows], want_by_x)
    assert not np.any(by_x[weights == 0])
    assert np.all(np.isfinite(y))


def test_weights_are_frequencies_and_those_of_lanes_add_up():
    weights = np.array([2, 0, 1, 3, 0, 0, 1, 1], np.float32)
    _, want = once(NORM, np.repeat(X, weights.astype(int), axis=0))
    channels_first = X.reshape(2, 4, 3).transpose(0, 2, 1)
    same(once(jo.batch_norm(momentum=0.25, feature_axis=1), channels_first, weights.reshape(2, 1, 4))[1], want)
    norm = jo.batch_norm(momentum=0.25, axis_name="i")
    lanes = jax.jit(jax.vmap(functools.partial(once, norm), out_axes=(0, None), axis_name="i"))
    same(lanes(X.reshape(4, 2, 3), weights.reshape(4, 2))[1], want)
    # one weight for a sequence is one for each of its steps
    sequences = X.reshape(4, 2, 3)
    same(once(NORM, sequences, np.array([0.0, 1, 1, 1], np.float32))[1], once(NORM, sequences[1:])[1])


def test_a_batch_without_statistics_changes_no_state():
    params, _ = NORM.init(3)
    state = jo.BatchNormState(jnp.int32(4), jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 4.0, 9.0]))
    evaluated, _ = NORM.apply(params, state, X, train=False)

    @jax.jit
    def step(x, weights=None):
        y, new = NORM.apply(params, state, x, train=True, weights=weights)
        return jnp.sum(y**2), (y, new)

    for weights in (np.zeros(8, bool), np.arange(8) == 2):
        by_x, (y, kept) = jax.grad(step, has_aux=True)(X, weights)
        same((y, kept), (evaluated, state))
        near(by_x, 2 * evaluated / np.sqrt([[1.0, 4.0, 9.0]]), rtol=2e-5)
    for bad in (np.nan, np.inf):
        _, (y, kept) = step(np.r_[X[:7], np.full((1, 3), bad, np.float32)])
        same(kept, state)
        assert np.all(np.isnan(y[-1]))  # and the loss shows it


# ---- precision, axes, hyperparameters -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_statistics_of_half_precision_are_float32(dtype):
    x = (100 + X).astype(dtype)
    params, state = NORM.init(3, dtype)
    step = jax.jit(functools.partial(NORM.apply, train=True))
    y, new = step(params, state, x)
    assert y.dtype == params.scale.dtype == dtype
    assert {leaf.dtype for leaf in new[1:]} == {np.dtype("float32")}
    want, state = once(NORM, x.astype(np.float32))
    same(new, state)
    np.testing.assert_array_equal(y, want.astype(dtype))
    assert step(params, new, x)[1].var.dtype == np.float32
    grads = jax.grad(lambda p: jnp.sum(NORM.apply(p, new, x, train=False)[0].astype(np.float32)))(params)
    assert grads.scale.dtype == dtype


def test_features_far_from_zero_lose_no_digits(x64):
    x = (1e5 + np.random.RandomState(0).uniform(-1, 1, (64, 3))).astype(np.float32)
    exact = x.astype(np.float64) - x.mean(0, np.float64)
    for weights in (None, np.ones(64, bool)):
        y, state = once(NORM, x, weights)
        assert y.dtype == np.float32
        np.testing.assert_allclose(y, exact / np.sqrt(np.mean(exact**2, 0) + 1e-5), atol=2e-6)
        np.testing.assert_allclose(state.var, 0.75 + 0.25 * exact.var(0, ddof=1), rtol=1e-6)


def test_a_constant_feature_is_its_offset():
    x = np.stack([X[:, 0], np.zeros(8), np.full(8, 0.5)], axis=1).astype(np.float32)
    for eps, slope in ((0.0, 0.0), (1e-4, 100.0)):
        norm = jo.batch_norm(eps=eps)
        for weights in (None, np.ones(8, bool)):
            pull = np.arange(8.0, dtype=np.float32) - 3.5
            y, pulled = jax.vjp(lambda x, norm=norm, w=weights: once(norm, x, w)[0], x)
            assert not np.any(y[:, 1:])
            near(pulled(np.tile(pull[:, None], (1, 3)))[0][:, 1:], np.tile(slope * pull[:, None], (1, 2)), rtol=1e-5)


def test_any_axes_keep_their_statistics():
    x = np.random.RandomState(1).normal(size=(4, 3, 2, 5)).astype(np.float32)
    for axis, features in ((1, 3), (-1, 5), (-3, 3), ((1, 2), (3, 2)), ((-1, 1), (3, 5)), ((1, 2, 3), (3, 2, 5))):
        norm = jo.batch_norm(feature_axis=axis, eps=0.0, momentum=1.0)
        y, state = once(norm, x, features=features)
        kept = [a % 4 for a in (axis if isinstance(axis, tuple) else (axis,))]
        over = tuple(a for a in range(4) if a not in kept)
        np.testing.assert_allclose(y, (x - x.mean(over, keepdims=True)) / x.std(over, keepdims=True), atol=3e-6)
        np.testing.assert_allclose(state.mean, x.mean(over), atol=1e-6)
        np.testing.assert_allclose(state.var, x.var(over, ddof=1), rtol=1e-5)
    norm = jo.batch_norm(feature_axis=(), momentum=1.0)
    np.testing.assert_allclose(once(norm, x, features=())[1].var, x.var(ddof=1), rtol=1e-5)


def test_momentum_is_a_number_traced_or_scheduled():
    def state_after(momentum):
        norm = jo.batch_norm(momentum=momentum)
        params, state = norm.init(3)
        xs = X.reshape(4, 2, 3)
        return jax.lax.scan(lambda s, x: norm.apply(params, s, x, train=True)[::-1], state, xs)[0]

    def total(momentum):
        return jnp.sum(state_after(momentum).mean)

    cumulative, scheduled, plain, traced, slope = jax.jit(
        lambda a: (
            state_after(None),
            state_after(lambda t: 1 / (t + 1)),
            state_after(0.6),
            jax.vmap(state_after)(jnp.stack([a / 6, a])),
            jax.grad(total)(a),
        )
    )(jnp.float32(0.6))
    near(cumulative.mean, X.mean(0))
    near(cumulative.var, X.reshape(4, 2, 3).var(1, ddof=1).mean(0))
    same(scheduled, cumulative)
    same(jax.tree.map(lambda s: s[1], traced), plain)
    means = X.reshape(4, 2, 3).mean(1).sum(1)
    t = np.arange(4)[::-1]
    near(slope, np.sum(means * (0.4**t - 0.6 * t * 0.4 ** np.maximum(t - 1, 0))), rtol=1e-5)


@pytest.mark.parametrize(
    "weights", [None, np.array([1.0, 0.5, 2.0, 1.0, 1.0, 0.7, 1.0, 1.0])], ids=["plain", "weighted"]
)
def test_derivatives_of_y_and_state_agree_with_differences(weights, x64):
    def of(t):
        norm = jo.batch_norm(eps=1e-2 + 1e-3 * t, momentum=0.3)
        params, state = norm.init(3)
        x = X.astype(float) + t * np.sin(np.arange(24.0)).reshape(8, 3)
        y, new = norm.apply(params._replace(scale=SCALE.astype(float)), state, x, train=True, weights=weights)
        return jnp.concatenate([jnp.sum(y**3, keepdims=True)[0], new.mean, new.var])

    slope, curve, reverse, around = jax.jit(
        lambda: (
            jax.jacfwd(of)(0.0),
            jax.jacfwd(jax.jacrev(of))(0.0),
            jax.jacrev(of)(0.0),
            jax.vmap(of)(jnp.array([-1e-3, 0.0, 1e-3])),
        )
    )()
    near(reverse, slope, rtol=1e-12, atol=1e-12)
    near(slope, (around[2] - around[0]) / 2e-3, rtol=1e-5, atol=1e-5)
    near(curve, (around[2] - 2 * around[1] + around[0]) / 1e-6, rtol=1e-4, atol=1e-4)


def test_fit_trains_on_batches_and_a_scan_gathers_the_statistics_afterwards():
    norm = jo.batch_norm(momentum=None)
    start, state = norm.init(3)

    def loss(params, batch):
        x, y = batch
        hidden, _ = norm.apply(params[0], state, x, train=True)
        return jo.mean_squared_error(hidden @ params[1], y)

    @jax.jit
    def run(x, y):
        plan = jo.data.mini_batch(8, 4)
        params = start, jnp.array([0.1, 0.2, 0.3])
        fitted = jo.loop.fit(loss, params, jo.sgd(0.1), (x, y), plan, key=jax.random.key(0), epochs=60)
        batches = x.reshape(2, 4, 3)
        return fitted, jax.lax.scan(lambda s, x: norm.apply(fitted.params[0], s, x, train=True)[::-1], state, batches)

    fitted, (gathered, _) = run(X, np.tanh(X[:, 0] - 2))
    assert fitted.loss[-1].mean() < fitted.loss[0].mean() / 2
    near(gathered.mean, X.mean(0))


# ---- what does not fit ----------------------------------------------------------------------------------


def applied(x, norm=NORM, features=3, **options):
    return norm.apply(*norm.init(features), x, **{"train": True, **options})


@pytest.mark.parametrize(
    ("kind", "call", "words"),
    [
        (TreeError, lambda: applied(X[:1]), "more than one value of each feature"),
        (TreeError, lambda: applied(X[:0]), "more than one value of each feature"),
        (TreeError, lambda: applied(X, features=4), r"x must have \(4,\) features"),
        (TreeError, lambda: applied(np.ones((8, 3), int)), "x must be real floating"),
        (TreeError, lambda: applied(X, weights=np.ones(3)), "weights must be real, one for each example"),
        (TreeError, lambda: applied(X, weights=np.ones((8, 3))), "weights must be real"),
        (TreeError, lambda: applied(X, weights=np.ones((8, 1, 1))), "weights must be real"),
        (TypeError, lambda: jax.jit(lambda train: applied(X, train=train))(True), "train must be True or False"),
        (StateError, lambda: NORM.apply(*NORM.init(3)[::-1], X, train=True), "params must be BatchNormParams"),
        (HyperparameterError, lambda: jo.batch_norm(momentum=1.1), r"momentum must be in \[0, 1\]"),
        (HyperparameterError, lambda: jo.batch_norm(eps=-1e-5), "eps must be"),
        (TypeError, lambda: jo.batch_norm(momentum="none"), "momentum must be"),
        (TypeError, lambda: jo.batch_norm(feature_axis=1.0), "feature_axis must be an integer"),
        (HyperparameterError, lambda: applied(X, jo.batch_norm(feature_axis=2)), "different axes of x, which has 2"),
        (HyperparameterError, lambda: applied(X, jo.batch_norm(feature_axis=(1, -1)), (3, 3)), "different axes"),
        (HyperparameterError, lambda: NORM.init((3, 4)), "one size for each of 1 axes"),
        (HyperparameterError, lambda: NORM.init(3.0), "features must be an integer"),
        (TypeError, lambda: NORM.init(3, np.int32), "dtype must be a floating dtype"),
    ],
)
def test_what_does_not_fit_is_refused(kind, call, words):
    with pytest.raises(kind, match=words):
        call()


def test_the_example_of_the_docstring_runs():
    lines = re.findall(r">>> (.*)", jo.batch_norm.__doc__)
    names = {"jax": jax, "jnp": jnp, "jo": jo}
    exec("\n".join(lines), names)
    assert names["state"].count == 1 and names["y"].shape == (32, 3)


def test_its_parameters_are_those_of_a_norm():
    params = {"layer": NORM.init(3)[0], "plain": jo.batch_norm(affine=False).init(3)[0]}
    assert [leaf.role for leaf in jo.roles_of(params)] == ["norm", "norm"]


@pytest.mark.references
def test_records_anew_what_is_committed(tmp_path):
    pytest.importorskip("torch")
    record.record(tmp_path / "new.npz")
    for name in CASES:
        same(record.recorded(name, tmp_path / "new.npz"), record.recorded(name), rtol=1e-12, atol=1e-14)
