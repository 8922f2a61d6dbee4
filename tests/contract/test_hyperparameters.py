"""Every numeric hyperparameter may be a number, an array, traced, or a schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

import jaxopt_ko as jo
from cases import BY_NAME, assert_close, descend, every, loss, on_host, params_like, slope, walk_of, whole
from engines import engines_of, in_brief, in_full, inputs_read


def has_hypers(case):
    return bool(case.hypers)


def run(case, params, steps=3, **hypers):
    opt = whole(case, **hypers)
    carry, _ = jax.lax.scan(descend(opt), (params, opt.init(params)), None, steps)
    return carry


@every("hyperparameters", has_hypers)
def test_every_hyperparameter_is_read_traced_and_scheduled(case):
    """Traced abstractly: what two steps return depends on each."""
    params, words = params_like(), sorted(case.hypers)

    def two_steps(hypers):
        opt = whole(case, **hypers)
        carry = params, opt.init(params)
        for _ in range(2):  # no scan: all that is given to one counts as read
            carry, _ = descend(opt)(carry)
        return carry

    values = [jnp.asarray(case.hypers[k]) for k in words]
    traced = inputs_read(lambda *h: two_steps(dict(zip(words, h, strict=True))), *values)
    scheduled = inputs_read(
        lambda *h: two_steps({k: (lambda _, v=v: v) for k, v in zip(words, h, strict=True)}), *values
    )
    assert dict(zip(words, traced, strict=True)) == dict.fromkeys(words, True)
    assert dict(zip(words, scheduled, strict=True)) == dict.fromkeys(words, True)


@every("hyperparameters", lambda case: has_hypers(case) and in_full(case), parts=False)
def test_number_traced_schedule_and_vmap_agree(case):
    params, hypers = params_like(), dict(case.hypers)
    number = walk_of(case.name)[0]((params, whole(case).init(params)), 3)
    arrays = {k: jnp.asarray(v) for k, v in hypers.items()}
    scheduled = quick.jit(
        lambda: run(case, params, **{k: (lambda count, v=v: jnp.asarray(v)) for k, v in hypers.items()})
    )()
    # Where the rule has no count the state has one of the schedules; and for 1 - b**t the same sum.
    assert_close(scheduled[0], number[0], rtol=1e-5, atol=1e-6)
    # traced, two settings at once, each in either lane
    other = {k: v * 0.9 for k, v in arrays.items()}
    lanes = quick.jit(jax.vmap(lambda h: run(case, params, **h)))
    two = lambda a, b: on_host(lanes(jax.tree.map(lambda a, b: np.stack([a, b]), a, b)))  # noqa: E731
    here, there = two(arrays, other), two(other, arrays)
    for lane in (0, 1):
        alone = jax.tree.map(lambda x, lane=lane: x[lane], (here, there)[lane])
        assert jax.tree.structure(alone) == jax.tree.structure(number)
        assert_close(alone[0], number[0], rtol=1e-4, atol=2e-5)  # eigh by lanes rounds a root otherwise
        assert_close(*(jax.tree.map(lambda x, k=k: x[k], run) for k, run in ((1, here), (0, there))))


@every("grad", has_hypers, parts=False)
def test_gradients_through_five_steps_are_finite(case):
    """Also where a coordinate of the gradient is zero from the start."""

    def end(params, hypers):  # every coordinate counts, those at their minimum too
        return sum(jnp.sum(p) for p in jax.tree.leaves(run(case, params, steps=5, **hypers)[0]))

    params = {"w": params_like()["w"].at[0, 0].set(0.3), "v": jnp.ones(3)}  # at the minimum the gradient is zero
    if in_brief(case) and engines_of(case.name) <= {"leafwise", "leafwise with sums"}:
        del params["v"]  # each leaf is a program of its own, and one is enough to see a rule
    slopes = quick.jit(jax.grad(end, argnums=(0, 1)))(params, {k: jnp.asarray(v) for k, v in case.hypers.items()})
    assert all(np.all(np.isfinite(x)) for x in jax.tree.leaves(slopes))


@every(
    "grad", lambda case: case.name in ("sgd-momentum", "rmsprop", "adam", "nadam-schedule", "adagrad", "ema", "chain")
)
def test_gradient_through_hyperparameters_is_the_difference_quotient(case, x64):
    params = params_like(jnp.float64)
    end = jax.jit(lambda h: loss(run(case, params, **h)[0]))
    h = {k: jnp.asarray(v) for k, v in case.hypers.items()}
    slopes = quick.jit(jax.grad(end))(h)
    for name, value in h.items():
        if name in ("eps", "eps_root"):
            continue
        d = 1e-6 * max(abs(float(value)), 1e-2)
        quotient = (end({**h, name: value + d}) - end({**h, name: value - d})) / (2 * d)
        np.testing.assert_allclose(slopes[name], quotient, rtol=2e-5, atol=1e-8)


def test_twenty_learning_rates_through_one_compiled_step():
    traces = []

    @quick.jit
    def step(lr, carry):
        traces.append(1)
        return descend(jo.adam(lr))(carry)[0]

    params = params_like()
    ends = []
    for lr in np.geomspace(1e-4, 1e-1, 20):
        carry = (params, jo.adam(0.0).init(params))
        ends.append(step(jnp.float32(lr), carry)[0]["w"])
    assert len(traces) == 1
    assert len({float(w[0, 0]) for w in ends}) == 20


def test_eager_updates_share_one_compilation_across_instances():
    """A sweep in a Python loop must not compile each optimizer anew."""
    params = params_like()
    grads = slope(params)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    for i, lr in enumerate(np.linspace(0.01, 0.02, 5)):
        if i == 1:
            compiled.clear()
        opt = jo.adam(float(lr), b1=0.8 + lr)
        opt.update(grads, opt.init(params), params)
        inject = jo.inject_hyperparams(jo.adam)(float(lr))
        inject.update(grads, inject.init(params), params)
    jax.monitoring.clear_event_listeners()
    assert not compiled


def test_schedules_are_read_at_the_steps_before():
    """Step 1 uses schedule(0); b1, eps and the learning rate may all follow one."""
    seen = jo.sgd(lambda count: jnp.asarray(count, jnp.float32) + 1)
    g = jnp.ones(2)
    state = seen.init(g)
    for k in (1, 2, 3):
        u, state = seen.update(g, state)
        np.testing.assert_allclose(u, -k * np.ones(2))


def test_injected_hyperparameters_are_read_set_and_scheduled():
    params = {"w": jnp.ones(2)}
    opt = jo.inject_hyperparams(jo.adamw)(
        lambda count: 0.1 / (count + 1), mask=lambda p: jax.tree.map(lambda _: True, p)
    )
    state = opt.init(params)
    assert set(state.hyperparams) == {"learning_rate", "b1", "b2", "eps", "eps_root", "weight_decay"}
    for k in (1, 2):
        _, state = opt.update(params, state, params)
        np.testing.assert_allclose(state.hyperparams["learning_rate"], 0.1 / k, rtol=1e-6)
    sgd = jo.inject_hyperparams(jo.sgd)(0.1)
    state = sgd.init(params)
    state.hyperparams["learning_rate"] = 0.5
    u, _ = sgd.update(params, state)
    np.testing.assert_allclose(u["w"], -0.5)


@pytest.mark.parametrize("b", [0.0, 0.3])
@pytest.mark.parametrize("name", ["ema", "adam", "nadam", "amsgrad"])
def test_derivative_by_a_decay_of_zero(name, b, x64):
    """1 - b**t has the slope -1 at b = 0, t = 1."""
    make = {"ema": lambda b: jo.ema(b)}.get(name, lambda b: getattr(jo, name)(0.1, b1=b))
    g = [jnp.array([1.0, 2.0]), jnp.array([-0.5, 1.0]), jnp.array([3.0, 0.1])]

    def end(b):
        opt = make(b)
        state, total = opt.init(g[0]), 0.0
        for k, x in enumerate(g):
            u, state = opt.update(x, state, x)
            total += (k + 1) * jnp.sum(u)
        return total

    quotient = (-3 * end(b) + 4 * end(b + 1e-5) - end(b + 2e-5)) / 2e-5
    np.testing.assert_allclose(jax.grad(end)(b), quotient, rtol=1e-5, atol=1e-7)


def test_a_users_rule_follows_what_its_code_refers_to():
    """Two cells of a notebook with the same code and another global in between are two rules."""
    code = compile("opt = jo.leafwise('m', jo.ScaleByScheduleState, rule=lambda g, p, h: FACTOR * g)", "<cell>", "exec")
    for factor in (2.0, 3.0):
        namespace = {"jo": jo, "FACTOR": factor}
        exec(code, namespace)
        opt, g = namespace["opt"], jnp.ones(1)
        np.testing.assert_allclose(opt.update(g, opt.init(g))[0], factor)


def test_rules_that_differ_in_an_option_do_not_share_a_program():
    """Same code, other closure or default argument: another rule."""

    def times(factor):
        return jo.leafwise("times", jo.ScaleByScheduleState, rule=lambda g, p, h: factor * g)

    def default(factor):
        return jo.leafwise("times", jo.ScaleByScheduleState, rule=lambda g, p, h, factor=factor: factor * g)

    g = jnp.ones(2)
    for make in (times, default):
        for factor in (1, 2.0, 3.0, np.float32(4.0), jnp.float32(5.0)):
            opt = make(factor)
            np.testing.assert_allclose(opt.update(g, opt.init(g))[0], float(factor))


def test_injected_keyword_arguments_of_a_lambda():
    opt = jo.inject_hyperparams(lambda **options: jo.adam(**options))(learning_rate=0.1, nesterov=True)
    state = opt.init({"w": jnp.ones(2)})
    assert set(state.hyperparams) == {"learning_rate"}
    opt.update({"w": jnp.ones(2)}, state)


STEADY = {
    "adam": ("b1", "b2"), "adamw": ("b1", "b2"), "adamax": ("b1",), "amsgrad": ("b1", "b2"), "adan": ("b1", "b2", "b3"),
    "lamb": ("b1", "b2"), "ademamix": ("b1", "b2"), "simplified_ademamix": ("b2",), "rmsprop-corrected": ("decay",),
    "ema": ("decay",), "momo_adam": ("b1", "b2"), "sophia": ("b1",), "muon": ("beta",), "soap": ("b1", "b2"),
    "shampoo": ("b2",), "psgd_kron": ("b1",), "apollo": ("b1", "b2"), "normuon": ("b1",),
    "optimistic_adam_v2": ("b1", "b2"),
}  # fmt: skip
# without what looks at the way: new bases, a limit of growth, Nesterov's step ahead
STEADIER = {
    "soap": {"precondition_frequency": 100, "eps": 1e-12, "max_precondition_dim": 2},  # a basis that G spans
    "apollo": {"gamma": float("inf"), "update_proj_gap": 100},
    "optimistic_adam_v2": {"nesterov": False},
}


@pytest.mark.parametrize("name", STEADY)
def test_a_scheduled_decay_is_divided_by_the_weight_it_has_gathered(name):
    """Of a gradient that never changes every corrected mean is that gradient, whatever its decay did on the way."""
    case, params = BY_NAME[name], params_like()
    words = {"value": jnp.float32(3.0)} if name == "momo_adam" else {}
    if name == "sophia":
        words = {"obj_fn": loss}

    def steps(opt):
        g = jax.tree.map(lambda p: p + 0.5, params)
        return jax.lax.scan(lambda s, _: opt.update(g, s, params, **words)[::-1], opt.init(params), None, 6)[1]

    decays = jnp.float32([0.0, 0.3, 0.0, 0.9, 0.5, 0.99])
    scheduled = {key: (lambda t: decays[jnp.minimum(t, 5)]) for key in STEADY[name]}
    make = functools.partial(case.factory, **{**case.hypers, **case.options, **STEADIER.get(name, {})})
    both = quick.jit(lambda: (steps(make()), steps(make(**scheduled))))()
    assert_close(both[1], both[0], rtol=1e-4, atol=1e-6)


def test_debiasing_by_what_is_gathered_in_numbers():
    """Adam's steps on a gradient of 1, by a decay that is 0 at first and .9 then; in chains, masks and injected."""
    b1 = lambda t: jnp.where(t < 3, 0.0, 0.9)  # noqa: E731

    def run(opt, params):
        state, seen = opt.init(params), []
        for _ in range(6):
            u, state = opt.update(jax.tree.map(jnp.ones_like, params), state, params)
            seen.append(jax.tree.leaves(u)[0])
        return np.ravel(seen)

    adam = jo.adam(1.0, b1=b1, eps=0.0)
    for opt in (adam, jo.chain(jo.clip(9.0), adam), jo.masked(adam, {"w": True}), jo.named_chain(("a", adam))):
        np.testing.assert_allclose(run(opt, {"w": jnp.ones(1)}), -1, rtol=1e-6)
    # a direction that skips steps debiases by those that it took: MultiSteps counts its own
    every = jo.MultiSteps(adam, 2).gradient_transformation()
    np.testing.assert_allclose(run(every, {"w": jnp.ones(1)}), [0, -1, 0, -1, 0, -1], rtol=1e-6)
    # NAdam of torch has a product of its own; acprop divides by the weight before this step
    u = run(jo.scale_by_acprop(b2=b1, eps=0.0, eps_root=0.0), {"w": jnp.ones(1)})
    assert np.all(np.isfinite(u[:2]))
