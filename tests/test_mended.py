"""Where optax is wrong over many methods at once: what it does, and that no method here does it.

Every public function with a learning_rate is asked, with its own defaults; what is new is asked by itself.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import quick

import jaxopt_ko as jo
from cases import CASES, assert_close, descend, loss, params_like, slope

HALVES = (jnp.float16, jnp.bfloat16, jnp.float32)


def methods():
    """(name, what it cannot do without besides a learning rate) of all optimizers, the arguments as in its Case."""
    found = {}
    for case in CASES:
        parameters = inspect.signature(case.factory).parameters
        if "learning_rate" not in parameters:
            continue
        if inspect.unwrap(case.factory).__globals__["__name__"].split(".")[1] in ("optimizers", "wrappers"):
            given = {**case.hypers, **case.options}
            needs = [p.name for p in parameters.values() if p.default is p.empty or p.name == "key"]
            needs = [name for name in needs if name != "learning_rate"]
            if all(name in given for name in needs):
                found.setdefault(case.factory.__name__, {name: given[name] for name in needs})
    return found


METHODS = methods()
every_method = pytest.mark.parametrize("name", METHODS)


def make(name, learning_rate=0.1):
    return getattr(jo, name)(learning_rate=learning_rate, **METHODS[name])


def bowl(params):
    """`loss` for leaves of any dtypes."""
    return loss(jax.tree.map(lambda p: p.astype(jnp.float32), params))


def words(params):
    """What some methods read besides the gradient; the others pass over it."""
    return {"value": bowl(params), "grad": jax.grad(bowl)(params), "value_fn": bowl, "obj_fn": bowl}


@pytest.fixture
def promoting():
    """optax mixes dtypes."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# ---- learning_rate=None is a sign lost ------------------------------------------------------------------


def test_optax_climbs_without_a_learning_rate(promoting):
    params = params_like()
    for opt in (optax.adadelta(), optax.adam(None)):
        end, state = params, opt.init(params)
        for _ in range(5):
            updates, state = opt.update(slope(end), state, end)
            end = optax.apply_updates(end, updates)
        assert float(loss(end)) > float(loss(params))


@every_method
def test_no_learning_rate_never_climbs(name):
    try:
        inner = make(name, None)
    except jo.errors.HyperparameterError:
        return
    opt = jo.GradientTransformation(inner.init, lambda g, s, p: inner.update(g, s, p, **words(p)))
    params = params_like()
    (end, _), _ = quick.jit(lambda c: jax.lax.scan(descend(opt), c, None, 10))((params, opt.init(params)))
    assert float(loss(end)) < float(loss(params))


def test_adadelta_descends_with_its_own_defaults():
    params, opt = params_like(), jo.adadelta()
    updates, _ = opt.update(slope(params), opt.init(params))  # nor does it ask for params
    assert float(loss(jo.apply_updates(params, updates))) < float(loss(params))


# ---- decay that is off asks for nothing -----------------------------------------------------------------


def decays():
    """Those whose decay is off by default, and that need the parameters for nothing else."""
    for name in METHODS:
        parameter = inspect.signature(getattr(jo, name)).parameters.get("weight_decay")
        if parameter is not None and parameter.default == 0 and name not in ("lars", "lamb", "madgrad"):
            yield name


@pytest.mark.parametrize("name", list(decays()))
def test_decay_of_zero_needs_no_params_and_changes_no_structure(name):
    params = params_like()
    g = slope(params)
    off, traced = make(name), getattr(jo, name)(learning_rate=0.1, weight_decay=jnp.asarray(0.0), **METHODS[name])
    assert jax.tree.structure(off.init(params)) == jax.tree.structure(traced.init(params))
    try:
        without, _ = off.update(g, off.init(params))
    except jo.errors.MissingArgumentError as error:
        assert "add_decayed_weights" not in str(error)  # the rule's own need
        return
    assert_close(without, traced.update(g, traced.init(params), params)[0])
    with pytest.raises(jo.errors.MissingArgumentError):
        traced.update(g, traced.init(params))


# ---- half precision -------------------------------------------------------------------------------------


def test_optax_moments_stand_still_in_bfloat16(promoting):
    params, zero = jnp.zeros(2, jnp.bfloat16), jnp.zeros(2, jnp.bfloat16)
    opt = optax.scale_by_adam()
    _, state = opt.update(jnp.ones(2, jnp.bfloat16), opt.init(params))
    nu = state.nu
    for _ in range(20):
        _, state = opt.update(zero, state)
    assert bool(jnp.all(state.nu == nu))  # 0.999 is 1 in bfloat16


@every_method
def test_memory_of_bfloat16_parameters_moves_as_that_of_float32(name):
    """A gradient of 1, then none: what remains after 300 steps, every leaf of the state."""

    @quick.jit
    def remains():
        states = []
        for dtype in (jnp.bfloat16, jnp.float32):
            opt, params = make(name), {"w": jnp.ones((2, 3), dtype)}
            extra = words(params)
            step = lambda s, g, o=opt, p=params, x=extra: (o.update({"w": g}, s, p, **x)[1], None)  # noqa: E731
            state, _ = step(opt.init(params), jnp.ones((2, 3), dtype))
            states.append(jax.lax.scan(step, state, jnp.zeros((300, 2, 3), dtype))[0])
        return states

    half, full = remains()
    assert jax.tree.structure(half) == jax.tree.structure(full)
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(full), strict=True):
        if jnp.issubdtype(b.dtype, jnp.floating):
            assert a.dtype == b.dtype == jnp.float32
            np.testing.assert_allclose(a, b, rtol=2e-2, atol=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamax", "ademamix", "acprop"])
def test_optax_is_nan_for_no_gradient_in_float16(name, promoting):
    g = jnp.zeros(2, jnp.float16)
    opt = getattr(optax, name, None) or getattr(optax.contrib, name)
    opt = opt(0.1)
    assert bool(jnp.all(jnp.isnan(two_steps(opt, g, g))))


@pytest.mark.parametrize("name", ["adam", "radam", "ademamix", "adopt", "madgrad"])
def test_optax_has_no_gradient_through_a_step_without_one(name, promoting):
    opt = getattr(optax, name, None) or getattr(optax.contrib, name)
    assert bool(jnp.isnan(jax.grad(lambda g: jnp.sum(two_steps(opt(0.1), g, jnp.ones(2))))(jnp.array([0.0, 1.0]))[0]))


def two_steps(opt, g, params, **extra):
    _, state = opt.update(g, opt.init(params), params, **extra)
    return opt.update(g, state, params, **extra)[0]


@every_method
def test_a_gradient_of_zero_gives_steps_and_slopes_that_are_finite(name):
    """In one tree of three dtypes: no gradient at all, and none in one coordinate. Slopes in float32."""
    opt = make(name)
    params = {str(i): {"none": jnp.ones(2, dtype), "some": jnp.ones(2, dtype)} for i, dtype in enumerate(HALVES)}
    g = jax.tree.map(lambda p: jnp.zeros_like(p), params)
    for part in g.values():
        part["some"] = part["some"].at[1].set(1.0)
    single, slope_at = params["2"], g["2"]

    @quick.jit
    def run():
        end = lambda g: sum(jnp.sum(u) for u in jax.tree.leaves(two_steps(opt, g, single, **words(single))))  # noqa: E731
        return two_steps(opt, g, params, **words(params)), jax.grad(end)(slope_at)

    for x in jax.tree.leaves(run()):
        assert bool(jnp.all(jnp.isfinite(x)))


# ---- init from shapes -----------------------------------------------------------------------------------

SHAPES = {"w": jax.ShapeDtypeStruct((2, 3), jnp.float32)}


@pytest.mark.parametrize("name", ["madgrad", "prodigy", "dog"])
def test_optax_needs_values_to_begin(name, promoting):
    """It keeps abstract leaves in the state, or asks for their values."""
    opt = getattr(optax.contrib, name)(0.1)
    try:
        leaves = jax.tree.leaves(opt.init(SHAPES))
    except TypeError:
        return
    assert any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


@every_method
def test_a_state_begins_from_shapes(name):
    opt = make(name)
    state = opt.init(SHAPES)
    assert not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(state))
    real = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), SHAPES)
    assert jax.eval_shape(opt.init, SHAPES) == jax.eval_shape(lambda: state) == jax.eval_shape(lambda: opt.init(real))


# ---- the names of states --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "amsgrad", "adamp"])
def test_no_gradient_yet_is_no_step_without_eps_too(name):
    """Compiled as one loop, where XLA makes m / c / root to m / (c root): the least root times c must not be 0."""
    opt, p = getattr(jo, name)(0.1, b1=0.8, eps=0.0), jnp.ones(3)

    def step(carry, g):
        p, state = carry
        u, state = opt.update(g, state, p)
        return (p + u, state), u

    gradients = jnp.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.0]])
    u = quick.jit(lambda p, gs: jax.lax.scan(step, (p, opt.init(p)), gs)[1])(p, gradients)
    np.testing.assert_array_equal(u[:, :2], 0.0)
    assert np.isfinite(u).all() and u[1, 2] < 0
