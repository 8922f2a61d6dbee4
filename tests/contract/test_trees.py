"""Empty trees, None leaves, scalars, nests, None gradients; leaves are independent; vmap over parameters; sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import quick
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo
from cases import (
    assert_close,
    assert_rounded,
    assert_same_bits,
    descend,
    every,
    loss,
    on_host,
    params_like,
    slope,
    walk_of,
    whole,
)
from engines import engines_of, in_full

NORMS = (
    "clip_by_global_norm",
    "chain",
    "add_noise",
    "noisy_sgd",
    "normalize",
    "normalize_by_update_norm",
)  # rules whose leaves do not stand alone


@every("trees")
def test_empty_none_scalar_and_python_float(case):
    opt = whole(case)
    update = quick.jit(opt.update) if case.vector else opt.update  # a solver's many small parts compile once that way
    for empty in ({}, (), None, {"a": None, "b": [{}]}):
        state = opt.init(empty)
        updates, new = update(empty, state, empty)
        assert updates == empty and jax.tree.structure(new) == jax.tree.structure(state)
        assert jo.apply_updates(empty, updates) == empty
    for scalar in (jnp.float32(2.0), np.float32(2.0)):
        assert jax.eval_shape(update, scalar, jax.eval_shape(opt.init, scalar), scalar)[0].shape == ()
    assert jnp.shape(update(2.0, opt.init(2.0), 2.0)[0]) == ()


def made_of_leaves(case):
    """Does it run on `leafwise` alone, each number that it remembers beside an element of the parameters?"""
    shapes = jax.eval_shape(whole(case).init, {"w": jnp.ones((2, 3))})
    return engines_of(case.name) == {"leafwise"} and all(x.shape in ((2, 3), ()) for x in jax.tree.leaves(shapes))


@every("trees", lambda case: not case.words and (in_full(case) or not made_of_leaves(case)), parts=False)
def test_leaves_without_elements_step_nowhere(case):
    """Of every rank, beside others that step as they do alone."""
    opt = whole(case)
    full = {"w": jnp.full((2, 3), 0.5), "v": jnp.ones(3)}
    empty = {"rows": jnp.zeros((0, 3)), "columns": jnp.zeros((3, 0)), "none": jnp.zeros((0, 0)), "vector": jnp.zeros(0)}

    def twice(params):
        state = opt.init(params)
        for _ in range(2):
            updates, state = opt.update(jax.tree.map(lambda p: 0.5 * p, params), state, params)
        return updates, state

    updates, state = quick.jit(twice)(full | empty)
    assert jax.tree.map(jnp.shape, updates) == jax.tree.map(jnp.shape, full | empty)
    for leaf in jax.tree.leaves((updates, state)):
        assert not jnp.issubdtype(leaf.dtype, jnp.floating) or bool(jnp.all(jnp.isfinite(leaf)))
    jax.eval_shape(twice, empty)


@every(
    "trees",
    lambda case: not case.vector and case.name not in NORMS and case.factory is not jo.named_chain and in_full(case),
    parts=False,
)
def test_a_leaf_without_gradient_is_left_alone(case):
    opt, params = whole(case), params_like()
    state = opt.init(params)
    grads = slope(params)
    full, full_state = opt.update(grads, state, params)
    grads["w"] = None
    updates, new_state = opt.update(grads, state, params)
    assert updates["w"] is None
    assert_rounded(updates["deep"], full["deep"])
    assert jax.tree.structure(new_state) == jax.tree.structure(full_state)
    after = jo.apply_updates(params, updates)
    assert_same_bits(after["w"], params["w"])
    opt.update(slope(params), new_state, params)  # and the state goes on


@every("trees", lambda case: not case.vector and case.name not in NORMS and case.make is None)
def test_leaves_are_independent_of_their_company(case):
    """A tree of many is the same as each leaf alone."""
    opt, params = whole(case), params_like()
    together = descend(opt)((params, opt.init(params)))[0][0]["w"]
    alone = {"w": params["w"]}
    assert_close(descend(opt)((alone, opt.init(alone)))[0][0]["w"], together)


def rounding(case):
    """Methods that look at all leaves as one vector take sums over it, in batches and shards in another order."""
    return {"rtol": 2e-5, "atol": 2e-6} if case.vector else {"rtol": 2e-6}


@every("vmap", lambda case: not in_full(case))
def test_vmap_over_parameters_is_traced(case):
    opt = whole(case)
    both = jax.eval_shape(lambda p: jax.tree.map(lambda x: jnp.stack([x, x]), p), params_like())
    lanes = jax.eval_shape(jax.vmap(lambda p: descend(opt)((p, opt.init(p)))[0]), both)
    alone = jax.eval_shape(lambda p: (p, opt.init(p)), params_like())
    assert lanes == jax.tree.map(lambda x: jax.ShapeDtypeStruct((2, *x.shape), x.dtype), alone)


@every("vmap", in_full, parts=False)
def test_vmap_over_parameters(case):
    opt = whole(case)
    twice = lambda c: jax.lax.fori_loop(0, 2, lambda _, c: descend(opt)(c)[0], c)  # noqa: E731
    step, _ = walk_of(case.name)
    one, two = params_like(), jax.tree.map(lambda p: p * 0.5 - 1, params_like())
    both = jax.tree.map(lambda a, b: np.stack([a, b]), one, two)
    lanes = quick.jit(jax.vmap(lambda p: twice((p, opt.init(p)))))(both)
    for i, params in enumerate((one, two)):
        assert_close(
            jax.tree.map(lambda x, i=i: x[i], on_host(lanes)), step((params, opt.init(params)), 2), **rounding(case)
        )


@every("sharding", lambda case: not case.direction and in_full(case))
def test_sharded_parameters_keep_their_sharding(case):
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    split, opt, single = NamedSharding(mesh, P("d")), whole(case), params_like()
    params = jax.device_put(single, NamedSharding(mesh, P())) | {"w": jax.device_put(single["w"], split)}
    after, new = quick.jit(lambda c: descend(opt)(c)[0])((params, opt.init(params)))
    assert after["w"].sharding.is_equivalent_to(split, 2)
    moments = [x for x in jax.tree.leaves(new) if x.shape == (2, 3)]
    assert all(m.sharding.is_equivalent_to(split, 2) for m in moments)
    assert_close(after, walk_of(case.name)[0]((single, opt.init(single)), 1)[0], **rounding(case))


@every("sharding", lambda case: not case.vector)
def test_init_places_what_is_like_the_parameters_as_they_are(case):
    """Called as it is, and compiled, where optax leaves all of the state on the first device."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    split = NamedSharding(mesh, P("a", "b"))
    opt, params = whole(case), {"w": jax.device_put(jnp.ones((8, 6)), split)}
    for init in (opt.init, jax.jit(opt.init)):
        moments = [x for x in jax.tree.leaves(init(params)) if x.shape == (8, 6)]
        assert all(x.sharding.is_equivalent_to(split, 2) for x in moments)


def test_optax_compiles_moments_onto_one_device():
    """And ours, of stacks, of other dtypes and from abstract leaves, are where the parameters are."""
    mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("a", "b"))
    params = {
        "w": jax.device_put(jnp.ones((2, 8, 6), jnp.bfloat16), NamedSharding(mesh, P(None, "a", "b"))),
        "v": jax.device_put(jnp.ones(8), NamedSharding(mesh, P("b"))),
    }
    with jax.numpy_dtype_promotion("standard"):
        theirs = jax.jit(optax.adam(0.1).init)(params)
    assert all(len(x.sharding.device_set) == 1 for x in jax.tree.leaves(theirs))
    shapes = jax.tree.map(lambda p: jax.ShapeDtypeStruct(p.shape, p.dtype, sharding=p.sharding), params)
    novograd = jo.novograd(0.1, stack_axes={"w": 1, "v": 0})
    states = [jo.adam(0.1).init(shapes)[0], jax.jit(jo.adam(0.1).init)(params)[0], jax.jit(novograd.init)(params)[0]]
    states += [jax.jit(jax.vmap(lambda p: jo.adam(0.1).init(p)[0].mu))({"w": params["w"]})]
    for state in states:
        for key, moment in (state if isinstance(state, dict) else state.mu).items():
            assert moment.dtype == jnp.float32
            assert moment.sharding.is_equivalent_to(params[key].sharding, moment.ndim)


@every("convergence", parts=False)
def test_reaches_the_minimum(case):
    params = params_like()
    end, _ = walk_of(case.name)[0]((params, whole(case).init(params)), 400)
    assert float(loss(end)) < 0.02 * float(loss(params))


@every("sharding", lambda case: case.name in ("adam", "sgd-momentum", "rmsprop", "adagrad"))
def test_a_scan_inside_shard_map(case):
    """The state that is made inside varies over the mesh as the parameters do."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("d",))
    opt, x = whole(case), jnp.arange(8.0).reshape(4, 2)

    def body(p):
        (p, _), _ = jax.lax.scan(descend(opt), (p, opt.init(p)), None, 3)
        return p

    got = jax.jit(jax.shard_map(body, mesh=mesh, in_specs=P("d"), out_specs=P("d")))(x)
    halves = [body(x[:2]), body(x[2:])]
    assert_close(got, jnp.concatenate(halves))
