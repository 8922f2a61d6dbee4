"""Sparsity by the jaxpr is never too small; colours give the Jacobians and Hessians that jax does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import jaxopt_ko as jo
from jaxopt_ko.errors import HyperparameterError, TreeError
from jaxopt_ko.linalg.dependence import dependence

RANDOM = np.random.default_rng(1)
X = RANDOM.normal(size=12).astype(np.float32)
SPARSE = (RANDOM.normal(size=(5, 12)) * (RANDOM.random((5, 12)) < 0.3)).astype(np.float32)
AT = np.array([3, 1, 7, 0])
ROWS = np.arange(12) % 3


def scanned(x):
    return jax.lax.scan(lambda c, v: (v, c * v), x[0], x[1:])[1]


def looped(x):
    return jax.lax.fori_loop(0, 3, lambda k, x: x.at[1:].add(x[:-1] * x[1:]), x)


def rolled(c):
    return c[0] + 1, c[1] * jnp.roll(c[1], 1)


def chosen(x):
    return jax.lax.cond(x[0] > 0, lambda x: x**2, lambda x: x[::-1] ** 2, x)


def chain(x):
    return jnp.sum((x[1:] - x[:-1] ** 2) ** 2)


EXACT = {  # how sparse it is: name -> function
    "differences": lambda x: x[1:] ** 2 - x[:-1],
    "gather": lambda x: x[AT] * jnp.sin(x[AT + 2]),
    "zeros of a constant matrix": lambda x: SPARSE @ x,
    "from the right": lambda x: jnp.tanh(x) @ SPARSE.T,
    "product of matrices": lambda x: (x.reshape(3, 4) @ x.reshape(4, 3)).ravel(),
    "segments": lambda x: jax.ops.segment_sum(x**2, ROWS, 3),
    "known choice": lambda x: jnp.where(np.arange(12) > 5, x, jnp.roll(x, 1)),
    "cumulative": lambda x: jnp.cumsum(x) * jnp.flip(jnp.cumprod(x)),
    "scan": scanned,
    "stack and split": lambda x: jnp.stack([jnp.split(x, 2)[0], x[:6]], 1).ravel() * jnp.tile(x[:6], 2),
    "custom derivative": lambda x: jax.nn.softplus(x) + jax.nn.relu(x),
    "norms": lambda x: jnp.linalg.norm(x.reshape(4, 3), axis=1),
    "scatter": lambda x: jnp.zeros(12, x.dtype).at[AT].set(x[:4] ** 2) + jnp.pad(x[:10], 1),
    "gradient": jax.grad(chain),
    "batched product": lambda x: jnp.einsum("bij,bj->bi", x.reshape(3, 2, 2), x[:6].reshape(3, 2)).ravel(),
}
SAFE = {
    "branches": chosen,
    "choice": lambda x: jnp.where(x > 0, x, 2 * x[::-1]),
    "loop": looped,
    "sorted": jnp.sort,
    "unknown indices": lambda x: x[jnp.argsort(x)],
    "not known": lambda x: jax.vmap(jnp.linalg.inv)(x.reshape(3, 2, 2)).ravel(),
    "while": lambda x: jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * jnp.roll(c[1], 1)), (0, x))[
        1
    ],
}


@pytest.mark.parametrize("name", [*EXACT, *SAFE])
def test_sparsity_is_never_too_small(name):
    fn = (EXACT | SAFE)[name]
    rows, cols, shape = dependence(fn, X)
    found = np.zeros(shape, bool)
    found[rows, cols] = True
    J = np.any(np.asarray(jax.jit(jax.vmap(jax.jacfwd(fn)))(np.stack([X, -X[::-1]]))) != 0, axis=0)
    assert not np.any(J & ~found)
    assert name in SAFE or not np.any(found & ~J)


def test_sparsity_of_trees_and_within_jit():
    params = {"a": jnp.ones(2), "b": jnp.ones((2, 2))}
    fn = lambda p, c: {"r": c * p["b"][0] * p["a"], "s": jnp.sum(p["b"] ** 2)}  # noqa: E731
    expected = [[1, 0, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 1]]
    assert jo.sparse.sparsity(fn, params, 2.0).todense().tolist() == expected
    J = jax.jit(lambda p, c: jo.sparse.jacobian(fn)(p, c))(params, jnp.float32(3.0))
    np.testing.assert_array_equal(J.todense(), 3.0 * np.array(expected) * [[1], [1], [2 / 3]])


@pytest.mark.parametrize("kind", ["columns", "rows", "symmetric"])
def test_a_coloring_reads_off_every_entry(kind):
    for trial in range(40):
        n, m = RANDOM.integers(2, 14), RANDOM.integers(1, 10)
        A = RANDOM.normal(size=(n if kind == "symmetric" else m, n)) * (RANDOM.random((1, n)) < 0.1 * (trial % 9))
        if kind == "symmetric":
            A = A + A.T
        colors = jo.sparse.coloring(A, kind)
        seeds = colors.seeds().astype(float)
        products = (A @ seeds.T).T if kind == "columns" else seeds @ A
        read = np.zeros_like(A)
        read[colors.rows, colors.cols] = products[colors.product, colors.element]
        np.testing.assert_allclose(read, A, atol=1e-12)


def test_how_many_colours():
    arrow = np.eye(30) + np.eye(30)[0] + np.eye(30)[:, :1]
    assert [jo.sparse.coloring(arrow, kind).count for kind in ("columns", "rows", "symmetric")] == [30, 30, 2]
    wide = np.zeros((20, 20))
    wide[:, 0], wide[np.arange(20), np.arange(20)] = 1, 1
    assert jo.sparse.coloring(wide).count == 2 and jo.sparse.coloring(wide.T).kind == "rows"
    band = np.abs(np.subtract.outer(np.arange(40), np.arange(40))) <= 2
    assert jo.sparse.coloring(band).count == 5 and jo.sparse.coloring(band, "symmetric").count <= 5


@pytest.mark.parametrize("kind", ["columns", "rows"])
def test_jacobian_compiles_vmaps_and_has_derivatives(kind):
    fn = EXACT["differences"]
    colors = jo.sparse.coloring(jo.sparse.sparsity(fn, X), kind)
    entries = jax.jit(jax.vmap(lambda x: jo.sparse.jacobian(fn, colors)(x).data))
    x = np.stack([X, -X])
    for row, data in zip(x, entries(x), strict=True):
        np.testing.assert_allclose(data, jax.jacfwd(fn)(row)[colors.rows, colors.cols], rtol=1e-6)
    tangent = jax.jit(lambda x: jax.jvp(lambda x: jo.sparse.jacobian(fn, colors)(x).data, (x,), (x / x,))[1])(X)
    differences = (entries(x + 1e-2) - entries(x - 1e-2))[0] / 2e-2
    np.testing.assert_allclose(tangent, differences, atol=1e-3)


def test_hessian_is_what_jax_gives_and_can_be_factorized():
    x = X[:7]
    fn = lambda x: chain(x) + 20 * x @ x  # noqa: E731
    colors = jo.sparse.coloring(jo.sparse.sparsity(jax.grad(fn), x), "symmetric")
    plan = jo.sparse.analyze((colors.rows, colors.cols, 7))

    @jax.jit
    def newton(x):
        H = jo.sparse.hessian(fn, colors)(x)
        return H.data, jo.sparse.solve(jo.sparse.factorize(plan, H), x), jax.hessian(fn)(x)

    data, p, dense = newton(x)
    np.testing.assert_allclose(data, dense[colors.rows, colors.cols], rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(p, np.linalg.solve(dense, x), rtol=1e-4)


def test_refuses():
    with pytest.raises(TreeError, match=r"jacobian: the pattern must be that of a matrix of 11 rows and 12 columns"):
        jo.sparse.jacobian(EXACT["differences"], np.ones((3, 12)))(X)
    with pytest.raises(TreeError, match=r"hessian: a Hessian takes a symmetric Coloring"):
        jo.sparse.hessian(chain, jo.sparse.coloring(np.eye(12)))(X)
    with pytest.raises(TreeError, match=r"coloring: the pattern must be that of a square matrix"):
        jo.sparse.coloring(np.ones((2, 3)), "symmetric")
    with pytest.raises(HyperparameterError, match=r"coloring: kind must be one of"):
        jo.sparse.coloring(np.eye(2), "star")
    with pytest.raises(TreeError, match=r"the pattern must be known when traced"):
        jax.jit(lambda p: jo.sparse.coloring(p).count)(jnp.eye(2))
    with pytest.raises(TreeError, match=r"without batch dimensions"):
        jo.sparse.analyze(sparse.BCOO.fromdense(jnp.ones((2, 2, 2)), n_batch=1))
