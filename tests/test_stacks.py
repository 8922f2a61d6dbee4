"""Leaves [L, m, n] that are stacked for a scan over layers give, with stack_axes, what L separate leaves give."""

import inspect
from typing import NamedTuple

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick

import jaxopt_ko as jo

L = 3
RNG = np.random.default_rng(0)
SIZES = np.array([0.1, 1.0, 10.0])  # of the layers: far from one another
MATRICES = SIZES[:, None, None] * RNG.normal(size=(L, 4, 3))
BIASES = SIZES[:, None] * RNG.normal(size=(L, 4))
HEAD = RNG.normal(size=(5, 2))
GRADIENTS = [np.random.default_rng(k).normal(size=(L, 5, 5)) * SIZES[::-1, None, None] for k in (1, 2, 3)]


pytestmark = pytest.mark.usefixtures("x64")

STACKED = {"layers": {"w": MATRICES, "b": BIASES}, "head": HEAD}
APART = {"layers": [{"w": w, "b": b} for w, b in zip(MATRICES, BIASES, strict=True)], "head": HEAD}
AXES = {"layers": 1, "head": 0}


def gradients(noise):
    """Of STACKED and of APART."""
    w, b, head = noise[:, :4, :3], noise[:, 4, :4], noise[0, :, :2]
    stacked = {"layers": {"w": w, "b": b}, "head": head}
    return stacked, {"layers": [{"w": w[i], "b": b[i]} for i in range(L)], "head": head}


def stacked_again(apart):
    layers = jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart["layers"])
    return {"layers": layers, "head": apart["head"]}


METHODS = {
    "adafactor": lambda jo, **k: jo.adafactor(0.1, 3, momentum=0.9, weight_decay_rate=1e-3, **k),
    "scale_by_factored_rms": lambda jo, **k: jo.scale_by_factored_rms(min_dim_size_to_factor=3, **k),
    "lamb": lambda jo, **k: jo.lamb(0.1, weight_decay=0.1, **k),
    "lars": lambda jo, **k: jo.lars(0.1, 0.1, trust_coefficient=0.1, **k),
    "scale_by_trust_ratio": lambda jo, **k: jo.scale_by_trust_ratio(**k),
    "fromage": lambda jo, **k: jo.fromage(0.1, **k),
    "novograd": lambda jo, **k: jo.novograd(0.1, weight_decay=0.1, **k),
    "scale_by_novograd": lambda jo, **k: jo.scale_by_novograd(**k),
    "sm3": lambda jo, **k: jo.sm3(0.1, **k),
    "scale_by_sm3": lambda jo, **k: jo.scale_by_sm3(b2=0.9, **k),
    "galore": lambda jo, **k: contrib(jo).galore(0.1, 2, 2, weight_decay=0.1, **k),
    "scale_by_galore": lambda jo, **k: contrib(jo).scale_by_galore(2, 2, **k),
    "clip_by_norm": lambda jo, **k: jo.clip_by_norm(1.0, **k),
    "clip_by_block_rms": lambda jo, **k: jo.clip_by_block_rms(0.5, **k),
    "adaptive_grad_clip": lambda jo, **k: jo.adaptive_grad_clip(0.1, **k),
    "centralize": lambda jo, **k: jo.centralize(**k),
    "scale_by_param_block_norm": lambda jo, **k: jo.scale_by_param_block_norm(**k),
    "scale_by_distance_over_gradients": lambda jo, **k: jo.scale_by_distance_over_gradients(1e-2, **k),
    "scale_by_param_block_rms": lambda jo, **k: jo.scale_by_param_block_rms(**k),
    "cautious": lambda jo, **k: jo.cautious(jo.sgd(0.1, 0.9), **k),
    "hyperball": lambda jo, **k: jo.hyperball(0.1, **k),
    "mars": lambda jo, **k: jo.mars(jo.sgd(0.1, 0.9), 0.9, 0.1, 2.0, **k),
    "update_floor": lambda jo, **k: jo.update_floor(2.0, **k),
    "relative_update": lambda jo, **k: jo.relative_update(**k),
    "radial_brake": lambda jo, **k: jo.radial_brake(0.5, 0.1, **k),
    "pinned": lambda jo, **k: jo.pinned(0.1, 2.0, per="column", radius="start", **k),
    **{
        name: lambda jo, name=name, **k: getattr(jo, name)(0.1, weight_decay=0.1, **k)
        for name in ("stable_adamw", "adam_mini", "came", "adamp", "sgdp", "stable_spam", "tam")
    },
    **{
        name: lambda jo, name=name, **k: getattr(jo, name)(**k)
        for name in (
            "scale_by_stable_adam",
            "scale_by_adam_mini",
            "scale_by_came",
            "scale_by_adamp",
            "scale_by_sgdp",
            "scale_by_stable_spam",
            "scale_by_tam",
        )
    },
}
WHOLE = {  # what looks at all leaves as one vector, or at no other element, has no need of the keyword
    "normalize": lambda jo: contrib(jo).normalize(),
    "normalize_by_update_norm": lambda jo: jo.normalize_by_update_norm(),
    "clip_by_global_norm": lambda jo: jo.clip_by_global_norm(1.0),
    "adamw": lambda jo: jo.adamw(0.1),
}
# optax has none, or not the method
SHAPES_THAT_FIT = {"clip_by_norm", "cautious", "hyperball", *(name for name in METHODS if not hasattr(optax, name))}
SHAPES_THAT_FIT -= {"galore", "scale_by_galore"}


def contrib(library):
    return optax.contrib if library is optax else library


def end(opt, params, grads, apply_updates=jo.apply_updates):
    """Params after three steps."""

    @quick.jit
    def run(params):
        state = opt.init(params)
        for g in grads:
            updates, state = opt.update(g, state, params)
            params = apply_updates(params, jax.tree.map(lambda u: 0.1 * u, updates))
        return params

    return run(jax.tree.map(jnp.asarray, params))


def difference(a, b):
    """The largest error of any leaf, relative to its layer's largest step."""
    errors = []
    for x, y, start in zip(*map(jax.tree.leaves, (a, b, STACKED)), strict=True):
        assert x.dtype == y.dtype == np.float64
        axes = tuple(range(1, x.ndim))
        scale = np.abs(y - start).max(axes, keepdims=True) + np.abs(y).max(axes, keepdims=True) * 1e-2
        errors.append(float((np.abs(x - y) / scale).max()))
    return max(errors)


def both(stacked, apart, apply_updates=jo.apply_updates):
    pairs = [gradients(noise) for noise in GRADIENTS]
    one = end(stacked, STACKED, [g for g, _ in pairs], apply_updates)
    other = end(apart, APART, [g for _, g in pairs], apply_updates)
    return difference(one, stacked_again(other))


@pytest.mark.parametrize("name", METHODS)
def test_stacked_leaves_are_the_separate_ones(name):
    make = METHODS[name]
    assert both(make(jo, stack_axes=AXES), make(jo)) < 1e-12


@pytest.mark.parametrize("name", METHODS)
def test_an_integer_is_for_all_leaves(name):
    """As the tree that says so of each, and as a stack of stacks."""
    make = METHODS[name]
    grads, params = gradients(GRADIENTS[0])[0]["layers"], STACKED["layers"]

    def with_axes(axes, lead):
        p, g = (jax.tree.map(lambda x: x.reshape(lead + x.shape[1:]), tree) for tree in (params, grads))
        return end(make(jo, stack_axes=axes), p, [g])

    want = with_axes({"w": 1, "b": 1}, (L,))
    for got in (with_axes(1, (L,)), with_axes(2, (L, 1))):
        for x, y in zip(*map(jax.tree.leaves, (want, got)), strict=True):
            np.testing.assert_allclose(x, y.reshape(x.shape), rtol=1e-12)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SHAPES_THAT_FIT])
def test_optax_gives_stacked_leaves_another_answer(name):
    make = METHODS[name]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        assert both(make(optax), make(optax), optax.apply_updates) > 0.03


@pytest.mark.parametrize("name", WHOLE)
def test_what_needs_no_keyword(name):
    make = WHOLE[name]
    assert both(make(jo), make(jo)) < 1e-12


def test_every_method_with_the_keyword_is_here():
    having = {
        name
        for name in jo.__all__
        if inspect.isfunction(getattr(jo, name)) and "stack_axes" in inspect.signature(getattr(jo, name)).parameters
    }
    matrix = {"muon", "normuon", "adamuon", "soap", "shampoo", "dion", "apollo"}  # test_matrix_methods, test_muon_kin
    matrix |= {"splus", "kl_shampoo", "kl_soap", "soap_muon", "aurora", "polargrad", "dion2", "asgo"}
    matrix |= {"fira", "conda"}
    elsewhere = matrix | {f"scale_by_{name}" for name in matrix} | {"orthogonalize", "scion", "scale_by_lmo"}
    elsewhere |= {"muown", "spectral_sphere"}
    elsewhere |= {"psgd_kron", "scale_by_kron", "route", "explain", "roles_of", "adam_mini_blocks"}  # test_routing
    elsewhere |= {"magma"}  # test_asked_for
    elsewhere |= {"width_scaled", "width_factors", "adagc"}  # test_width, test_run_safety
    assert having == set(METHODS) | elsewhere | {"leafwise", "unitwise_norm", "per_example_layer_norm_clip"}
    for name in having:
        assert list(inspect.signature(getattr(jo, name)).parameters.values())[-1].kind is inspect.Parameter.KEYWORD_ONLY


# ---- functions of one array, or of a batch --------------------------------------------------------------


def test_functions_see_one_of_a_stack():
    x = jnp.asarray(RNG.normal(size=(L, 2, 4, 3)))
    for axis in (None, 0, (0, 1), -1):
        want = jnp.stack([jo.unitwise_norm(one, axis) for one in x.reshape(-1, 4, 3)]).reshape(x.shape)
        np.testing.assert_allclose(jo.unitwise_norm(x, axis, stack_axes=2), want, rtol=1e-13)


@pytest.mark.parametrize("uniform", [True, False])
def test_layers_of_examples_are_clipped_each(uniform):
    batch = np.random.default_rng(5).normal(size=(6, L, 4, 3)) * SIZES[:, None, None]
    bias = np.random.default_rng(6).normal(size=(6, 4))
    sums, counts = jo.per_example_layer_norm_clip({"b": bias, "w": batch}, 3.0, uniform, stack_axes={"b": 0, "w": 1})
    for library in (jo, optax):
        want, numbers = library.per_example_layer_norm_clip([bias, *np.moveaxis(batch, 1, 0)], 3.0, uniform)
        np.testing.assert_allclose(sums["b"], want[0], rtol=1e-12)
        np.testing.assert_allclose(sums["w"], np.stack(want[1:]), rtol=1e-12)
        assert int(counts["b"]) == numbers[0] and counts["w"].tolist() == numbers[1:]
    assert counts["w"].tolist()[0] < counts["w"].tolist()[-1]


# ---- the lifter -----------------------------------------------------------------------------------------


def mine(stack_axes=0, traces=None):
    """u = g minus its mean, with what has passed in a scalar and in rows."""

    def rule(g, p, total, rows, h):
        traces is None or traces.append(g.shape)
        return g - jnp.mean(g), total + jnp.sum(g), [rows[0] + jnp.sum(g, -1)]

    def init(p):
        return jo.tree.wide_like(jo.tree.abstract((), p.dtype)), [jo.tree.wide_like(jo.tree.summed(p, -1))]

    return jo.leafwise("mine", MineState, rule=rule, init=init, stack_axes=stack_axes)


class MineState(NamedTuple):
    count: jax.Array
    total: jax.Array
    rows: list[jax.Array]


def test_leaves_of_one_shape_and_stack_are_traced_once():
    traces = []
    opt = mine({"a": 1, "b": 1, "c": 0, "d": 0}, traces)
    params = {key: jnp.ones((2, 4, 3)) for key in "abcd"}
    state = opt.init(params)
    updates, new = opt.update(params, state)
    assert traces == [(4, 3), (2, 4, 3)]
    assert [x.shape for x in jax.tree.leaves(new.total)] == [(2,), (2,), (), ()]
    assert [x.shape for x in jax.tree.leaves(new.rows)] == [(2, 4)] * 4
    assert jax.tree.structure(new) == jax.tree.structure(state)
    np.testing.assert_allclose(new.total["a"], [12.0, 12.0])
    shapes = jax.eval_shape(lambda: params)
    assert jax.eval_shape(lambda: opt.init(shapes)) == jax.eval_shape(lambda: state)
    updates["b"] = None  # a leaf without gradient keeps what it remembers
    _, again = opt.update(updates, new)
    np.testing.assert_array_equal(again.rows["b"][0], new.rows["b"][0])


def test_what_does_not_fit_is_named():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(2), "s": jnp.ones(())}
    with pytest.raises(jo.errors.TreeError, match=r"scale_by_trust_ratio: the leaf \['s'\] must have the 1 leading"):
        jo.lamb(0.1, stack_axes=1).init(params)
    with pytest.raises(jo.errors.TreeError, match=r"galore: the leaf \['b'\] must have the 2 leading"):
        jo.galore(0.1, stack_axes={"w": 2, "b": 2, "s": 0}).init(params)
    opt = jo.clip_by_block_rms(1.0, stack_axes={"w": 1, "x": 0, "s": 0})
    for call in (lambda: opt.init(params), lambda: opt.update(params, jo.clip_by_block_rms(1.0).init(params))):
        with pytest.raises(jo.errors.TreeError, match=r"clip_by_block_rms: the stack_axes .* \['b'\]"):
            call()
    for bad in (-1, 1.0, True, None, "w", {"w": None}, jnp.ones(())):
        with pytest.raises(jo.errors.HyperparameterTypeError, match="stack_axes must be an integer >= 0 or a tree"):
            jo.sm3(0.1, stack_axes=bad)
    with pytest.raises(jo.errors.TreeError, match=r"mine: the gradients leaf \['w'\] .* its state was made for"):
        mine().update({"w": jnp.ones((3, 2))}, mine().init({"w": jnp.ones((2, 3))}))


@pytest.mark.parametrize("name", ["lamb", "adafactor", "sm3", "galore"])
def test_masks_and_groups_take_the_whole_trees_axes(name):
    """A prefix is of the params as the user has them, wherever the method sits."""
    opt = METHODS[name](jo, stack_axes=AXES)
    groups = jo.partition({"a": opt, "b": jo.sgd(0.1)}, {"layers": {"w": "a", "b": "b"}, "head": "a"})
    grads = [gradients(noise)[0] for noise in GRADIENTS]
    want, got = end(opt, STACKED, grads), end(groups, STACKED, grads)
    np.testing.assert_allclose(got["layers"]["w"], want["layers"]["w"], rtol=1e-12)
    np.testing.assert_allclose(got["head"], want["head"], rtol=1e-12)
