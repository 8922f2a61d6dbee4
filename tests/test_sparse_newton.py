"""Newton's method with a sparse Hessian beside the dense one: answers, saddles, lanes, derivatives, refusals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, TransformationError, TreeError
from jaxopt_ko.solvers.engine.sparse_region import region_step, sparse
from jaxopt_ko.solvers.problem.sparsity import hessian_pattern

N = 12
BAND = np.abs(np.arange(N)[:, None] - np.arange(N)) <= 1
RANDOM = np.random.default_rng(0)


def valleys(x, a):
    return jnp.sum(a * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2) + 0.1 * jnp.sum(jnp.sin(x))


def wells(x, a):
    """Flat at 0, a saddle; its minima are at +-1."""
    return jnp.sum((x**2 - 1) ** 2) + a * jnp.sum((x[1:] - x[:-1]) ** 2)


@functools.cache
def found(fun, start, sparsity):
    with jax.enable_x64(True):
        x = jnp.full(N, start)
        return jo.minimize(fun, x, jo.newton(), args=(0.5,), hess_sparsity=BAND if sparsity == "given" else sparsity)


@pytest.mark.parametrize(("fun", "start", "sparsity"), [(valleys, -1.0, "detect"), (wells, 0.0, "given")])
def test_finds_what_the_dense_method_does(fun, start, sparsity):
    ours, dense = found(fun, start, sparsity), found(fun, start, None)
    assert bool(ours.status.success), ours.status.sentence
    np.testing.assert_allclose(ours.value, dense.value, atol=1e-12)
    assert int(ours.steps) <= 1.5 * int(dense.steps)
    taken = int(ours.evaluations.product) / 3  # Hessians: three colours
    assert taken == int(taken) <= int(ours.evaluations.function)


def subproblem(H, g):
    """H's entries, and what g'p + p'Hp / 2 is of a p."""
    pattern = hessian_pattern("test", H != 0, None, g)
    it = sparse(pattern)
    entries = jnp.asarray(H[it.colors.rows, it.colors.cols])
    return it, entries, lambda p: g @ p + 0.5 * p @ H @ p


@pytest.mark.parametrize("kind", ["convex", "bounded", "indefinite", "hard", "flat"])
def test_steps_are_nearly_the_best_in_the_region(x64, kind):
    values = {"convex": np.linspace(1, 3, N), "bounded": np.linspace(1, 3, N), "flat": np.r_[0, np.ones(N - 1)]}
    H = np.diag(values.get(kind, np.linspace(-2, 3, N)))
    if kind == "indefinite":
        H = H + np.diag(np.full(N - 1, 0.3), 1) + np.diag(np.full(N - 1, 0.3), -1)
    g = RANDOM.normal(size=N)
    if kind in ("hard", "flat"):
        g[0] = 0.0  # no part along the lowest eigenvector
    radius = 0.4 if kind in ("bounded", "indefinite") else 20.0
    it, entries, model = subproblem(H, jnp.asarray(g))
    p, shift = jax.jit(functools.partial(region_step, it))(entries, g, jnp.asarray(radius), jnp.max(jnp.sum(abs(H), 0)))
    size = float(jnp.linalg.norm(p))
    best, lam = exact(H, g, radius)
    assert size <= 1.1 * radius + 1e-12 and float(shift) >= 0
    assert float(model(p)) <= 0.8 * float(model(best))
    if kind in ("convex", "flat"):
        np.testing.assert_allclose(p, best, atol=1e-9)
        assert float(shift) == 0
    else:
        assert abs(float(shift) - lam) <= 0.5 * lam and size >= 0.9 * radius


def exact(H, g, radius):
    """By the method for dense ones, which has tests of its own."""
    values, vectors = jnp.linalg.eigh(H)
    p, lam = jo.solvers.engine.region_steps.exact_step(jnp.asarray(H), values, vectors, jnp.asarray(g), radius)
    return p, float(lam)


def test_derivatives_of_steps(x64):
    """Of one that the region does not bound, and of one on its edge."""
    H = np.diag(np.linspace(1, 3, N)) + np.diag(np.full(N - 1, 0.3), 1) + np.diag(np.full(N - 1, 0.3), -1)
    it, entries, _ = subproblem(H, jnp.ones(N))
    d = jnp.asarray(RANDOM.normal(size=N))

    def along(t, radius):
        p, shift = region_step(it, entries * (1 + t), jnp.ones(N) + t * d, radius, jnp.asarray(4.0))
        return p, (p @ p, shift)

    free = lambda t: along(t, jnp.asarray(9.0))[0]  # noqa: E731
    np.testing.assert_allclose(jax.jacfwd(free)(0.0), (free(1e-6) - free(-1e-6)) / 2e-6, atol=1e-8)
    edge = jax.jit(lambda t: jax.jvp(lambda t: along(t, jnp.asarray(0.4)), (t,), (1.0,)))(0.0)
    (_, (_, shift)), (dp, (d_size, _)) = edge
    assert float(shift) > 0 and bool(jnp.all(jnp.isfinite(dp)))
    np.testing.assert_allclose(d_size, 0, atol=1e-12)  # it stays as long as the region is wide


def test_derivatives_of_the_solution_and_lanes(x64):
    def end(a, sparsity):
        there = jo.minimize(valleys, 0.9 * jnp.ones(N), args=(a,), hess_sparsity=sparsity)
        return jnp.sum(jnp.sin(there.params))

    ours = jax.jit(jax.vmap(jax.value_and_grad(functools.partial(end, sparsity=BAND))))
    values, slopes = ours(jnp.array([3.0, 3.0 + 1e-5, 3.0 - 1e-5]))
    np.testing.assert_allclose(slopes[0], (values[1] - values[2]) / 2e-5, rtol=1e-6)


def test_where_the_hessian_is_singular_the_derivative_is_the_shortest(x64):
    def end(a):
        fun = lambda x: jnp.sum((x[:3] - a) ** 2) + (x[3] - x[4] - a) ** 2  # noqa: E731
        return jo.minimize(fun, jnp.ones(6), hess_sparsity="detect").params

    np.testing.assert_allclose(jax.jacobian(end)(2.0), [1, 1, 1, 0.5, -0.5, 0], atol=1e-9)
    np.testing.assert_allclose(end(2.0)[5], 1.0)


def test_refuses():
    x = jnp.ones(N)
    run = functools.partial(jo.minimize, lambda x: jnp.sum(x**2), x)
    with pytest.raises(TreeError, match=r"hess_sparsity must have 12 rows and columns"):
        run(hess_sparsity=BAND[:-1, :-1])
    with pytest.raises(TreeError, match=r"hess_sparsity must have a symmetric colouring"):
        run(hess_sparsity=jo.sparse.coloring(BAND, "columns"))
    with pytest.raises(HyperparameterError, match=r"hess_sparsity must be 'detect'|hess_sparsity must be one of"):
        run(hess_sparsity="probe")
    for method in (jo.bfgs(), jo.newton_cg(), jo.sgd(0.1), jo.newton(jo.scale_by_backtracking_linesearch(9))):
        with pytest.raises(TransformationError, match=r"it takes no hess_sparsity"):
            run(method, hess_sparsity=BAND)
