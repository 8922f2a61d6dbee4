"""Least squares with a sparse Jacobian beside the dense ones: answers, bounds, losses, derivatives, refusals."""

import functools
import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, TransformationError, TreeError
from jaxopt_ko.solvers.engine.sparse_fit import normal
from jaxopt_ko.solvers.problem.sparsity import jacobian_pattern

SCRIPT = pathlib.Path(__file__).parent.parent / "examples" / "benchmarks" / "bundle_adjustment.py"

N = 12
START = np.full(N, -1.2)
PATTERN = np.zeros((3 * N - 2, N), bool)
PATTERN[np.arange(N - 1), np.arange(N - 1)] = PATTERN[np.arange(N - 1), np.arange(1, N)] = True
PATTERN[np.arange(N - 1, 2 * N - 2), np.arange(N - 1)] = True
PATTERN[np.arange(2 * N - 2, 3 * N - 2), np.arange(N)] = True


def chain(x, c):
    """A chain of valleys, an outlier at its end."""
    return jnp.concatenate(
        [10 * (x[1:] - x[:-1] ** 2), c - x[:-1], 0.1 * (x - jnp.where(np.arange(N) < N - 1, 0, 9.0))]
    )


@functools.cache
def script():
    spec = importlib.util.spec_from_file_location("bundle_adjustment", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def found(sparsity, loss="linear", bounded=False):
    with jax.enable_x64(True):
        bounds = (-2.0, 0.8) if bounded else None
        return jo.least_squares(
            chain, jnp.asarray(START), args=(1.0,), loss=loss, bounds=bounds,
            jac_sparsity={"none": None, "given": PATTERN, "detect": "detect", "rows": rows()}[sparsity],
        )  # fmt: skip


def rows():
    return jo.sparse.coloring(PATTERN, "rows")


@pytest.mark.parametrize("words", [("given",), ("detect",), ("rows",), ("given", "cauchy"), ("given", "linear", True)])
def test_finds_what_the_dense_method_does(words):
    sparse, dense = found(*words), found("none", *words[1:])
    assert sparse.status.success and isinstance(sparse.state.entries.shape, tuple)
    np.testing.assert_allclose(sparse.value, dense.value, rtol=1e-9)
    np.testing.assert_allclose(sparse.params, dense.params, rtol=1e-5)
    assert int(sparse.evaluations.function) == int(sparse.steps) + 1


def test_sparsity_given_and_detected_are_one():
    np.testing.assert_allclose(found("given").params, found("detect").params, rtol=1e-9)
    assert found("given").state.entries.shape == (4 * N - 3,)


@pytest.mark.parametrize("derivative", ["implicit", "implicit-cg"])
def test_derivatives_of_the_solution(derivative):
    def end(c):
        fit = jo.least_squares(chain, 0.9 * jnp.ones(N), args=(c,), jac_sparsity=PATTERN, derivative=derivative)
        return jnp.sum(jnp.sin(fit.params))

    with jax.enable_x64(True):
        c, h = jnp.asarray(1.1), 1e-5
        np.testing.assert_allclose(jax.grad(end)(c), (end(c + h) - end(c - h)) / (2 * h), rtol=1e-6)


def test_unrolled_updates_have_derivatives_and_lanes():
    """Through the factors themselves, and 2 problems under vmap."""
    tx = jo.levenberg_marquardt(linear_solver="sparse")

    def after(c):
        words = {"residual_fn": lambda x: chain(x, c), "jac_sparsity": PATTERN}
        x = 0.5 * jnp.ones(N)
        updates, _ = tx.update(x, tx.init(x, **words), x, **words)
        return jnp.sum(updates**2)

    with jax.enable_x64(True):
        values, slopes = jax.jit(jax.vmap(jax.value_and_grad(after)))(jnp.array([1.1, 1.1 + 1e-5]))
        np.testing.assert_allclose(slopes[0], (values[1] - values[0]) / 1e-5, rtol=1e-3)


def test_a_parameter_that_nothing_depends_on_stays():
    pattern = np.zeros((3, 3), bool)
    pattern[:, 0] = True
    fit = jo.least_squares(lambda x: x[0] * np.ones(3, np.float32) - 2, jnp.ones(3), jac_sparsity=pattern)
    np.testing.assert_allclose(fit.params, [2, 1, 1], rtol=1e-6)


def test_roots_of_many_equations():
    """Broyden's tridiagonal function, and its root's derivative."""

    def broyden(x, c):
        around = jnp.pad(x, 1)
        return (3 - 2 * x) * x - around[:-2] - 2 * around[2:] + c

    with jax.enable_x64(True):
        start, c = -jnp.ones(N), jnp.asarray(1.0)
        sparse, dense = (jo.root(broyden, start, args=(c,), jac_sparsity=s) for s in ("detect", None))
        assert sparse.status.success and sparse.state.entries.shape == (3 * N - 2,)
        np.testing.assert_allclose(sparse.params, dense.params, atol=1e-9)
        end = lambda c: jnp.sum(jo.root(broyden, start, args=(c,), jac_sparsity="detect").params ** 2)  # noqa: E731
        np.testing.assert_allclose(jax.grad(end)(c), (end(c + 1e-5) - end(c - 1e-5)) / 2e-5, rtol=1e-7)


def test_refuses():
    with pytest.raises(TreeError, match=r"jac_sparsity must have 34 rows and 12 columns"):
        jo.least_squares(chain, jnp.ones(N), args=(1.0,), jac_sparsity=PATTERN[:-1])
    with pytest.raises(TransformationError, match=r"jac_sparsity is for levenberg_marquardt\(linear_solver='sparse'\)"):
        jo.least_squares(chain, jnp.ones(N), jo.gauss_newton(), args=(1.0,), jac_sparsity=PATTERN)
    with pytest.raises(TransformationError, match=r"jac_sparsity is missing"):
        jo.least_squares(chain, jnp.ones(N), jo.levenberg_marquardt(linear_solver="sparse"), args=(1.0,))
    with pytest.raises(HyperparameterError, match=r"jac_sparsity must be 'detect'|jac_sparsity must be one of"):
        jo.least_squares(chain, jnp.ones(N), args=(1.0,), jac_sparsity="probe")
    with pytest.raises(TransformationError, match=r"jacobian_fn is of no use"):
        jo.least_squares(chain, jnp.ones(N), args=(1.0,), jac_sparsity=PATTERN, jacobian_fn=jax.jacobian(chain))


def test_a_bundle_adjustment_ends_where_scipys_does():
    made = script().bundle(cameras=4, points=30, seen=3)
    (value, _), (known, _) = script().ours(made)(), script().scipys(made)()
    np.testing.assert_allclose(value, known, rtol=1e-5)
    assert value <= known


def test_points_are_eliminated_before_cameras():
    """What is left is the Schur complement of the cameras."""
    made = script().bundle(cameras=8, points=150, seen=3)
    pattern = np.zeros((made.seen.size, made.start.size), bool)
    pattern[made.sparsity()] = True
    first, *_, last = normal(jacobian_pattern("test", pattern)).plan.symbolic.batches
    assert first.pivots.min() >= 48 and set(range(48)) & set(last.pivots.reshape(-1).tolist())
