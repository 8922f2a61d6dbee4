"""Dominant eigenvalues, inverse roots, non-negative least squares, safe norms: beside NumPy, SciPy and optax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import jaxopt_ko as jo
from jaxopt_ko.linalg.least_norm import shortest

RNG = np.random.default_rng(0)
B = RNG.normal(size=(6, 6))
A = B @ B.T + 0.1 * np.eye(6)


def test_power_iteration(x64):
    value, vector = jo.power_iteration(jnp.asarray(A), num_iters=2000, error_tolerance=1e-12)
    np.testing.assert_allclose(value, np.linalg.eigvalsh(A)[-1], rtol=1e-10)
    np.testing.assert_allclose(A @ vector, value * vector, atol=1e-9)
    start = {"x": jnp.ones(2), "y": jnp.ones(())}
    value, vector = jo.power_iteration(lambda v: {"x": 3.0 * v["x"], "y": v["y"]}, v0=start)
    np.testing.assert_allclose(value, 3.0, rtol=1e-5)
    with pytest.raises(jo.errors.MissingArgumentError, match="v0"):
        jo.power_iteration(lambda v: v)


@pytest.mark.parametrize("p", [1, 2, 3, 4, 8])
def test_inverse_roots(p, x64):
    """optax takes powers of two alone, and computes in float32 whatever it is given."""
    w, v = np.linalg.eigh(A)
    ridge = 1e-9 * w[-1]
    root, error = jo.matrix_inverse_pth_root(jnp.asarray(A), p, ridge_epsilon=1e-9)
    np.testing.assert_allclose(root, (v * (w + ridge) ** (-1 / p)) @ v.T, rtol=1e-8, atol=1e-9)
    assert error < 1e-6
    if p in (1, 2, 4, 8):
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            theirs, _ = optax.matrix_inverse_pth_root(jnp.asarray(A, jnp.float32), p)
        ours, _ = jo.matrix_inverse_pth_root(jnp.asarray(A), p)
        np.testing.assert_allclose(ours, theirs, rtol=2e-2, atol=2e-2)


def test_nonnegative_least_squares(x64):
    M, b = RNG.normal(size=(8, 5)), RNG.normal(size=(8, 2))
    x = jo.nnls(jnp.asarray(M), jnp.asarray(b), 3000)
    for k in range(2):
        np.testing.assert_allclose(x[:, k], scipy.optimize.nnls(M, b[:, k])[0], atol=1e-8)
    np.testing.assert_allclose(jo.nnls(jnp.asarray(M), jnp.asarray(b[:, 0]), 3000, L=50.0), x[:, 0], atol=1e-6)
    with pytest.raises(ValueError, match="A must be"):
        jo.nnls(jnp.ones((2, 3)), jnp.ones(3), 10)


def test_a_normal_distribution_is_optaxs(x64):
    loc, log_scale = jnp.array([1.0, -2.0]), jnp.array([0.3, -0.5])
    ours, theirs = (library.multi_normal(loc, log_scale) for library in (jo, optax))
    x = ours.sample((4,), jax.random.key(0))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(x, theirs.sample((4,), jax.random.key(0)))
        np.testing.assert_allclose(ours.log_prob(x), theirs.log_prob(x), rtol=1e-12)
    np.testing.assert_array_equal(ours.params[1], ours.log_scale)


def test_safe_norms_and_counts():
    x = jnp.array([3.0, 4.0])
    for least in (0.0, 10.0):
        np.testing.assert_allclose(jo.safe_norm(x, least), optax.safe_norm(x, least))
        np.testing.assert_allclose(jo.safe_root_mean_squares(x, least), optax.safe_root_mean_squares(x, least))
    for f in (jo.safe_norm, jo.safe_root_mean_squares):
        np.testing.assert_array_equal(jax.grad(lambda x, f=f: f(x, 1e-3))(jnp.zeros(2)), 0.0)
    rows = jo.safe_norm(jnp.array([[3.0, 4.0], [0.0, 0.0]]), 1.0, axis=1)
    np.testing.assert_allclose(rows, [5.0, 1.0])
    for dtype in (jnp.int32, jnp.uint8, jnp.int16):
        most = np.iinfo(dtype).max
        assert int(jo.safe_increment(jnp.array(most, dtype))) == most
        assert int(jo.safe_increment(jnp.array(3, dtype))) == 4


def test_the_shortest_solution_and_its_derivatives(x64):
    """Beside the pseudoinverse of a matrix of rank 3 in 5 dimensions, and where units alone make one look singular."""
    rng = np.random.default_rng(0)
    B, C, b = (jnp.asarray(rng.normal(size=size)) for size in ((5, 3), (3, 5), (5,)))

    def matrix(t):
        return (B + t * jnp.cos(B)) @ (C + t * jnp.sin(2 * C))

    ours = lambda t: shortest(matrix(t))(b + t)  # noqa: E731
    theirs = lambda t: jnp.linalg.pinv(matrix(t), rtol=1e-10) @ (b + t)  # noqa: E731
    all_of = lambda f, t: (f(t), jax.jacfwd(f)(t), jax.jacrev(f)(t), jax.jacfwd(jax.jacrev(f))(t))  # noqa: E731
    every = jax.jit(all_of, static_argnums=0)
    for got, wanted in zip(every(ours, 0.3), every(theirs, 0.3), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)
    units = jnp.diag(jnp.array([1e-12, 1.0, 1e9]))
    found = jax.vmap(lambda M: shortest(M)(jnp.ones(3)))(jnp.stack([units, jnp.ones((3, 3)), jnp.zeros((3, 3))]))
    np.testing.assert_allclose(found, [[1e12, 1, 1e-9], [1 / 3, 1 / 3, 1 / 3], [0, 0, 0]], rtol=1e-12, atol=1e-12)
    assert shortest(jnp.zeros((0, 0)))(jnp.zeros(0)).shape == (0,)
