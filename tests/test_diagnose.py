"""Curvature by products against the dense Hessian; gradient noise against its formulas; what the reporters see."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.analysis import diagnose
from jaxopt_ko.analysis.diagnose import Kind
from jaxopt_ko.analysis.landscapes import LANDSCAPES

N = 24


def vector(p):
    return jnp.concatenate([p["a"], p["b"].reshape(-1)])


def split(x):
    return {"a": x[:4], "b": x[4:].reshape(4, 5)}


def quadratic(p, H):
    x = vector(p)
    return 0.5 * x @ (H @ x)


def flat(x, H, g):
    return 0.5 * x @ (H @ x) + g @ x


def hessian(rng, eigenvalues):
    n = len(eigenvalues)
    Q = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (Q * eigenvalues) @ Q.T
    return jnp.asarray((H + H.T) / 2)


def spectra(rng, n, kappas=(1e1, 1e2, 1e4, 1e5, 1e6)):
    """Definite and indefinite, spread evenly and over decades: singular values from 1 / kappa to 1."""
    for i, kappa in enumerate(kappas):
        for j, s in enumerate((np.geomspace(1 / kappa, 1, n), np.linspace(1 / kappa, 1, n))):
            yield s if (i + j) % 2 else s * rng.choice([-1, 1], n)


def cond(H):
    s = np.abs(np.linalg.eigvalsh(np.asarray(H, np.float64)))
    return s.max() / s.min()


@pytest.mark.parametrize("keep", [True, False])
def test_extremes_are_those_of_the_dense_hessian(keep, x64):
    rng = np.random.default_rng(0)
    params = split(jnp.zeros(N))
    for eigenvalues in (*spectra(rng, N, (1e1, 1e4)), rng.standard_normal(N), np.r_[np.ones(20), 2, 2, 2, -3]):
        H = hessian(rng, eigenvalues)
        got = diagnose.hessian_extremes(quadratic, params, args=(H,), key=1, steps=80, keep_basis=keep)
        exact = np.linalg.eigvalsh(H)
        for value, x, error, true in (
            (got.smallest, got.smallest_vector, got.smallest_error, exact[0]),
            (got.largest, got.largest_vector, got.largest_error, exact[-1]),
        ):
            assert jax.tree.structure(x) == jax.tree.structure(params) and x["b"].shape == (4, 5)
            v = vector(x)
            np.testing.assert_allclose(jnp.linalg.norm(v), 1, rtol=1e-12)
            np.testing.assert_allclose(jnp.linalg.norm(H @ v - value * v), error, atol=1e-14)
            assert error <= 1e-3 * abs(value) + 1e-14
            assert np.abs(exact - value).min() <= error + 1e-14
            np.testing.assert_allclose(value, true, rtol=1e-5, atol=1e-14)


def test_condition_numbers_of_random_problems(x64):
    rng = np.random.default_rng(1)
    find = functools.partial(diagnose.condition_number, quadratic, split(jnp.zeros(N)), key=0)
    for eigenvalues in spectra(rng, N):
        H = hessian(rng, eigenvalues)
        got = find(args=(H,))
        np.testing.assert_allclose(got.number, cond(H), rtol=1e-5)
        s = np.abs(np.linalg.eigvalsh(H))
        for value, error in ((got.smallest, got.smallest_error), (got.largest, got.largest_error)):
            assert np.abs(s - value).min() <= error <= 1e-3 * value + 1e-15
        without = find(args=(H,), keep_basis=False, steps=20 * N)
        assert got.steps <= N and without.steps <= 20 * N
        if float(without.smallest_error) <= 1e-3 * float(without.smallest):
            np.testing.assert_allclose(without.number, cond(H), rtol=1e-5)
        assert without.number <= cond(H) * (1 + 1e-6)  # a lower bound when not converged
    short = find(args=(hessian(rng, np.geomspace(1e-4, 1, N)),), keep_basis=False, steps=8)
    assert short.steps == 8 and short.number < 2e3 and short.smallest_error > 0.05 * short.smallest


def test_single_precision_says_how_far_it_can_be_trusted():
    rng = np.random.default_rng(2)
    for kappa in (1e2, 1e4):
        H = hessian(rng, np.geomspace(1 / kappa, 1, N) * rng.choice([-1, 1], N)).astype(jnp.float32)
        got = diagnose.condition_number(quadratic, split(jnp.zeros(N)), args=(H,), key=0)
        np.testing.assert_allclose(got.number, cond(H), rtol=5 * 1.2e-7 * kappa)
        assert 1e-7 * kappa <= got.smallest_error / got.smallest <= 1e-2


def test_condition_numbers_without_inverses_or_spread():
    find = functools.partial(diagnose.condition_number, flat, jnp.zeros(3), key=0)
    for diagonal, number in (((2, 2, 2), 1), ((-2, 2, 2), 1), ((0, 1, 2), np.inf), ((0, 0, 0), np.inf)):
        got = find(args=(jnp.diag(jnp.array(diagonal, jnp.float32)), jnp.zeros(3)))
        if number == 1:
            np.testing.assert_allclose(got.number, 1, rtol=1e-5)
        else:
            assert got.number > 1e6
    valley = jo.landscapes.landscape("long_valley", condition=50.0)
    np.testing.assert_allclose(diagnose.condition_number(valley.fun, jnp.ones(2), key=0).number, 50, rtol=1e-5)


@pytest.mark.slow
def test_ten_condition_numbers_in_two_thousand_dimensions(x64):
    rng = np.random.default_rng(3)
    for i, n in enumerate([400] * 8 + [2000] * 2):
        eigenvalues = list(spectra(rng, n))[i]
        H = hessian(rng, eigenvalues)
        got = diagnose.condition_number(flat, jnp.zeros(n), args=(H, jnp.zeros(n)), key=0)
        np.testing.assert_allclose(got.number, cond(H), rtol=1e-2)
        assert got.smallest_error <= 1.1e-3 * got.smallest


def test_the_trace_and_its_standard_error(x64):
    rng = np.random.default_rng(4)
    params = split(jnp.zeros(N))
    find = functools.partial(diagnose.hessian_trace, quadratic, params)
    diagonal = jnp.diag(jnp.arange(1.0, N + 1))
    got = find(args=(diagonal,), key=0)  # z'Dz is the trace for every z of signs
    np.testing.assert_allclose(got.value, N * (N + 1) / 2)
    assert got.error < 1e-10
    H = hessian(rng, rng.standard_normal(N))
    got = [find(args=(H,), key=k) for k in range(40)]
    z = np.array([(t.value - np.trace(H)) / t.error for t in got])
    assert 0.6 < z.std() < 1.6 and abs(z.mean()) < 0.6
    low = hessian(rng, np.r_[5.0, -3.0, 2.0, np.zeros(N - 3)])
    exact = find(args=(low,), key=0, method="hutch++", probes=12)
    np.testing.assert_allclose(exact.value, 4.0, rtol=1e-10)
    assert exact.error < 1e-10 < find(args=(low,), key=0).error
    plus = [find(args=(H,), key=k, method="hutch++", probes=12) for k in range(40)]
    assert abs(np.mean([(t.value - np.trace(H)) / t.error for t in plus])) < 1
    whole = find(args=(H,), key=0, method="hutch++", probes=90)  # more probes than dimensions
    np.testing.assert_allclose(whole.value, np.trace(H), rtol=1e-8)


def test_the_spectral_density_has_the_moments_of_the_spectrum(x64):
    rng = np.random.default_rng(5)
    eigenvalues = np.r_[rng.uniform(-0.1, 0.1, 18), rng.uniform(4.9, 5.1, 6)]
    H = hessian(rng, eigenvalues)
    got = diagnose.spectral_density(
        quadratic, split(jnp.zeros(N)), args=(H,), key=0, steps=10, probes=200, points=2000, width=0.005
    )
    assert got.nodes.shape == got.weights.shape == (200, 10)
    np.testing.assert_allclose(got.weights.sum(1), 1)
    np.testing.assert_allclose(jnp.trapezoid(got.density, got.grid), 1, rtol=1e-4)
    for k in (1, 2, 3):
        np.testing.assert_allclose(jnp.mean(jnp.sum(got.weights * got.nodes**k, 1)), np.mean(eigenvalues**k), rtol=0.1)
    high = got.grid > 2.5
    np.testing.assert_allclose(jnp.trapezoid(got.density[high], got.grid[high]), 0.25, atol=0.03)
    alone = diagnose.spectral_density(flat, jnp.zeros(3), args=(2 * jnp.eye(3), jnp.zeros(3)), key=0)
    np.testing.assert_allclose(jnp.sum(alone.weights * alone.nodes, 1), 2)
    assert jnp.isfinite(alone.density).all()


@pytest.mark.parametrize(
    ("diagonal", "slope", "kind", "escapes"),
    [
        ((1, 2, 3), 0, Kind.MINIMUM, False),
        ((-1, -2, -3), 0, Kind.MAXIMUM, True),
        ((1, -2, 3), 0, Kind.SADDLE, True),
        ((0, 2, 3), 0, Kind.DEGENERATE, False),
        ((0, -2, 0), 0, Kind.DEGENERATE, True),
        ((0, 0, 0), 0, Kind.DEGENERATE, False),
        ((0, 0, 0), 1e-3, Kind.NOT_CRITICAL, False),
        ((1, -2, 3), 1e-3, Kind.NOT_CRITICAL, True),
        ((1, 2, 3), 1e-8, Kind.MINIMUM, False),  # rounding of float32
        ((1e-3, 2, 3), 0, Kind.MINIMUM, False),
        ((1e-6, 2, 3), 0, Kind.DEGENERATE, False),
    ],
)
def test_kinds_of_critical_points(diagonal, slope, kind, escapes):
    H = jnp.diag(jnp.array(diagonal, jnp.float32))
    got = diagnose.critical_point(flat, jnp.zeros(3), args=(H, jnp.full(3, slope, jnp.float32)), key=0)
    assert Kind(int(got.kind)) is kind and got.sentence == kind.sentence
    if not escapes:
        assert not got.escape.any()
        return
    v = got.escape
    np.testing.assert_allclose(jnp.linalg.norm(v), 1, rtol=1e-5)
    np.testing.assert_allclose(v @ H @ v, min(diagonal), rtol=1e-4)
    assert slope * jnp.sum(v) <= 0  # downhill


def test_the_landscapes_critical_points_and_the_way_out():
    f = LANDSCAPES["himmelblau"]
    points = [*f.minima, *f.saddles, *f.maxima]
    x = jnp.array([p.x for p in points])
    got = jax.jit(jax.vmap(lambda x: diagnose.critical_point(f.fun, x, key=0)))(x)
    assert list(map(int, got.kind)) == [Kind.MINIMUM] * 4 + [Kind.SADDLE] * 4 + [Kind.MAXIMUM]
    assert all(f.fun(a + 0.1 * v) < f.fun(a) for a, v in zip(x[4:], got.escape[4:], strict=True))
    for name, kind in (("monkey_saddle", Kind.DEGENERATE), ("saddle", Kind.SADDLE)):
        each = LANDSCAPES[name]
        got = diagnose.critical_point(each.fun, jnp.array(each.saddles[0].x), key=0)
        assert int(got.kind) == kind


def test_the_noise_scale_is_the_papers():
    rng = np.random.default_rng(6)
    x, y, w = rng.standard_normal((12, 3)), rng.standard_normal(12), rng.standard_normal(3)
    g = 2 * (x @ w - y)[:, None] * x  # gradients of each example

    def losses(w, x, y):
        return (x @ w - y) ** 2

    args = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)
    one = diagnose.gradient_noise_scale(losses, jnp.asarray(w, jnp.float32), args=args)
    S = np.trace(np.cov(g.T))  # b = 1: the unbiased covariance
    G2 = np.sum(g.mean(0) ** 2) - S / 12
    np.testing.assert_allclose(one.noise, S, rtol=1e-5)
    np.testing.assert_allclose(one.squared_norm, G2, rtol=1e-5)
    np.testing.assert_allclose(one.scale, S / G2, rtol=1e-5)
    three = diagnose.gradient_noise_scale(losses, jnp.asarray(w, jnp.float32), args=args, small=3)
    big, little = np.sum(g.mean(0) ** 2), np.mean(np.sum(g.reshape(4, 3, 3).mean(1) ** 2, 1))
    np.testing.assert_allclose(three.noise, (little - big) / (1 / 3 - 1 / 12), rtol=1e-4)
    np.testing.assert_allclose(three.squared_norm, (12 * big - 3 * little) / 9, rtol=1e-4)


def test_a_second_call_compiles_nothing_and_the_key_decides():
    traces = []

    def fun(x, H):
        traces.append(1)
        return 0.5 * x @ H @ x

    find = functools.partial(diagnose.condition_number, fun, jnp.zeros(4))
    first = find(args=(jnp.diag(jnp.arange(1.0, 5)),), key=0)
    many = len(traces)
    again, other = (find(args=(jnp.diag(jnp.arange(1.0, 5)),), key=k) for k in (0, jax.random.key(7)))
    assert len(traces) == many and first == again
    np.testing.assert_allclose(other.number, 4, rtol=1e-5)
    H = jnp.stack([jnp.diag(jnp.array(d)) for d in ([1.0, 2, 3, 4], [-9.0, 1, 2, 3])])
    numbers = jax.vmap(lambda H: find(args=(H,), key=0).number)(H)
    np.testing.assert_allclose(numbers, [4, 9], rtol=1e-5)


def test_half_precision_parameters():
    params = jnp.zeros(3, jnp.bfloat16)
    H = jnp.diag(jnp.array([1, -2, 3], jnp.bfloat16))
    got = diagnose.critical_point(flat, params, args=(H, jnp.zeros(3, jnp.bfloat16)), key=0)
    assert int(got.kind) == Kind.SADDLE and got.escape.dtype == jnp.bfloat16
    np.testing.assert_allclose(got.extremes.smallest, -2, rtol=0.02)


# ---- the reporters --------------------------------------------------------------------------------------


def test_the_update_ratio_is_reported_from_inside_a_scan():
    opt = jo.chain(jo.sgd(0.1), diagnose.update_ratio())
    start = {"w": jnp.array([3.0, 4.0]), "z": jnp.zeros(2), "none": None}
    grads = {"w": jnp.array([0.0, 1.0]), "z": jnp.zeros(2), "none": None}

    def step(carry, _):
        p, s = carry
        u, s = opt.update(grads, s, p)
        return (jo.apply_updates(p, u), s), s[-1]

    _, seen = jax.lax.scan(step, (start, opt.init(start)), None, 3)
    lengths = np.hypot(3.0, 4 - 0.1 * np.arange(3))
    np.testing.assert_allclose(seen.ratio, 0.1 / lengths, rtol=1e-6)
    np.testing.assert_allclose(seen.leaves["w"], 0.1 / lengths, rtol=1e-6)
    assert not seen.leaves["z"].any() and seen.leaves["none"] is None


def test_lost_updates_are_those_that_change_nothing():
    opt = diagnose.lost_updates()
    params = {"half": jnp.array([1.0, 1.0, 1.0, 0.0], jnp.bfloat16), "full": jnp.ones(4)}
    small = {"half": jnp.array([1e-3, 1e-2, 0.0, 1e-9], jnp.bfloat16), "full": jnp.array([1e-3, 1e-8, 0.0, 1e-2])}
    state = opt.init(params)
    updates, state = opt.update(small, state, params)
    assert updates is small
    np.testing.assert_allclose(state.leaves["half"], 1 / 3)  # 1e-3 of three that move
    np.testing.assert_allclose(state.leaves["full"], 1 / 3)  # 1e-8
    np.testing.assert_allclose(state.fraction, 1 / 3)
    after = jo.apply_updates(params, small)
    stays = {k: np.asarray((after[k] == params[k]) & (small[k] != 0)) for k in params}
    assert sum(s.sum() for s in stays.values()) == 2
    _, state = opt.update(jax.tree.map(jnp.zeros_like, params), state, params)
    assert state.fraction == 0 and not any(map(float, state.leaves.values()))
    np.testing.assert_allclose(state.worst, 1 / 3)


def test_training_stalls_in_bfloat16_and_the_detector_says_so():
    opt = jo.chain(jo.adam(1e-3), diagnose.lost_updates())

    def fraction(dtype):
        params = jnp.ones(8, dtype)
        _, state = opt.update(jnp.ones(8, dtype), opt.init(params), params)
        return float(state[-1].fraction)

    assert (fraction(jnp.bfloat16), fraction(jnp.float32)) == (1.0, 0.0)


BATCH = (jnp.ones((6, 2)),)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: diagnose.condition_number(3, jnp.ones(2), key=0), ["condition_number", "fun must be a function"]),
        (lambda: diagnose.condition_number(jnp.sum, {}, key=0), ["condition_number", "an element"]),
        (lambda: diagnose.condition_number(jnp.sum, {"n": jnp.arange(3)}, key=0), ["condition_number", "['n']"]),
        (lambda: diagnose.condition_number(jnp.sin, jnp.ones(2), key=0), ["condition_number", "one number"]),
        (lambda: diagnose.condition_number(jnp.sum, jnp.ones(2), key=None), ["condition_number", "key"]),
        (lambda: diagnose.condition_number(jnp.sum, jnp.ones(2), key=0, tol=-1.0), ["condition_number", "tol"]),
        (lambda: diagnose.hessian_extremes(jnp.sum, jnp.ones(2), key=0, args=3), ["hessian_extremes", "tuple"]),
        (lambda: diagnose.hessian_extremes(jnp.sum, jnp.ones(2), key=0, steps=0), ["hessian_extremes", "steps"]),
        (lambda: diagnose.critical_point(jnp.sum, jnp.ones(2), key=0, gtol=-1.0), ["critical_point", "gtol"]),
        (lambda: diagnose.hessian_trace(jnp.sum, jnp.ones(2), key=0, probes=1), ["hessian_trace", "probes"]),
        (lambda: diagnose.hessian_trace(jnp.sum, jnp.ones(2), key=0, method="x"), ["hessian_trace", "'hutch++'"]),
        (lambda: diagnose.spectral_density(jnp.sum, jnp.ones(2), key=0, width=0.0), ["spectral_density", "width"]),
        (lambda: diagnose.gradient_noise_scale(jnp.sum, jnp.ones(2), args=()), ["gradient_noise_scale", "batch"]),
        (
            lambda: diagnose.gradient_noise_scale(jnp.sum, jnp.ones(2), args=BATCH, small=4),
            ["gradient_noise_scale", "a batch of 6, small=4"],
        ),
        (
            lambda: diagnose.gradient_noise_scale(lambda p, x: jnp.sum(x @ p), jnp.ones(2), args=BATCH),
            ["gradient_noise_scale", "one loss for each"],
        ),
        (
            lambda: diagnose.update_ratio().update(BATCH, diagnose.update_ratio().init(BATCH)),
            ["update_ratio", "params"],
        ),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises((TypeError, ValueError)) as error:
        call()
    assert "Got" in str(error.value) and all(word in str(error.value) for word in words), str(error.value)
