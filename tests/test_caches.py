"""What is compiled once is found again, and keeps nothing: no tracer and no array outlives its trace in a cache."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import every

P = {"w": jnp.ones((3, 2))}


@pytest.fixture
def only_what_is_new():
    """The garbage collector, which such a test calls often, does not go through what other tests have left."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


TRACED = {
    "apply_every": (lambda k: jo.apply_every(k), 3),
    "kl_shampoo": (lambda x: jo.scale_by_kl_shampoo(init_factor=x), 0.5),
    "kron": (lambda x: jo.scale_by_kron(precond_init_scale=x), 0.5),
    "rprop": (lambda x: jo.rprop(x), 0.5),
    "rss": (lambda x: jo.scale_by_rss(initial_accumulator_value=x), 0.5),
    "dog": (lambda x: jo.dog(init_step=("distance", x)), 0.5),
    "multi_steps": (lambda k: jo.MultiSteps(jo.adam(0.1, b1=k / 10), k).gradient_transformation(), 3),
    "mine": (lambda x: jo.leafwise("mine", jo.EmptyState, rule=lambda g, p, h: x * g), 0.5),
}


@pytest.mark.usefixtures("only_what_is_new")
@pytest.mark.parametrize("name", TRACED)
def test_a_traced_option_does_not_leak(name):
    make, value = TRACED[name]

    def step(x):
        opt = make(x)
        return opt.update(P, opt.init(P), P)[0]

    with jax.checking_leaks():
        jax.jit(step)(value)


def rule_of(big):
    opt = jo.leafwise("mine", jo.EmptyState, rule=lambda g, p, h: g * big[0])
    jax.jit(opt.update)(P, opt.init(P))
    opt.update(P, opt.init(P))


def refresh_of(big):
    from jaxopt_ko.core.matrixwise import matrixwise
    from jaxopt_ko.optimizers.matrix.orthogonalization import Mean

    rule = lambda G, W, M, h: (G * big[0], M)  # noqa: E731
    opt = matrixwise("mine", Mean, init=lambda shape, dtype: (jnp.zeros(shape, dtype),), rule=rule)
    opt.update(P, opt.init(P))


def set_of(big):
    jo.projected_gradient(lambda x: jnp.clip(x, -big[0], big[0]))


def function_of(big):
    jo.minimize(lambda x: jnp.sum((x - big[:2]) ** 2), jnp.zeros(2))


@pytest.mark.usefixtures("only_what_is_new")
@pytest.mark.parametrize("use", [rule_of, refresh_of, set_of, function_of])
def test_an_array_that_a_users_function_holds_goes_with_it(use):
    alive = []
    for i in range(3):
        big = jnp.ones(1000) + i
        use(big)
        alive.append(weakref.ref(big))
        del big
    gc.collect()
    assert [ref() for ref in alive] == [None] * 3


def test_a_function_that_holds_an_array_is_compiled_once():
    compiled, center = [], jnp.ones(2)

    class Problem:
        def value(self, x, a):
            return jnp.sum((x - center - a) ** 2)

    held, problem = lambda x, a: jnp.sum((x - center - a) ** 2), Problem()
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    for fun in (held, problem.value):
        jo.minimize(fun, jnp.zeros(2), args=(1.0,))
        compiled.clear()
        for a in (2.0, 3.0):
            np.testing.assert_allclose(jo.minimize(fun, jnp.zeros(2), args=(a,)).params, 1 + a, rtol=1e-6)
        assert not compiled
    jax.monitoring.clear_event_listeners()


def test_equal_arguments_make_the_same_solver():
    for make in (jo.lbfgs, jo.bfgs, jo.newton, jo.levenberg_marquardt, jo.lbfgsb, jo.interior_point, jo.nonlinear_cg):
        assert make() is make()


def test_what_walks_closures_finds_the_hyperparameters():
    """equinox, and optimistix with it, makes a tree of an optimizer: another rate is another leaf, no other program."""
    internal = pytest.importorskip("equinox.internal")
    import equinox as eqx

    traces = []

    @eqx.filter_jit
    def step(opt, g):
        traces.append(1)
        init, update = opt
        return update(g, init(g), g)[0]

    g = {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}
    for make in (
        jo.adam,
        lambda rate: jo.sgd(rate, 0.9),
        lambda rate: jo.chain(jo.clip_by_global_norm(1.0), jo.rmsprop(rate)),
        lambda rate: jo.masked(jo.lion(rate), {"w": True, "b": False}),
        lambda rate: jo.muon(rate),
        lambda rate: jo.inject_hyperparams(jo.adam)(rate),
    ):
        traces.clear()
        ends = [step(internal.closure_to_pytree(tuple(make(jnp.float32(rate)))), g) for rate in (0.1, 0.2)]
        assert len(traces) == 1
        np.testing.assert_allclose(ends[1]["w"], 2 * ends[0]["w"], rtol=1e-5)
    ends = []
    for rate in (0.1, 0.2):
        schedules = jo.exponential_decay(jnp.float32(rate), 10, 0.5), jo.constant_schedule(jnp.float32(rate))
        ends += [(jo.sgd(schedules[0]), jo.inject_hyperparams(jo.sgd)(jo.join_schedules(schedules, [3])))]
    assert all(map(same_program, *ends))


def same_program(one, other):
    """Are two optimizers, as trees, one program with other arrays?"""
    import equinox as eqx
    import equinox.internal as internal

    trees = [internal.closure_to_pytree(opt) for opt in (one, other)]
    arrays, rest = zip(*(eqx.partition(opt, eqx.is_array) for opt in trees), strict=True)
    hash((jax.tree.structure(rest[0]), *jax.tree.leaves(rest[0])))
    same = jax.tree.structure(rest[0]) == jax.tree.structure(rest[1])
    differ = [bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, arrays), strict=True)]
    return same and jax.tree.leaves(rest[0]) == jax.tree.leaves(rest[1]) and any(differ)


@every("jit", lambda case: "learning_rate" in case.hypers and not case.words, parts=False)
def test_another_rate_is_another_leaf(case):
    """Nothing in the closures is a cycle, unhashable, or compared by identity."""
    pytest.importorskip("equinox")
    assert same_program(*(case(learning_rate=jnp.float32(rate)) for rate in (0.1, 0.2)))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda opt: jo.MultiSteps(opt, 2),
        lambda opt: jo.MultiSteps(opt, jnp.int32(2)).gradient_transformation(),
        lambda opt: jo.route(jo.Group("all", opt)),
        lambda opt: jo.named_chain(("clip", jo.clip_by_global_norm(jnp.float32(1.0))), ("rest", opt)),
        lambda opt: jo.partition({"a": opt, "b": jo.set_to_zero()}, lambda p: jax.tree.map(lambda _: "a", p)),
        jo.flatten,
    ],
)
def test_another_rate_is_another_leaf_within(wrap):
    pytest.importorskip("equinox")
    assert same_program(*(wrap(jo.sgd(jnp.float32(rate), 0.9)) for rate in (0.1, 0.2)))
