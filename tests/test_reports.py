"""`callback` and `max_seconds` of the drivers: what is told, what is compiled, when it ends."""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo


def valley(x, a):
    return 100.0 * (x[1] - x[0] ** 2) ** 2 + (a - x[0]) ** 2


START = jnp.array([-1.2, 1.0])


def test_every_update_is_told_and_another_callback_compiles_nothing():
    traces, heard, again = [], [], []

    def fun(x, a):
        traces.append(1)
        return valley(x, a)

    found = jo.minimize(fun, START, args=(1.0,), callback=heard.append)
    assert [report.step for report in heard] == list(range(1, int(found.steps) + 1))
    assert heard[-1].value <= 1e-8 and isinstance(heard[0], jo.Report) and isinstance(heard[0].accepted, bool)
    assert heard[-1].evaluations.function == int(found.evaluations.function)
    np.testing.assert_allclose(valley(heard[3].params, 1.0), heard[3].value, rtol=1e-5)
    before = len(traces)
    jo.minimize(fun, START, args=(1.0,), callback=lambda report: again.append(report.value))
    assert len(traces) == before and again == [report.value for report in heard]
    plain = jo.minimize(fun, START, args=(1.0,))
    np.testing.assert_array_equal(plain.params, found.params)


def test_lanes_are_told_of_until_each_ends_and_a_jitted_run_tells_as_well():
    heard = []
    solve = jax.jit(jax.vmap(lambda a: jo.minimize(valley, START, args=(a,), callback=heard.append)))
    found = solve(jnp.array([1.0, -1.2, 0.5]))
    jax.effects_barrier()
    assert len(heard) == int(found.steps.sum()) and len(set(found.steps.tolist())) > 1
    heard.clear()
    solve(jnp.array([1.0, -1.2, 0.5]))
    jax.effects_barrier()
    assert len(heard) == int(found.steps.sum())


def test_least_squares_and_root_tell_too():
    heard = []
    fit = jo.least_squares(lambda p: p**2 - 2.0, jnp.ones(1), callback=heard.append)
    assert len(heard) == int(fit.steps) > 0
    heard.clear()
    fit = jo.curve_fit(lambda t, a: a * t, np.arange(3.0), np.ones(3), [2.0], callback=heard.append, max_seconds=60.0)
    assert len(heard) == int(fit.solution.steps) > 0
    heard.clear()
    found = jo.root(lambda p: p**2 - 2.0, 1.0, callback=heard.append)
    assert len(heard) == int(found.steps) and abs(heard[-1].params - 2**0.5) < 1e-5


def quadratic(c, **how):
    return jo.quadratic_program(np.eye(2), c, bounds=(0.0, 1.0), **how)


def test_programs_tell_of_the_best_point_and_end_in_time():
    heard, lanes, c = [], [], np.array([-2.0, 1.0])
    found = quadratic(c, callback=heard.append)
    assert [report.step for report in heard] == list(range(1, int(found.steps) + 1))
    assert heard[-1].value == float(found.value) and heard[0].optimality > heard[-1].optimality
    np.testing.assert_array_equal(heard[-1].params, found.params)
    assert int(quadratic(c, max_seconds=0.0).steps) == 1
    late = quadratic(c, max_seconds=0.0)
    assert jo.Code(int(late.status.code)) is jo.Code.OUT_OF_TIME
    np.testing.assert_allclose(quadratic(c, max_seconds=600.0).params, found.params, atol=1e-5)
    both = jax.jit(jax.vmap(lambda c: quadratic(c, callback=lanes.append)))(jnp.stack([c, 30.0 * c]))
    jax.effects_barrier()
    assert len(lanes) == int(both.steps.sum())
    with pytest.raises(jo.errors.TransformationError, match="does not see the clock"):
        jax.grad(lambda c: quadratic(c, max_seconds=1.0).value)(c)


def test_programs_in_blocks_tell_of_their_parameters_in_the_order_given(x64):
    n, heard = 96, []
    chain = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    order = np.random.default_rng(0).permutation(n)
    solve = functools.partial(jo.quadratic_program, chain[order][:, order], np.sin(np.arange(n)), bounds=(-1.0, 1.0))
    found = solve(callback=heard.append)
    np.testing.assert_allclose(heard[-1].params, found.params, atol=1e-6)  # the callback's thread has single precision
    np.testing.assert_allclose(solve(max_seconds=600.0).params, found.params, atol=1e-9)


def test_what_a_callback_raises_ends_the_run():
    heard = []

    def stop(report):
        heard.append(report.step)
        if report.step == 3:
            raise LookupError("enough")

    for _ in range(2):
        with pytest.raises(LookupError, match="enough"):
            jo.minimize(valley, START, args=(1.0,), callback=stop)
    assert heard == [1, 2, 3] * 2


def test_a_run_ends_when_its_time_is_over_and_is_else_the_same(capsys):
    sgd = jo.sgd(1e-5)
    jo.minimize(valley, START, sgd, args=(1.0,), max_seconds=0.0)
    began = time.perf_counter()
    late = jo.minimize(valley, START, sgd, args=(1.0,), max_seconds=0.3, max_steps=10**9)
    assert time.perf_counter() - began >= 0.3
    assert jo.Code(int(late.status.code)) is jo.Code.OUT_OF_TIME and "max_seconds" in late.status.sentence
    assert int(late.steps) > 1 and float(late.value) < float(valley(START, 1.0))
    assert int(jo.minimize(valley, START, sgd, args=(1.0,), max_seconds=0.0).steps) == 1
    plain = jo.minimize(valley, START, args=(1.0,))
    timed = jo.minimize(valley, START, args=(1.0,), max_seconds=600.0, verbose=True)
    jax.tree.map(np.testing.assert_array_equal, plain, timed)
    assert len(capsys.readouterr().out.splitlines()) == 1 + int(plain.steps) + 2
    few = jo.minimize(valley, START, args=(1.0,), max_seconds=600.0, max_steps=3)
    assert jo.Code(int(few.status.code)) is jo.Code.BUDGET_SPENT and int(few.steps) == 3


def test_the_clock_is_refused_where_a_program_cannot_see_it():
    run = lambda a: jo.minimize(valley, START, args=(a,), max_seconds=1.0).value  # noqa: E731
    closed = lambda a: jo.minimize(lambda x: valley(x, a), START, max_seconds=1.0).value  # noqa: E731
    for transformed in (jax.jit(run), jax.grad(run), jax.jit(closed), jax.grad(closed)):
        with pytest.raises(jo.errors.TransformationError, match="does not see the clock"):
            transformed(1.0)
    with pytest.raises(jo.errors.HyperparameterError, match="unrolled"):
        jo.minimize(valley, START, args=(1.0,), max_seconds=1.0, max_steps=3, derivative="unrolled")
    with pytest.raises(jo.errors.HyperparameterError, match="max_seconds must be"):
        jo.minimize(valley, START, args=(1.0,), max_seconds=-1.0)
    with pytest.raises(jo.errors.TransformationError, match="callback"):
        jo.minimize(valley, START, args=(1.0,), callback=3)
