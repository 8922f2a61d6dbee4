"""Schedules against optax (in float64), against their published formulas, and against bad input.

A case is the keyword arguments of one schedule; its floats are also traced: vmapped over and differentiated.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_ko import errors
from jaxopt_ko import schedules as jo

STEPS = np.r_[0:131, 1000, 10**6, 2**31 - 1].astype(np.int32)


# ---- cases ----------------------------------------------------------------------------------------------

LINE = {"init_value": 0.1, "end_value": 1.0, "transition_steps": 100}
DECAY = {"init_value": 0.5, "transition_steps": 10, "decay_rate": 0.9}
WARM = {"init_value": 0.01, "peak_value": 0.8, "warmup_steps": 20}
PIECES = [
    {"init_value": 0.5, "boundaries_and_scales": {30: 0.5, 60: 3.0}},
    {"init_value": 0.5, "boundaries_and_scales": {60: 0.1, 7: 2.0, 8: 0.3}},
    {"init_value": 0.5, "boundaries_and_scales": {0: 0.5, 20: 0.0}},
    {"init_value": 0.5, "boundaries_and_scales": {}},
    {"init_value": 0.5, "boundaries_and_scales": None},
]
CYCLES = [
    {"init_value": 0.01, "peak_value": 0.5, "warmup_steps": 5, "decay_steps": 40},
    {"init_value": 0.0, "peak_value": 0.3, "warmup_steps": 0, "decay_steps": 1, "exponent": 2.0},
    {"init_value": 0.1, "peak_value": 0.25, "warmup_steps": 10, "decay_steps": 60, "end_value": 0.05},
]
IN_OPTAX = {
    "constant_schedule": [{"value": 0.3}],
    "linear_schedule": [
        LINE,
        LINE | {"end_value": 0.0, "transition_begin": 7},
        LINE | {"transition_steps": 0, "transition_begin": 7},
        LINE | {"transition_steps": 1},
    ],
    "polynomial_schedule": [
        LINE | {"power": 2.0},
        LINE | {"power": 0.5, "transition_begin": 7},
        LINE | {"power": 0.5, "transition_steps": 0},
    ],
    "exponential_decay": [
        DECAY,
        DECAY | {"staircase": True, "transition_begin": 5},
        DECAY | {"transition_begin": 5, "end_value": 0.2},
        DECAY | {"decay_rate": 1.1, "end_value": 1.3},
        DECAY | {"transition_steps": 0},
    ],
    "piecewise_constant_schedule": PIECES,
    "piecewise_interpolate_schedule": [
        case | {"interpolate_type": kind} for kind in ("linear", "cosine") for case in PIECES
    ],
    "cosine_decay_schedule": [
        {"init_value": 0.5, "decay_steps": 100},
        {"init_value": 0.5, "decay_steps": 100, "alpha": 0.1, "exponent": 0.5},
        {"init_value": 0.5, "decay_steps": 99, "alpha": 1.5, "exponent": 2.0},
        {"init_value": 0.5, "decay_steps": 1},
    ],
    "warmup_constant_schedule": [WARM, WARM | {"warmup_steps": 1}],
    "warmup_cosine_decay_schedule": [
        WARM | {"decay_steps": 100},
        WARM | {"decay_steps": 100, "end_value": 0.1, "exponent": 0.5},
        WARM | {"decay_steps": 100, "warmup_steps": 0},
        WARM | {"decay_steps": 21},
    ],
    "warmup_exponential_decay_schedule": [
        WARM | DECAY | {"init_value": 0.0},
        WARM | DECAY | {"warmup_steps": 0, "transition_begin": 5, "staircase": True},
        WARM | DECAY | {"transition_begin": 5, "end_value": 0.3},
    ],
    "linear_onecycle_schedule": [
        {"transition_steps": 100, "peak_value": 0.5},
        {"transition_steps": 100, "peak_value": 0.5, "pct_start": 0.29, "pct_final": 0.57, "final_div_factor": 10.0},
        {"transition_steps": 3, "peak_value": 0.5, "div_factor": 2.0},
    ],
    "cosine_onecycle_schedule": [
        {"transition_steps": 100, "peak_value": 0.5},
        {"transition_steps": 70, "peak_value": 0.5, "pct_start": 0.29, "div_factor": 2.0},
        {"transition_steps": 1, "peak_value": 0.5},
    ],
    "sgdr_schedule": [{"cosine_kwargs": CYCLES}, {"cosine_kwargs": CYCLES[:1]}],
}
STABLE = WARM | {"stable_steps": 30, "decay_steps": 50}
OURS = {
    "inverse_time_decay": [
        DECAY,
        DECAY | {"staircase": True, "transition_begin": 5, "end_value": 0.1},
        DECAY | {"transition_steps": 0},
    ],
    "inverse_sqrt_schedule": [WARM, WARM | {"warmup_steps": 0}],
    "warmup_stable_decay_schedule": [
        STABLE | {"decay": "sqrt", "end_value": 0.1},
        STABLE | {"decay": "cosine", "warmup_steps": 0, "stable_steps": 0},
        STABLE | {"decay_steps": 1},
    ],
    "power_cooldown": [
        {"peak_value": 0.5, "c": 0.005, "total_steps": 120},
        {"peak_value": 0.5, "c": 0.1, "total_steps": 60, "power": 0.5},
    ],
    "one_minus_sqrt": [
        {"peak_value": 0.5, "total_steps": 100},
        {"peak_value": 0.5, "total_steps": 100, "warmup_steps": 20, "end_value": 0.1},
    ],
    "fast_slow_decay": [
        {
            "peak_value": 0.5,
            "floor_value": 0.1,
            "warmup_steps": 10,
            "stable_steps": 10,
            "fast_steps": 40,
            "slow_steps": 50,
        },
        {
            "peak_value": 0.5,
            "floor_value": 0.2,
            "warmup_steps": 0,
            "stable_steps": 0,
            "fast_steps": 0,
            "slow_steps": 50,
            "power": 2.0,
            "end_value": 0.1,
        },
        {
            "peak_value": 0.5,
            "floor_value": 0.2,
            "warmup_steps": 1,
            "stable_steps": 0,
            "fast_steps": 30,
            "slow_steps": 1,
        },
    ],
    "momentum_warmup_cooldown": [
        {"total_steps": 120, "low": 0.85, "high": 0.95, "warmup_steps": 30, "cooldown_steps": 20},
        {"total_steps": 50, "low": 0.85, "high": 0.95, "warmup_steps": 0, "cooldown_steps": 0},
    ],
    "rewarm": [{"schedule": 0.5, "at": 7, "steps": 20}, {"schedule": 0.5, "at": 0, "steps": 1}],
}
# where optax is wrong, and its parity is not asked for; but jit, vmap and grad are
EDGES = {
    "warmup_constant_schedule": [WARM | {"warmup_steps": 0}],
    "linear_onecycle_schedule": [{"transition_steps": 1, "peak_value": 0.5}],
    "warmup_cosine_decay_schedule": [WARM | {"decay_steps": 100, "peak_value": 0.0, "end_value": 0.1}],
    "exponential_decay": [DECAY | {"decay_rate": 8.0, "end_value": 1.3, "transition_steps": 1}],
    "join_schedules": [],
}


def named(*tables):
    rows = [(name, case) for table in tables for name, cases in table.items() for case in cases]
    ids = [f"{name}-{i}" for i, (name, _) in enumerate(rows)]
    return pytest.mark.parametrize(("name", "case"), rows, ids=ids)


def values(schedule, steps=STEPS, jit=jax.jit):
    """The schedule at all steps, in one compiled call."""
    return np.asarray(jit(jax.vmap(schedule))(jnp.asarray(steps)))


def optax_values(name, *args, steps=STEPS, **case):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        # For int32 steps optax computes in float32, x64 or not. By XLA's older kernels its polynomial_schedule of a
        # power below 1 is NaN from the end on: 1 - t / T is rounded to less than 0 there.
        return values(getattr(optax, name)(*args, **case), steps.astype(np.int64), quick.exact)


def traced(name, case):
    """The floats of a case, and the function (floats, step) -> value; fractions of the length stay static."""
    flat, structure = jax.tree_util.tree_flatten_with_path(case)
    free = [isinstance(leaf, float) and "pct" not in jax.tree_util.keystr(path) for path, leaf in flat]

    def value(floats, step):
        floats = iter(floats)
        leaves = [next(floats) if f else leaf for f, (_, leaf) in zip(free, flat, strict=True)]
        return getattr(jo, name)(**jax.tree.unflatten(structure, leaves))(step)

    return [leaf for f, (_, leaf) in zip(free, flat, strict=True) if f], value


def same(got, want, tolerance=1e-12):
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# ---- the same as optax ----------------------------------------------------------------------------------


def test_every_schedule_has_a_case():
    public = {name for name, f in vars(jo).items() if inspect.isfunction(f) and hasattr(f, "__wrapped__")}
    assert public == IN_OPTAX.keys() | OURS.keys() | EDGES.keys()


def test_every_name_of_optax_is_here():
    names = {name for name in dir(optax.schedules) if not name.startswith("_")}
    old = {"InjectHyperparamsState", "inject_stateful_hyperparams"}  # deprecated there
    stateful = {"StatefulSchedule", "WrappedSchedule"}
    assert {name for name in names if not hasattr(jo, name)} <= old | stateful


@pytest.mark.parametrize("name", [*IN_OPTAX, "join_schedules"])
def test_signature_is_optax(name):
    ours, theirs = (
        [(p.name, p.kind, p.default) for p in inspect.signature(getattr(module, name)).parameters.values()]
        for module in (jo, optax)
    )
    assert ours == theirs


@named(IN_OPTAX)
def test_equals_optax(x64, name, case):
    ours = values(getattr(jo, name)(**case))
    assert ours.dtype == np.float64
    same(ours, optax_values(name, **case))


def test_join_equals_optax(x64):
    def parts(lib):
        return [lib.linear_schedule(0.0, 1.0, 10), lib.constant_schedule(0.7), lib.exponential_decay(1.0, 5, 0.9)]

    same(values(jo.join_schedules(parts(jo), [12, 50])), optax_values("join_schedules", parts(optax), [12, 50]))
    same(values(jo.join_schedules(parts(jo)[:1], [])), optax_values("join_schedules", parts(optax)[:1], []))


# ---- where optax is wrong -------------------------------------------------------------------------------


def test_no_warmup_means_peak_at_once():
    assert np.all(values(jo.warmup_constant_schedule(0.0, 0.5, 0)) == 0.5)
    assert np.all(optax_values("warmup_constant_schedule", 0.0, 0.5, 0) == 0.0)  # for ever


def test_end_value_holds_for_a_peak_of_zero():
    args = (1.0, 0.0, 5, 10, 0.25)
    assert values(jo.warmup_cosine_decay_schedule(*args))[10] == 0.25
    assert optax_values("warmup_cosine_decay_schedule", *args)[10] == 0.0


def test_onecycle_keeps_boundaries_that_coincide(x64):
    case = {"transition_steps": 10, "peak_value": 1.0, "pct_start": 0.3, "pct_final": 0.35, "final_div_factor": 100.0}
    same(values(jo.linear_onecycle_schedule(**case))[[0, 3, 10]], [0.04, 0.04, 0.0004])
    same(optax_values("linear_onecycle_schedule", **case)[10], 0.0004 / 25)  # one key of two in its dict


def test_staircase_counts_in_integers():
    step = np.array([2**25 - 1, 2**25], np.int32)
    assert values(jo.exponential_decay(1.0, 2**25, 0.5, staircase=True), step).tolist() == [1.0, 0.5]
    assert optax_values("exponential_decay", 1.0, 2**25, 0.5, staircase=True, steps=step).tolist() == [0.5, 0.5]


def test_small_values_next_to_large_ones_keep_their_digits():
    assert values(jo.linear_schedule(1e-8, 1.0, 100))[0] == np.float32(1e-8)
    assert optax_values("linear_schedule", 1e-8, 1.0, 100)[0] == 0.0
    million = values(jo.linear_schedule(0.0, 1.0, 10**6))[:131]
    np.testing.assert_allclose(million, np.arange(131) / 1e6, rtol=1e-6)
    assert abs(optax_values("linear_schedule", 0.0, 1.0, 10**6)[1] / 1e-6 - 1) > 0.01


def test_growth_past_its_bound_has_finite_gradients():
    def at_500(module):
        return jax.grad(lambda init: module.exponential_decay(init, 1, 2.0, end_value=9.0)(500))(1.0)

    assert at_500(jo) == 0.0
    with jax.numpy_dtype_promotion("standard"):
        assert np.isnan(at_500(optax))


def test_joined_schedules_are_asked_for_their_own_steps_only():
    asked = []
    parts = [lambda step, i=i: asked.append((i, int(step))) or 1.0 for i in range(3)]
    for step in range(7):
        jo.join_schedules(parts, [2, 5])(step)
    assert set(asked) == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)}

    def root(module):  # sqrt has no derivative at the steps before its own
        rate = lambda c: module.join_schedules([lambda t: 1.0, lambda t: jnp.sqrt(c * t + 1.0)], [5])(0)  # noqa: E731
        return jax.grad(rate)(1.0)

    assert root(jo) == 0.0
    assert np.isnan(root(optax))


def test_surplus_schedules_are_refused():
    parts = [jo.constant_schedule(v) for v in (1.0, 2.0, 3.0)]
    assert optax.join_schedules(parts, [10])(10**6) == 2.0  # the third is never reached
    with pytest.raises(errors.HyperparameterError, match=r"join_schedules: .*of 3\. Got boundaries=\[10\]"):
        jo.join_schedules(parts, [10])


# ---- published formulas ---------------------------------------------------------------------------------

T = STEPS.astype(np.float64)


def test_inverse_time_decay(x64):
    same(values(jo.inverse_time_decay(0.5, 10, 0.9)), 0.5 / (1 + 0.9 * T / 10))
    n = np.maximum(STEPS.astype(np.int64) - 5, 0) // 10
    same(values(jo.inverse_time_decay(0.5, 10, 0.9, 5, True, 0.1)), np.maximum(0.5 / (1 + 0.9 * n), 0.1))
    assert np.all(values(jo.inverse_time_decay(0.5, 0, 0.9)) == 0.5)


def test_inverse_sqrt_is_vaswani_equation_3(x64):
    d_model, warmup = 512, 40
    peak = (d_model * warmup) ** -0.5
    t = T[1:]
    want = d_model**-0.5 * np.minimum(t**-0.5, t * warmup**-1.5)
    same(values(jo.inverse_sqrt_schedule(peak, warmup))[1:], want)
    same(values(jo.inverse_sqrt_schedule(0.3, 0)), 0.3 / np.sqrt(np.maximum(T, 1)))


@pytest.mark.parametrize(
    ("decay", "f"),
    [
        ("linear", lambda s: 1 - s),
        ("cosine", lambda s: (1 + np.cos(np.pi * s)) / 2),
        ("sqrt", lambda s: 1 - np.sqrt(s)),
    ],
)
def test_warmup_stable_decay(x64, decay, f):
    got = values(jo.warmup_stable_decay_schedule(0.01, 0.8, 20, 30, 50, 0.1, decay))
    fall = 0.1 + 0.7 * f(np.clip((T - 50) / 50, 0, 1))
    same(got, np.where(T < 20, 0.01 + 0.79 * T / 20, fall))
    assert np.all(got[20:51] == 0.8) and np.all(got[100:] == 0.1)


def test_power_cooldown(x64):
    """`_lr` of modded-nanogpt's record #46."""
    want = np.minimum(0.0375, 3e-4 * np.maximum(0.0, 100 - T) ** 1.2)
    got = values(jo.power_cooldown(0.0375, 3e-4, 100))
    same(got, want)
    assert np.sum(got == 0.0375) > 10 and np.all(got[100:] == 0)
    slopes = jax.vmap(jax.grad(lambda p, t: jo.power_cooldown(0.5, 0.01, 100, p)(t)), (None, 0))(1.2, jnp.arange(130))
    assert np.isfinite(slopes).all()


def test_one_minus_sqrt(x64):
    """Pull request #343: eta = 1 - sqrt((step - warmup) / (total - warmup)) behind the warmup."""
    part = np.clip((T - 20) / 80, 0, 1)
    got = values(jo.one_minus_sqrt(0.03, 100, 20))
    same(got, np.where(T < 20, 0.03 * (T + 1) / 20, 0.03 * (1 - np.sqrt(part))))
    same(values(jo.one_minus_sqrt(0.03, 100, end_value=0.01)), 0.01 + 0.02 * (1 - np.sqrt(np.clip(T / 100, 0, 1))))
    with pytest.raises(errors.HyperparameterError, match="warmup_steps must be less than total_steps"):
        jo.one_minus_sqrt(0.03, 100, 100)


def test_fast_slow_decay(x64):
    """Pull request #351, its run of 3,125 steps."""
    t = np.arange(3200.0)
    fast = 0.030 + (0.006 - 0.030) * np.clip((t - 200) / (1750 - 200), 0, 1) ** 0.6
    slow = 0.006 * (1 - np.clip((t - 1750) / (3125 - 1750), 0, 1))
    want = np.select([t < 100, t < 200, t < 1750], [0.030 * (t + 1) / 100, 0.030, fast], slow)
    same(values(jo.fast_slow_decay(0.030, 0.006, 100, 100, 1550, 1375), t.astype(np.int32)), want)


def test_momentum_warmup_cooldown(x64):
    """`_muon_mu_at_step` of modded-nanogpt's record #46."""
    t = np.arange(3000.0)
    up, down = 0.85 + t / 300 * (0.95 - 0.85), 0.95 - np.minimum((t - 2700) / 200, 1) * (0.95 - 0.85)
    want = np.select([t < 300, t > 2700], [up, down], 0.95)
    same(values(jo.momentum_warmup_cooldown(2900), t.astype(np.int32)), want)
    with pytest.raises(errors.HyperparameterError, match="total_steps"):
        jo.momentum_warmup_cooldown(400)


def test_rewarm_rises_from_a_part_to_the_schedule():
    curve = jo.exponential_decay(0.5, 10, 0.9)
    got, want = values(jo.rewarm(curve, at=30, steps=8)), values(curve)
    part = np.ones_like(want)
    part[30:38] = np.arange(1, 9, dtype=np.float32) / 8
    np.testing.assert_array_equal(got, part * want)
    np.testing.assert_array_equal(got[37:], want[37:])
    np.testing.assert_array_equal(values(jo.rewarm(curve, at=30, steps=1)), want)
    np.testing.assert_array_equal(values(jo.rewarm(curve, at=10**10, steps=8)), want)  # no int32 step comes so far


def test_rewarm_begins_where_a_count_says():
    """A saved count is an array, in a jitted function a traced one."""
    curve = jo.linear_schedule(0.5, 0.1, 60)
    want = values(jo.rewarm(curve, 30, 8))
    traced = jax.jit(lambda at: jax.vmap(jo.rewarm(curve, at, 8))(jnp.asarray(STEPS)))
    for at in (jnp.int32(30), np.int64(30), 30.0):
        np.testing.assert_array_equal(values(jo.rewarm(curve, at, 8)), want)
        np.testing.assert_allclose(traced(at), want, rtol=1e-6)
    with pytest.raises(errors.HyperparameterTypeError, match="rewarm: the schedule's value must be a real number"):
        jo.rewarm(lambda t: "0.1", 3, 8)(0)


# ---- under jit, vmap and grad ---------------------------------------------------------------------------


@named(IN_OPTAX, OURS, EDGES)
def test_float32_scalar_from_any_integer(name, case):
    schedule = getattr(jo, name)(**case)
    compiled = values(schedule)
    assert compiled.dtype == np.float32 and compiled.shape == STEPS.shape and np.all(np.isfinite(compiled))
    for i in (0, 21, -1):
        for step in (int(STEPS[i]), jnp.int32(STEPS[i]), np.int64(STEPS[i]), jnp.uint32(STEPS[i])):
            value = schedule(step)
            assert isinstance(value, jax.Array) and value.shape == () and value.dtype == np.float32
            assert not value.weak_type
            np.testing.assert_allclose(value, compiled[i], rtol=2e-6, atol=1e-9)
    np.testing.assert_allclose(schedule(jnp.asarray(STEPS)), compiled, rtol=2e-6, atol=1e-9)  # as for a plot


@named(IN_OPTAX, OURS, EDGES)
def test_values_may_be_traced(x64, name, case):
    floats, value = traced(name, case)

    @jax.jit
    def sweep(lanes, floats, steps):
        swept = jax.vmap(jax.vmap(value, (None, 0)), (0, None))(lanes, steps)
        return swept, jax.vmap(jax.grad(value), (None, 0))(floats, steps)

    lanes = [x + np.array([0.0, -1e-6, 1e-6]) for x in floats]
    (here, below, above), gradients = sweep(lanes, floats, STEPS)
    same(here, getattr(jo, name)(**case)(jnp.asarray(STEPS)))
    assert all(np.all(np.isfinite(g)) for g in gradients)
    np.testing.assert_allclose(sum(gradients), (above - below) / 2e-6, rtol=1e-5, atol=1e-7)


def test_traced_values_pass_unchecked():
    @jax.jit
    def value(x):
        return jo.polynomial_schedule(x, x, x, 10)(3) + jo.exponential_decay(x, 10, x)(3)

    assert np.isnan(value(jnp.nan))
    with pytest.raises(errors.HyperparameterTypeError, match=r"transition_steps must be a static whole number"):
        jax.jit(lambda n: jo.linear_schedule(1.0, 0.0, n)(3))(5)
    with pytest.raises(errors.HyperparameterTypeError, match="pct_start must be one static number"):
        jax.jit(lambda x: jo.cosine_onecycle_schedule(10, 1.0, x)(3))(0.5)


def test_a_schedule_made_inside_jit_and_scanned():
    ten = jnp.int32(10)  # concrete

    @jax.jit
    def run(peak):
        schedule = jo.warmup_cosine_decay_schedule(jnp.float32(0.0), peak, np.int64(3), ten)
        return jax.lax.scan(lambda t, _: (t + np.int32(1), schedule(t)), jnp.int32(0), length=12)[1]

    np.testing.assert_allclose(run(0.5), values(jo.warmup_cosine_decay_schedule(0.0, 0.5, 3, 10))[:12], atol=1e-7)


def test_low_precision_values_give_float32():
    value = jo.cosine_decay_schedule(jnp.bfloat16(0.5), 100, alpha=jnp.float16(0.5))(50)
    assert value.dtype == np.float32 and value == 0.375


def test_constant_may_be_infinite():
    clip = jo.join_schedules([jo.constant_schedule(jnp.inf), jo.constant_schedule(1.0)], [10])
    assert values(clip)[[0, 9, 10]].tolist() == [np.inf, np.inf, 1.0]


BILLION = 10**9


@pytest.mark.parametrize(
    "schedule",
    [
        jo.piecewise_constant_schedule(1.0, {BILLION: 0.0}),
        jo.join_schedules([jo.constant_schedule(1.0), jo.constant_schedule(0.0)], [BILLION]),
        jo.exponential_decay(1.0, BILLION, 1e-30, staircase=True),
        jo.linear_schedule(1.0, 0.0, 1, BILLION - 1),
        jo.warmup_stable_decay_schedule(0.0, 1.0, 5, BILLION - 6, 1),
    ],
)
def test_large_steps_are_exact(schedule):
    got = values(schedule, np.array([BILLION - 2, BILLION - 1, BILLION, BILLION + 1], np.int32))
    np.testing.assert_allclose(got, [1.0, 1.0, 0.0, 0.0], atol=1e-9)


# ---- bad input ------------------------------------------------------------------------------------------

VALUE, KIND = errors.HyperparameterError, errors.HyperparameterTypeError
GOOD = {name: cases[0] for name, cases in (IN_OPTAX | OURS).items()} | {
    "join_schedules": {"schedules": [jo.constant_schedule(1.0)] * 3, "boundaries": [10, 20]}
}
NUMBERS = {
    *("value", "init_value", "end_value", "peak_value", "alpha"),
    *("power", "exponent", "decay_rate", "div_factor", "final_div_factor"),
}
COUNTS = {"transition_steps", "transition_begin", "warmup_steps", "decay_steps", "stable_steps"}
NONE_BELOW = {  # a negative count is none, as in optax
    (name, argument)
    for name in ("linear_schedule", "polynomial_schedule", "exponential_decay", "inverse_time_decay",
                 "warmup_exponential_decay_schedule")
    for argument in ("transition_steps", "transition_begin")
}  # fmt: skip
REFUSED = [
    # every number of every schedule
    *(
        (name, {argument: bad}, kind, f"Got {argument}={bad!r}")
        for name in GOOD
        for argument in inspect.signature(getattr(jo, name)).parameters
        if argument in NUMBERS
        for bad, kind in [(None, KIND), ("0.1", KIND), (True, KIND), (1j, KIND), (float("nan"), VALUE)]
        if bad is not None or inspect.signature(getattr(jo, name)).parameters[argument].default is not None
    ),
    # every step count of every schedule
    *(
        (name, {argument: bad}, kind, f"Got {argument}={bad!r}")
        for name in GOOD
        for argument in inspect.signature(getattr(jo, name)).parameters
        if argument in COUNTS
        for bad, kind in [(-1, VALUE), *((b, KIND) for b in (2.5, float("inf"), True, "5", None))]
        if bad != -1 or (name, argument) not in NONE_BELOW
    ),
    ("rewarm", {"schedule": "cosine"}, KIND, "schedule='cosine'"),
    *(("rewarm", {"at": bad}, kind, f"at={bad!r}") for bad, kind in [(-1, VALUE), (2.5, VALUE), ("3", KIND)]),
    *(("rewarm", {"steps": bad}, kind, f"steps={bad!r}") for bad, kind in [(0, VALUE), (2.5, KIND), (None, KIND)]),
    ("linear_schedule", {"init_value": np.ones(3)}, KIND, "array([1., 1., 1.])"),
    ("linear_schedule", {"init_value": float("inf")}, VALUE, "inf"),
    ("linear_schedule", {"init_value": jo.constant_schedule(1.0)}, KIND, "function"),
    ("polynomial_schedule", {"power": 0.0}, VALUE, "power=0.0"),
    ("polynomial_schedule", {"power": -1.0}, VALUE, "power=-1.0"),
    ("cosine_decay_schedule", {"decay_steps": 0}, VALUE, "decay_steps=0"),
    ("cosine_decay_schedule", {"exponent": 0.0}, VALUE, "exponent=0.0"),
    ("exponential_decay", {"decay_rate": 0.0}, VALUE, "decay_rate=0.0"),
    ("exponential_decay", {"decay_rate": -0.5}, VALUE, "decay_rate=-0.5"),
    ("exponential_decay", {"end_value": float("nan")}, VALUE, "end_value=nan"),
    ("inverse_time_decay", {"decay_rate": -0.5}, VALUE, "decay_rate=-0.5"),
    ("warmup_exponential_decay_schedule", {"decay_rate": 0.0}, VALUE, "decay_rate=0.0"),
    ("warmup_cosine_decay_schedule", {"warmup_steps": 100}, VALUE, "decay_steps=100"),
    ("warmup_cosine_decay_schedule", {"warmup_steps": 101}, VALUE, "warmup_steps=101"),
    ("warmup_cosine_decay_schedule", {"decay_steps": 0}, VALUE, "decay_steps=0"),
    ("warmup_stable_decay_schedule", {"decay_steps": 0}, VALUE, "decay_steps=0"),
    ("warmup_stable_decay_schedule", {"decay": "exp"}, VALUE, "decay='exp'"),
    ("piecewise_constant_schedule", {"boundaries_and_scales": [(5, 0.1)]}, KIND, "[(5, 0.1)]"),
    ("piecewise_constant_schedule", {"boundaries_and_scales": {-5: 0.1}}, VALUE, "-5"),
    ("piecewise_constant_schedule", {"boundaries_and_scales": {5.5: 0.1}}, KIND, "5.5"),
    ("piecewise_constant_schedule", {"boundaries_and_scales": {5: -0.1}}, VALUE, "-0.1"),
    ("piecewise_constant_schedule", {"boundaries_and_scales": {5: None}}, KIND, "None"),
    ("piecewise_interpolate_schedule", {"boundaries_and_scales": {"5": 0.1}}, KIND, "'5'"),
    ("piecewise_interpolate_schedule", {"interpolate_type": "cubic"}, VALUE, "'cubic'"),
    ("piecewise_interpolate_schedule", {"interpolate_type": None}, VALUE, "None"),
    *(
        (f"{kind}_onecycle_schedule", {argument: bad}, VALUE, f"{argument}={bad}")
        for kind in ("linear", "cosine")
        for argument, bad in [
            ("transition_steps", 0), ("pct_start", 0.0), ("pct_start", 1.0), ("pct_start", float("nan")),
            ("div_factor", 0.0), ("final_div_factor", -1.0),
        ]
    ),
    ("linear_onecycle_schedule", {"pct_final": 0.3}, VALUE, "pct_final=0.3"),
    ("linear_onecycle_schedule", {"pct_final": 0.2}, VALUE, "pct_final=0.2"),
    ("linear_onecycle_schedule", {"pct_final": 1.0}, VALUE, "pct_final=1.0"),
    ("linear_onecycle_schedule", {"pct_start": "0.3"}, KIND, "'0.3'"),
    ("sgdr_schedule", {"cosine_kwargs": []}, VALUE, "[]"),
    ("sgdr_schedule", {"cosine_kwargs": 5}, KIND, "5"),
    ("sgdr_schedule", {"cosine_kwargs": CYCLES[0]}, KIND, "init_value"),
    ("sgdr_schedule", {"cosine_kwargs": [CYCLES[0], {"peak_value": 1.0}]}, KIND, "cosine_kwargs[1]"),
    ("sgdr_schedule", {"cosine_kwargs": [CYCLES[0] | {"decay": 1.0}]}, KIND, "'decay'"),
    ("sgdr_schedule", {"cosine_kwargs": [CYCLES[0], CYCLES[0] | {"warmup_steps": 41}]}, VALUE, "warmup_steps=41"),
    ("sgdr_schedule", {"cosine_kwargs": [CYCLES[0] | {"peak_value": None}]}, KIND, "peak_value=None"),
    ("join_schedules", {"schedules": []}, VALUE, "[10, 20]"),
    ("join_schedules", {"schedules": [], "boundaries": []}, VALUE, "[]"),
    ("join_schedules", {"boundaries": [10]}, VALUE, "[10]"),
    ("join_schedules", {"boundaries": [10, 20, 30]}, VALUE, "[10, 20, 30]"),
    ("join_schedules", {"boundaries": [20, 10]}, VALUE, "[20, 10]"),
    ("join_schedules", {"boundaries": [10, 10]}, VALUE, "[10, 10]"),
    ("join_schedules", {"boundaries": [-1, 10]}, VALUE, "boundaries[0]=-1"),
    ("join_schedules", {"boundaries": [10, 20.5]}, KIND, "boundaries[1]=20.5"),
    ("join_schedules", {"boundaries": 10}, KIND, "10"),
    ("join_schedules", {"schedules": jo.constant_schedule(1.0)}, KIND, "function"),
    ("join_schedules", {"schedules": [jo.constant_schedule(1.0), 0.1, None]}, KIND, "schedules[1]=0.1"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "wrong", "kind", "got"), REFUSED)
def test_bad_input_is_refused_when_the_schedule_is_made(name, wrong, kind, got):
    with pytest.raises(errors.HyperparameterError) as caught:
        getattr(jo, name)(**(GOOD[name] | wrong))
    message = str(caught.value)
    assert type(caught.value) is kind
    assert message.startswith(f"{name}: ") and got in message
    assert message.count(". ") >= 2  # what was wrong. Got what. Do what.


def test_schedules_that_return_no_number_are_refused():
    with pytest.raises(KIND, match=r"join_schedules: .* a real number\. Got .*None"):
        jo.join_schedules([lambda step: None], [])(0)


# ---- laws -----------------------------------------------------------------------------------------------

law = settings(max_examples=30, deadline=None, derandomize=True)


@law
@given(st.lists(st.integers(0, 10**9), max_size=4, unique=True).map(sorted), st.integers(0, 2**31 - 1))
def test_join_law(boundaries, anywhere):
    """At every step the schedule of its interval, at the step counted from where that begins."""
    count = lambda i: lambda t: i + t.astype(jnp.float64) * 2.0**-40  # noqa: E731
    with jax.enable_x64(True):
        joined = jo.join_schedules([count(float(i)) for i in range(len(boundaries) + 1)], boundaries)
        for step in [anywhere, 0, *boundaries, *(b - 1 for b in boundaries if b)]:
            i = sum(b <= step for b in boundaries)
            assert joined(step) == i + (step - [0, *boundaries][i]) * 2.0**-40


@law
@given(
    a=st.floats(1e-3, 1e3),
    b=st.floats(1e-3, 1e3),
    length=st.integers(1, 90),
    begin=st.integers(0, 30),
    power=st.floats(0.1, 5.0),
    kind=st.sampled_from(["power", "cosine", "wsd linear", "wsd cosine", "wsd sqrt"]),
)
def test_decay_law(a, b, length, begin, power, kind):
    """From the larger value to the smaller: exact at both ends, never up, never outside."""
    high, low = max(a, b), min(a, b)
    with jax.enable_x64(True):
        if kind == "power":
            schedule = jo.polynomial_schedule(high, low, power, length, begin)
        elif kind == "cosine":
            schedule = jo.warmup_cosine_decay_schedule(high, high, begin, begin + length, low, power)
        else:
            schedule = jo.warmup_stable_decay_schedule(high, high, 0, begin, length, low, kind.split()[1])
        got = np.asarray(schedule(jnp.asarray(STEPS)))
    assert got[0] == got[begin] == high and np.all(got[begin + length :] == low)
    slack = 1e-14 * high
    assert np.all(np.diff(got) <= slack) and got.max() <= high + slack and got.min() >= low - slack


def test_steps_of_every_dtype():
    """The same value at the same step, whatever it is written in; at negative steps that of step 0."""
    made = {f"{name}-{i}": getattr(jo, name)(**case) for table in (IN_OPTAX, OURS) for name, cases in table.items()
            for i, case in enumerate(cases[:2])}  # fmt: skip
    made["join"] = jo.join_schedules([jo.constant_schedule(1.0), lambda t: 1.0 + t], [4])
    made["three"] = jo.join_schedules(
        [made["linear_schedule-0"], lambda t: 0.5 * t, made["exponential_decay-1"]], [9, 70]
    )
    at = np.array([0, 3, 7, 40, 100, 127])

    def all_of(*steps):
        with jax.numpy_dtype_promotion("standard"):  # a schedule of a user's adds to its step
            return [{name: jax.vmap(schedule)(t) for name, schedule in made.items()} for t in steps]

    kinds = (np.int32, np.uint8, jnp.bfloat16)
    few = (np.int8, np.int16, np.uint16, np.uint32, np.float32, jnp.float16)
    before = [
        np.array([-1, -5, -128], np.int8),
        np.array([-1, -1000, -(2**31)], np.int32),
        np.float32([-1.5, -9, -1e9]),
    ]
    want, *rest = quick.jit(all_of)(*(jnp.asarray(at.astype(kind)) for kind in kinds), *map(jnp.asarray, before))
    for got, steps in zip(rest, [*[at] * (len(kinds) - 1), *[None] * 3], strict=True):
        for name, value in got.items():
            first = np.broadcast_to(want[name][0], 3) if steps is None else want[name]
            np.testing.assert_allclose(value, first, rtol=1e-6, err_msg=f"{name} {value.dtype}")
    made = {
        name: made[name] for name in ("join", "three", "cosine_decay_schedule-0")
    }  # one reading of steps is for all
    others = quick.jit(all_of)(*(jnp.asarray(at.astype(kind)) for kind in few))
    for got in others:
        for name, value in got.items():
            np.testing.assert_allclose(value, want[name], rtol=1e-6, err_msg=f"{name} {value.dtype}")
    with jax.numpy_dtype_promotion("standard"):
        assert made["join"](jnp.int8(7)) == 4 and made["join"](-5) == 1


HUGE = [2**31 - 1, 2**31, 2**40, 2**70, np.int64(2**33), np.uint64(2**63), np.uint32(2**32 - 1), 1e12]


@pytest.mark.parametrize("step", [*HUGE, jnp.uint32(2**32 - 1)], ids=str)
def test_steps_beyond_int32_are_the_last(step):
    made = (jo.linear_schedule(1.0, 0.25, 100), jo.exponential_decay(1.0, 10, 0.5, end_value=0.125),
            jo.join_schedules([jo.constant_schedule(1.0), jo.constant_schedule(0.5)], [2**31 - 1]))  # fmt: skip
    assert [float(schedule(step)) for schedule in made] == [0.25, 0.125, 0.5]
    with jax.enable_x64(True):
        assert [float(schedule(step)) for schedule in made] == [0.25, 0.125, 0.5]


@pytest.mark.parametrize("x64", [False, True])
def test_counts_may_be_beyond_int32_and_whole_floats(x64):
    n = 10**10
    with jax.enable_x64(x64):
        made = {
            "line": jo.linear_schedule(1.0, 0.0, n), "cosine": jo.cosine_decay_schedule(1.0, n),
            "stairs": jo.exponential_decay(1.0, n, 0.5, staircase=True), "smooth": jo.exponential_decay(1.0, n, 0.5),
            "later": jo.linear_schedule(1.0, 0.0, 10, transition_begin=n),
            "root": jo.inverse_sqrt_schedule(1.0, n, 1.0),
            "joined": jo.join_schedules([jo.constant_schedule(1.0), jo.constant_schedule(0.5)], [n]),
            "scaled": jo.piecewise_constant_schedule(1.0, {n: 0.1}),
            "cycle": jo.linear_onecycle_schedule(n, 1.0, div_factor=1.0, final_div_factor=1.0),
        }  # fmt: skip
        for name, schedule in made.items():
            values = [float(schedule(jnp.int32(step))) for step in (0, 100)]
            np.testing.assert_allclose(values, 1.0, rtol=1e-6, err_msg=name)
        half = float(made["line"](jnp.int32(2**31 - 1)))
        np.testing.assert_allclose(half, 1 - (2**31 - 1) / n, rtol=1e-6)
    steps = jnp.arange(12)
    whole, floats = (jo.warmup_cosine_decay_schedule(0.0, 1.0, w, d) for w, d in ((4, 10), (40 * 0.1, np.float64(1e1))))
    np.testing.assert_array_equal(whole(steps), floats(steps))


def test_no_transition_is_logged_and_constant(caplog):
    for steps in (0, -3):
        with caplog.at_level("INFO", logger="jaxopt_ko"), jax.numpy_dtype_promotion("standard"):
            for name, more in (("linear_schedule", (0.5,)), ("polynomial_schedule", (0.5, 2.0))):
                schedules = [getattr(library, name)(2.0, *more, steps) for library in (jo, optax)]
                assert [float(schedule(7)) for schedule in schedules] == [2.0, 2.0]
            assert [float(lib.exponential_decay(2.0, steps, 0.5)(7)) for lib in (jo, optax)] == [2.0, 2.0]
    assert [r.getMessage() for r in caplog.records if "transition_steps=-3 is negative" in r.getMessage()]
    ours, theirs = (lib.linear_schedule(1.0, 0.0, 4, -2) for lib in (jo, optax))
    np.testing.assert_allclose([ours(t) for t in range(6)], [theirs(t) for t in range(6)], rtol=1e-6)


def test_steps_may_lie_between():
    joined = jo.join_schedules([jo.linear_schedule(0.0, 1.0, 10), lambda t: t], [4])
    assert [float(joined(t)) for t in (0.5, 3.5, 4.0, 5.25)] == pytest.approx([0.05, 0.35, 0.0, 1.25])
