"""Where states live: state_shardings, explain_shardings, place; ZeRO, host memory, abstract meshes, norms by parts."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, StateError, TreeError

ZERO = [
    "adamw", "adafactor", "adan", "muon", "shampoo", "soap", "lamb", "lion", "adabelief", "radam", "yogi", "ademamix",
    "adopt", "psgd_kron", "prodigy", "amsgrad", "splus",
]  # fmt: skip
KINDS = {"explicit": AxisType.Explicit, "automatic": AxisType.Auto}


def eight(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("data",), axis_types=(kind,))


def on(mesh, tree):
    """A copy on every device, specs spelled as the results of programs are."""
    explicit = mesh.axis_types[0] == AxisType.Explicit
    put = lambda x: jax.device_put(x, NamedSharding(mesh, P(*[None] * (x.ndim * explicit))))  # noqa: E731
    return jax.tree.map(put, tree)


def net(rows=64):
    rng = np.random.default_rng(0)
    shapes = {"w": (rows, 32), "layers": (4, 16, 32), "b": (rows,)}
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in shapes.items()}


def bytes_here(state):
    """(on the first device, in all) of a state."""
    leaves = jax.tree.leaves(state)
    return sum(x.addressable_shards[0].data.nbytes for x in leaves), sum(x.nbytes for x in leaves)


@pytest.mark.parametrize("name", ZERO)
def test_zero_leaves_an_eighth_of_the_state_on_each_device(name):
    opt, params = getattr(jo, name)(0.1), on(eight(), net())
    shardings = jo.state_shardings(opt, params, zero="data")
    here, whole = bytes_here(jax.jit(opt.init, out_shardings=shardings)(params))
    assert here <= (1 / 8 + 0.01) * whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adamw", "adan", "sm3", "muon", "adopt", "normuon"])
def test_steps_with_zero_are_those_of_one_device_and_nothing_moves(name, kind):
    mesh, opt, host = eight(KINDS[kind]), getattr(jo, name)(0.1), {"w": net()["w"][:16, :8], "b": net()["b"][:8]}
    grads = jax.tree.map(lambda x: 0.5 * x + 0.1, host)

    def step(params, state, grads):
        updates, state = opt.update(grads, state, params)
        return jo.apply_updates(params, updates), state

    run = quick.jit(step)
    alone = run(*run(host, opt.init(host), grads), grads)[0]
    with jax.set_mesh(mesh):
        params = on(mesh, host)
        state = jax.jit(opt.init, out_shardings=jo.state_shardings(opt, params, zero="data"))(params)
        first = run(params, state, on(mesh, grads))
        for a, b in zip(jax.tree.leaves((params, state)), jax.tree.leaves(first), strict=True):
            assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
        second, _ = run(*first, on(mesh, grads))
    for key in host:
        np.testing.assert_allclose(np.asarray(second[key]), alone[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adamw", "shampoo", "lion"])
def test_states_in_host_memory_stay_there_and_count_the_same(name, kind):
    """As CPU backends have it; no accelerator was seen."""
    mesh, opt, host = eight(KINDS[kind]), getattr(jo, name)(0.1), {"w": net()["w"][:16, :16]}
    with jax.set_mesh(mesh):
        params = on(mesh, host)
        step = quick.jit(lambda s, p: opt.update(p, s, p))
        plain = step(step(opt.init(params), params)[1], params)[0]
        shardings = jo.state_shardings(opt, params, zero="data", memory_kind="pinned_host")
        state = jax.jit(opt.init, out_shardings=shardings)(params)
        for _ in range(2):
            updates, state = step(state, params)
    assert {x.sharding.memory_kind for x in jax.tree.leaves(state) if x.ndim} == {"pinned_host"}
    assert updates["w"].sharding.memory_kind == "device"
    np.testing.assert_allclose(np.asarray(updates["w"]), plain["w"], rtol=1e-3, atol=1e-3)


def gpt2(mesh):
    """Parameters of GPT-2 small as they are cut over data and model, without values."""

    def leaf(shape, *spec):
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))

    layer = {
        "qkv": leaf((12, 768, 2304), None, None, "model"), "out": leaf((12, 768, 768), None, "model", None),
        "up": leaf((12, 768, 3072), None, None, "model"), "down": leaf((12, 3072, 768), None, "model", None),
        "norm": leaf((12, 768), None, None),
    }  # fmt: skip
    return {"embed": leaf((50304, 768), "model", None), "position": leaf((1024, 768), None, None), "layers": layer}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["adamw", "muon", "shampoo", "adafactor"])
def test_a_gpt2_on_64_abstract_devices(name, kind):
    """Laid out, and a step lowered for its mesh, with no device at hand."""
    mesh = AbstractMesh((16, 4), ("data", "model"), axis_types=(KINDS[kind],) * 2)
    params = gpt2(mesh)
    stacks = {"embed": 0, "position": 0, "layers": {"qkv": 1, "out": 1, "up": 1, "down": 1, "norm": 0}}
    opt = getattr(jo, name)(1e-3, **({"stack_axes": stacks} if name in ("muon", "shampoo") else {}))
    *rows, total = jo.explain_shardings(opt, params, zero="data").body
    assert all(row[2] == "P()" or "data" in row[2] or row[-1] for row in rows)
    if name != "adafactor":  # whose state is small, and of vectors
        assert float(total[-1].split("%")[0]) < 100 / 64 + 2
    shardings = jo.state_shardings(opt, params, zero="data")
    bare = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    place = lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)  # noqa: E731
    state = jax.tree.map(place, jax.eval_shape(opt.init, bare), shardings)
    for leaf in jax.tree.leaves(state):
        leaf.sharding.shard_shape(leaf.shape)  # it divides
    with jax.sharding.use_abstract_mesh(mesh):
        lowered = jax.jit(opt.update).trace(params, state, params).lower(lowering_platforms=("cpu",))
    assert "num_partitions = 64" in lowered.as_text()


def test_what_each_leaf_gets():
    mesh = AbstractMesh((2, 4), ("data", "model"))
    w = jax.ShapeDtypeStruct((8, 12), jnp.float32, sharding=NamedSharding(mesh, P("model")))
    odd = jax.ShapeDtypeStruct((3, 5), jnp.float32, sharding=NamedSharding(mesh, P()))
    mu = jo.state_shardings(jo.adam(0.1), {"w": w, "odd": odd}, zero="data")[0].mu
    assert mu["w"].spec == P("model", "data") and mu["odd"].spec == P()
    factors = jo.state_shardings(jo.scale_by_shampoo(), {"w": w})
    assert factors.L["w"].spec == P(None, "model")  # [1, 8, 8]: cut as finely as its parameter
    rows = {row[0]: row for row in jo.explain_shardings(jo.adam(0.1), {"w": w, "odd": odd}, zero="data").body}
    assert "data" in rows["[0].mu['odd']"][-1] and rows["[0].mu['w']"][3] == str(8 * 12 * 4 // 8)
    theirs = jo.state_shardings(optax.chain(optax.clip(1.0), optax.adam(0.1)), {"w": w}, zero="data")
    assert theirs[1][0].nu["w"].spec == P("model", "data") and theirs[1][0].count.spec == P()


def test_a_state_moves_to_a_smaller_mesh():
    params, opt = on(eight(), net()), jo.adamw(0.1)
    state = jax.jit(opt.init, out_shardings=jo.state_shardings(opt, params, zero="data"))(params)
    four = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    moved = jo.place(state, jo.state_shardings(opt, params, four, zero="data"))
    assert all(len(x.sharding.device_set) == 4 for x in jax.tree.leaves(moved))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(np.asarray(a), np.asarray(b)), state, moved)


def test_errors_say_what_to_do():
    params, opt = net(), jo.adam(0.1)
    with pytest.raises(HyperparameterError, match="a mesh is missing"):
        jo.state_shardings(opt, params)
    with pytest.raises(HyperparameterError, match="zero must be an axis of the mesh, data"):
        jo.state_shardings(opt, params, eight(), zero="rows")
    with pytest.raises(HyperparameterError, match="mesh must be"):
        jo.state_shardings(opt, params, "data")
    with pytest.raises(HyperparameterError, match="memory_kind"):
        jo.state_shardings(opt, params, eight(), memory_kind="disk")
    cut = {"w": jax.device_put(params["w"], NamedSharding(eight(), P("data")))}
    with pytest.raises(HyperparameterError, match=r"axes of the parameter \['w'\]"):
        jo.state_shardings(opt, cut, jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,)))
    state = opt.init(params)
    with pytest.raises(StateError, match="a tree like the state"):
        jo.place(state, {})
    with pytest.raises(TreeError, match=r"leaf \[0\].mu\['b'\] cannot be cut"):
        odd = opt.init({"b": jnp.ones(3)})
        jo.place(odd, jax.tree.map(lambda x: NamedSharding(eight(), P("data") if x.ndim else P()), odd))


@pytest.mark.parametrize("scale", [1.0, 1e30, 1e-30])
def test_norms_of_parts_within_shard_map(scale):
    mesh, host = eight(), {"w": net()["w"] * np.float32(scale), "b": net()["b"] * np.float32(scale)}
    clip = jo.clip_by_global_norm(1.0, axis_name="data")

    def part(tree):
        norms = [jo.tree.norm(tree, ord, axis_name="data") for ord in (None, 1, "inf")]
        return clip.update(tree, clip.init(tree))[0], jo.global_norm(tree, axis_name="data"), *norms

    cut = jax.tree.map(lambda x: P("data"), host)
    run = jax.shard_map(part, mesh=mesh, in_specs=(cut,), out_specs=(cut, P(), P(), P(), P()), check_vma=False)
    steps, *norms = jax.jit(run)(host)
    whole = jo.clip_by_global_norm(1.0)
    want = whole.update(host, whole.init(host))[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), steps, want)
    wanted = [jo.global_norm(host), *(jo.tree.norm(host, ord) for ord in (None, 1, "inf"))]
    np.testing.assert_allclose(norms, wanted, rtol=1e-5)
    text = jax.jit(run).lower(host).as_text()
    assert text.count("stablehlo.all_gather") == 3  # of one number each: the clip's norm and two norms of order 2
