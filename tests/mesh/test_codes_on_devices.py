"""States in few bits on eight devices: the codes of one device, cut as the parameters are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo
from jaxopt_ko.precision.codecs import CODECS

AXES = {"explicit": AxisType.Explicit, "automatic": AxisType.Auto}
SPECS = {
    "rows": P("data", None),
    "columns": P(None, "model"),
    "both": P("data", "model"),
    "stack": P(None, None, "data"),
}
SHAPES = {"rows": (8, 70), "columns": (3, 512), "both": (8, 1024), "stack": (2, 4, 96)}


def numbers(seed):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}


def steps(opt, params, state, grads):
    def step(params, state, g):
        u, state = opt.update(g, state, params)
        return jo.apply_updates(params, u), state

    run = quick.jit(step)
    for g in grads:
        params, state = run(params, state, g)
    return params, state


def data(x):
    return np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("codec, zero", [("companded8", "data"), *((codec, None) for codec in CODECS)])
def test_codes_are_those_of_one_device_and_stay_where_they_are(codec, kind, zero):
    opt = jo.quantized(jo.adam(1e-2), codec, min_size=64, rounding="stochastic" if zero else "nearest", key=3)
    grads = [numbers(seed) for seed in (1, 2)]
    params, state = steps(opt, numbers(0), opt.init(numbers(0)), grads)
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(AXES[kind],) * 2)

    def placed(tree):
        return {name: jax.device_put(x, NamedSharding(mesh, SPECS[name])) for name, x in tree.items()}

    with jax.set_mesh(mesh):
        many = placed(numbers(0))
        shardings = jo.state_shardings(opt, many, zero=zero)
        first = jax.jit(opt.init, out_shardings=shardings)(many)
        after, last = steps(opt, many, first, [placed(g) for g in grads])
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(first)[0], jax.tree.leaves(last), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim), jax.tree_util.keystr(path)
    different = [
        np.mean(data(x) != data(y)) for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(last), strict=True)
    ]
    assert max(different) < 0.01  # a sum of another order may end on the other side of a tie
    for name in SHAPES:
        np.testing.assert_allclose(np.asarray(after[name]), params[name], rtol=1e-4, atol=1e-4)


def test_the_state_of_a_device_is_its_part_of_the_codes_and_scales():
    opt = jo.quantized(jo.adamw(1e-3), min_size=64)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    params = {"w": jax.device_put(jnp.ones((64, 512)), NamedSharding(mesh, P()))}
    state = jax.jit(opt.init, out_shardings=jo.state_shardings(opt, params, zero="data"))(params)
    leaves = jax.tree.leaves(state)
    here, whole = sum(x.addressable_shards[0].data.nbytes for x in leaves), sum(x.nbytes for x in leaves)
    assert here <= (1 / 8 + 0.01) * whole and whole < 2.13 * params["w"].size


def test_a_row_of_codes_is_cut_only_where_its_blocks_are():
    mesh = jax.sharding.AbstractMesh((4, 2), ("data", "model"))
    params = {
        name: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(None, "data")))
        for name, shape in {"w": (8, 1024), "v": (8, 192), "odd": (8, 100)}.items()
    }
    found = jo.state_shardings(jo.quantized(jo.sgd(0.1, 0.9), min_size=64), params).inner_state
    trace = jo.tree.get(found, "trace")
    assert trace["w"].codes.spec == trace["w"].scales.spec == P(None, "data")
    assert trace["v"].codes.spec == P(None, "data") and trace["v"].scales.spec in (P(), P(None, None))
    halves = jo.tree.get(jo.state_shardings(jo.quantized(jo.sgd(0.1, 0.9), "four_bit", min_size=64), params), "trace")
    assert halves["w"].codes.spec == P(None, "data") and halves["odd"].codes.spec in (P(), P(None, None))
