"""Every method on meshes of eight devices, with explicit and with automatic axes: the numbers of one device, shardings
that stay, one compilation."""

import contextlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxopt_ko as jo
from cases import CASES, COUSINS, whole
from engines import in_brief
from jaxopt_ko import optimizers
from jaxopt_ko.optimizers import more

AXES = {"explicit": AxisType.Explicit, "automatic": AxisType.Auto}
SPECS = {"w": P("data", "model"), "v": P(None, "model"), "b": P("data")}  # rows and columns, columns, a vector
SHAPES = {"w": (8, 8), "v": (8, 8), "b": (8,)}
# of each public name its first case that is a whole method; a wrapper counts as one
METHODS = {}
for case in CASES:
    if not case.part:
        METHODS.setdefault(case.factory, case)
# steps of these follow signs of rounding errors, or noise that is drawn for each device count
LOOSE = {
    "spsa": 1e-3,
    "mezo": 1e-3,
    "shampoo": 1e-3,
    "lbfgsb": 1e-3,
    "interior_point": 1e-4,
    "augmented_lagrangian": 1e-4,
}


ON_BOTH = ("adamw", "adafactor", "muon", "shampoo", "lbfgs", "multi_steps", "quantized")


def mesh_of(kind, shape=(4, 2), names=("data", "model")):
    return jax.make_mesh(shape, names, axis_types=(AXES[kind],) * len(names))


def placed(tree, mesh):
    """On the mesh, specs spelled as the results of programs are."""

    def put(name, x):
        spec = [*SPECS[name], *[None] * (x.ndim - len(SPECS[name]))]
        if mesh.axis_types[0] == AxisType.Auto:
            while spec and spec[-1] is None:
                spec.pop()
        return jax.device_put(x, NamedSharding(mesh, P(*spec)))

    return {name: put(name, x) for name, x in tree.items()}


def numbers(seed):
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}


@contextlib.contextmanager
def compilations():
    """A list of what is compiled within it."""
    compiled = []

    def listen(event, *_, **__):
        if "backend_compile" in event:
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield compiled
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def two_steps(opt, place):
    """(parameters, first updates, both states, what the second step compiled) of two steps, each with a gradient."""
    params, grads = place(numbers(0)), [place(numbers(seed)) for seed in (1, 2)]
    state = opt.init(params)

    def step(params, state, grads):
        updates, state = opt.update(grads, state, params)
        return jo.apply_updates(params, updates), state, updates

    run = quick.jit(step)
    after, second, updates = run(params, state, grads[0])
    jax.block_until_ready(after)
    with compilations() as compiled:
        end, _, _ = run(after, second, grads[1])
    return end, updates, state, second, len(compiled)


@pytest.fixture(scope="module")
def alone():
    """The same on one device, once for each method."""
    made = {}

    def of(case):
        if case.name not in made:
            made[case.name] = two_steps(whole(case), lambda tree: jax.tree.map(jnp.asarray, tree))[0]
        return made[case.name]

    return of


def assert_where_they_were(before, after):
    for (path, a), b in zip(jax.tree_util.tree_flatten_with_path(before)[0], jax.tree.leaves(after), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim), jax.tree_util.keystr(path)


def on_every_kind():
    """Both kinds of axes. Most methods on automatic ones, and elementwise rules, which are alike, are `slow`."""
    for case in METHODS.values():
        for kind in AXES:
            brief = in_brief(case) or case.name in COUSINS if kind == "explicit" else case.name not in ON_BOTH
            yield pytest.param(case, kind, id=f"{case.name}-{kind}", marks=[pytest.mark.slow] * brief)


@pytest.mark.parametrize(("case", "kind"), list(on_every_kind()))
def test_equals_one_device_keeps_shardings_and_compiles_once(case, kind, alone):
    mesh = mesh_of(kind)
    with jax.set_mesh(mesh):
        end, updates, before, after, compiled = two_steps(whole(case), lambda tree: placed(tree, mesh))
    for name, x in alone(case).items():
        tolerance = LOOSE.get(case.name, 1e-5)
        np.testing.assert_allclose(np.asarray(end[name]), x, rtol=tolerance, atol=tolerance, err_msg=name)
    assert_where_they_were(placed(numbers(0), mesh), end)
    if case.factory not in (jo.set_to_zero, jo.freeze):  # whose updates are constants, which are anywhere
        assert_where_they_were(placed(numbers(0), mesh), updates)
    assert_where_they_were(before, after)
    assert compiled == 0


STACKED = [
    name
    for name in (*optimizers.__all__, *more.__all__)
    if inspect.isfunction(factory := getattr(jo, name)) and not name.startswith(("scale_by", "schedule_free"))
    if {"stack_axes", "learning_rate"} <= set(inspect.signature(factory).parameters)
]


@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("name", STACKED)
def test_stacks_of_layers_cut_by_layer_by_row_and_by_column(name, kind):
    mesh, opt = mesh_of(kind), getattr(jo, name)(0.1, stack_axes={"layers": 1, "rows": 1, "columns": 1})
    specs = {"layers": P("data"), "rows": P(None, "model"), "columns": P(None, None, ("data", "model"))}
    rng = np.random.default_rng(3)
    full = {key: np.asarray(rng.normal(size=(4, 8, 8)), np.float32) for key in specs}
    grads = jax.tree.map(lambda x: 0.3 * x + 0.1, full)

    def put(key, x):
        spec = [*specs[key], *[None] * (3 - len(specs[key]))]
        spec = spec if kind == "explicit" else spec[: max(i + 1 for i, axis in enumerate(spec) if axis)]
        return jax.device_put(x, NamedSharding(mesh, P(*spec)))

    step = quick.jit(opt.update)
    alone = step(grads, opt.init(full), full)[0]
    with jax.set_mesh(mesh):
        params = {key: put(key, x) for key, x in full.items()}
        before = opt.init(params)
        updates, after = step({key: put(key, x) for key, x in grads.items()}, before, params)
    for key in specs:
        tolerance = LOOSE.get(name, 2e-5)
        np.testing.assert_allclose(np.asarray(updates[key]), alone[key], rtol=tolerance, atol=tolerance, err_msg=key)
    assert_where_they_were(params, updates)
    assert_where_they_were(before, after)
