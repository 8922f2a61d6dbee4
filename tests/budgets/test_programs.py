"""Budgets of programs: operations of StableHLO, collectives, bytes and temporary memory of what XLA makes of them."""

import itertools
import re

import jax
import jax.numpy as jnp
import optax
import pytest
import quick
from counting import stablehlo
from test_program import control
from test_wrappers import standard

import jaxopt_ko as jo
from cases import assert_close, is_key
from jaxopt_ko import diagnose
from jaxopt_ko.solvers.quadratic import quadratic_interior_point


@pytest.mark.parametrize("make", [jo.muon, jo.normuon, jo.adamuon, jo.scion])
def test_products_do_not_grow_with_the_leaves(make):
    one, seven = (stablehlo(make(0.1), {i: jnp.ones((4, 12)) for i in range(count)}) for count in (1, 7))
    assert one.count("stablehlo.dot_general") == seven.count("stablehlo.dot_general") > 0


def test_whole_matrices_on_every_device():
    """Rows sharded over eight devices: one exchange of each stack and one back, none in between."""
    mesh = jax.make_mesh((8,), ("x",), (jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.P("x"))
    params = jax.device_put({i: jax.random.normal(jax.random.key(i), (8, 16)) for i in range(8)}, rows)
    opt = jo.muon(0.02, stack_sharding=rows)
    state = jax.device_put(opt.init(params), jax.tree.map(lambda s: rows if s.ndim == 2 else None, opt.init(params)))
    step = quick.jit(lambda p, s: jax.lax.with_sharding_constraint(opt.update(p, s, p)[0], rows))
    hlo = step.lower(params, state).compile().as_text()
    names = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")
    assert sum(hlo.count(f" {name}(") + hlo.count(f" {name}-start(") for name in names) <= 4
    one = jo.muon(0.02)
    alone = jax.device_put(params, jax.devices()[0])
    assert_close(step(params, state), one.update(alone, one.init(alone), alone)[0], rtol=0, atol=1e-6)


def test_a_norm_of_sharded_leaves_is_one_collective_and_one_pass():
    """Of ten leaves over eight devices; and no more bytes than optax, but for a few scalars."""
    mesh = jax.make_mesh((8,), ("f",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("f"))
    g = {f"l{i}": jax.device_put(jnp.ones((512, 64)), rows) for i in range(10)}
    bytes_of = {}
    for library in (jo, optax):
        opt = library.clip_by_global_norm(1.0)
        program = jax.jit(opt.update).lower(g, opt.init(g)).compile()
        assert len(re.findall(r" all-\w+(?:-start)?\(", program.as_text())) == 1
        bytes_of[library] = program.cost_analysis()["bytes accessed"]
    assert bytes_of[jo] < 1.1 * bytes_of[optax]


def temporary(lib, opt, params, **words):
    """Memory of a compiled training step beside its arguments and results, in copies of the parameters."""

    def step(g, state, p):
        u, state = opt.update(g, state, p, **words)
        return lib.apply_updates(p, u), state

    used = standard(jax.jit(step, donate_argnums=(1, 2)).lower)(params, opt.init(params), params).compile()
    return used.memory_analysis().temp_size_in_bytes / sum(x.nbytes for x in jax.tree.leaves(params))


def test_no_second_buffer_beside_the_accumulator():
    """Gathering costs Adam's step less than one more copy of the parameters; with optax two."""
    params = {"w": jnp.ones(100_000), "b": jnp.ones(50_000)}
    more = {
        lib: temporary(lib, lib.MultiSteps(lib.adam(0.1), 4), params) - temporary(lib, lib.adam(0.1), params)
        for lib in (jo, optax)
    }
    assert more[jo] < 0.9 < 1.9 < more[optax]
    weighted = temporary(jo, jo.MultiSteps(jo.adam(0.1), 4, weighted=True), params, weight=3)
    assert weighted < temporary(jo, jo.adam(0.1), params) + 0.9
    state = jo.MultiSteps(jo.sgd(0.1), 4).init(params)
    assert sum(x.size for x in jax.tree.leaves(state)) < 150_000 + 10


def network():
    """Abstract parameters of three layers, a million numbers in all."""
    sizes = (784, 1024, 180, 10)
    pairs = itertools.pairwise(sizes)
    return [(jax.ShapeDtypeStruct((a, b), jnp.float32), jax.ShapeDtypeStruct((b,), jnp.float32)) for a, b in pairs]


def classify(p, x, y):
    for w, b in p[:-1]:
        x = jnp.tanh(x @ w + b[None])
    z = x @ p[-1][0] + p[-1][1][None]
    return jnp.mean(jo.softmax_cross_entropy_with_integer_labels(z, y))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("hessian_extremes", {}),
        ("condition_number", {}),
        ("hessian_trace", {"probes": 8}),
        ("spectral_density", {"probes": 2}),
    ],
)
def test_a_million_parameters_take_less_than_five_copies(name, options):
    params = network()
    size = sum(x.size * 4 for x in jax.tree.leaves(params))
    batch = jax.ShapeDtypeStruct((64, 784), jnp.float32), jax.ShapeDtypeStruct((64,), jnp.int32)
    run = jax.jit(lambda p, k, *args: getattr(diagnose, name)(classify, p, args=args, key=k, **options))
    memory = run.lower(params, jax.eval_shape(lambda: jax.random.key(0)), *batch).compile().memory_analysis()
    assert size > 3.9e6 and 0 < memory.temp_size_in_bytes < 5 * size


def test_mezo_stores_one_copy_of_the_parameters_at_a_time():
    """x + c z, in place of x - c z before it; z is no array, nor are its bits, and the step is made in place."""
    params = [jax.ShapeDtypeStruct((512, 512), jnp.float32)] * 4
    size = sum(4 * x.size for x in params)

    def loss(p, batch):
        for w in p:
            batch = jnp.tanh(batch @ w)
        return jnp.mean(batch)

    opt, batch = jo.mezo(1e-6), jax.ShapeDtypeStruct((4, 512), jnp.float32)
    state = jax.eval_shape(lambda p, b: opt.init(p, value_fn=loss, batch=b), params, batch)

    def step(p, state, batch):
        updates, state = opt.update(p, state, p, value_fn=loss, batch=batch)
        return jo.apply_updates(p, updates), state

    run = standard(jax.jit(step, donate_argnums=(0, 1)).lower)(params, state, batch).compile()
    memory = run.memory_analysis()
    assert memory.alias_size_in_bytes >= size  # the result takes the place of the parameters
    assert memory.temp_size_in_bytes < 1.05 * size
    assert sum(x.size for x in jax.tree.leaves(state) if not is_key(x)) < 10


def test_a_small_band_is_factorized_by_small_blocks(x64):
    Q, c, words = control(20)
    method = quadratic_interior_point(bandwidth=7)
    start = jax.eval_shape(lambda: method.init(c, c=c, Q=Q, **words))
    text = jax.jit(lambda state, x: method.update(x, state, x, c=c, Q=Q, **words)).lower(start, c).as_text()
    assert "tensor<80x80xf64>" in text  # Q is there
    factors = [line for line in text.splitlines() if "cholesky" in line or "potrf" in line]
    assert factors and not any("80x80" in line for line in factors)
