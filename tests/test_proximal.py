"""Proximal operators by their definition; proximal and projected gradient and keep_in, beside scikit-learn, scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import scipy.optimize
from jax.test_util import check_grads

import jaxopt_ko as jo

RNG = np.random.default_rng(11)
X, Y = RNG.normal(size=(40, 8)), RNG.normal(size=40)
SHRINK = lambda x, s: jo.prox_lasso(x, 0.05, s)  # noqa: E731


def loss(w, y=Y):
    return jnp.mean((X @ w - y) ** 2) / 2


OPERATORS = {  # name -> (prox of x and s, h)
    "none": (jo.prox_none, lambda y: 0.0),
    "lasso": (lambda x, s: jo.prox_lasso(x, 0.7, s), lambda y: 0.7 * np.abs(y).sum()),
    "non_negative_lasso": (
        lambda x, s: jo.prox_non_negative_lasso(x, 0.7, s),
        lambda y: 0.7 * y.sum() if y.min() >= 0 else np.inf,
    ),
    "ridge": (lambda x, s: jo.prox_ridge(x, 0.7, s), lambda y: 0.35 * (y**2).sum()),
    "non_negative_ridge": (
        lambda x, s: jo.prox_non_negative_ridge(x, 0.7, s),
        lambda y: 0.35 * (y**2).sum() if y.min() >= 0 else np.inf,
    ),
    "elastic_net": (
        lambda x, s: jo.prox_elastic_net(x, 0.7, 0.4, s),
        lambda y: 0.7 * np.abs(y).sum() + 0.2 * (y**2).sum(),
    ),
    "group_lasso": (lambda x, s: jo.prox_group_lasso(x, 0.7, s), lambda y: 0.7 * np.linalg.norm(y)),
    "nuclear_norm": (
        lambda x, s: jo.prox_nuclear_norm(x, 0.7, s),
        lambda y: 0.7 * np.linalg.svd(y, compute_uv=False).sum(),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_it_is_the_minimizer_of_its_definition(x64, name):
    prox, h = OPERATORS[name]
    fast = jax.jit(prox)
    for x in RNG.normal(size=(4, 3, 2)) * 2:
        for s in (0.3, 1.0):
            p = np.asarray(fast(jnp.asarray(x), s))
            value = lambda y, s=s, x=x: np.sum((y - x) ** 2) / 2 + s * h(y)  # noqa: E731
            for y in p + RNG.normal(size=(200, 3, 2)) * 10.0 ** RNG.uniform(-4, 0, size=(200, 1, 1)):
                assert value(p) <= value(y) + 1e-12
    x = jnp.asarray(RNG.normal(size=(3, 2))) * 3
    check_grads(fast, (x, 0.2), order=1, eps=1e-6, rtol=1e-5, atol=1e-5)
    half = prox({"a": x.astype(jnp.bfloat16)}, 0.2)["a"]
    assert half.dtype == jnp.bfloat16


def test_the_nuclear_norms_derivative_of_tall_and_wide_and_of_equal_singular_values(x64):
    for shape in ((5, 3), (3, 5), (2, 4, 3)):
        x = jnp.asarray(RNG.normal(size=shape)) * 3
        check_grads(jax.jit(lambda x: jo.prox_nuclear_norm(x, 0.7)), (x,), order=1, eps=1e-6, rtol=1e-5, atol=1e-5)
    half = jax.jit(lambda x: jo.prox_nuclear_norm(x, 0.5))
    same = jax.jacobian(half)(2 * jnp.eye(3))
    assert np.all(np.isfinite(same))
    d = 1e-6 * RNG.normal(size=(3, 3))
    moved = (half(2 * jnp.eye(3) + d) - half(2 * jnp.eye(3) - d)) / 2
    np.testing.assert_allclose(jnp.einsum("ijkl,kl->ij", same, d), moved, atol=1e-11)


@pytest.mark.parametrize("acceleration", [True, False])
def test_the_lasso_ends_where_scikit_learns_does(x64, acceleration):
    from sklearn.linear_model import Lasso

    theirs = Lasso(alpha=0.05, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, Y).coef_
    method = jo.proximal_gradient(SHRINK, acceleration=acceleration)
    ours = jo.minimize(loss, jnp.zeros(8), method, tol=1e-10)
    assert bool(ours.status.success), ours.status.sentence
    np.testing.assert_allclose(ours.params, theirs, atol=1e-8)
    assert np.array_equal(np.asarray(ours.params) == 0, np.abs(theirs) < 1e-12)


def test_the_simplex_ends_where_slsqp_does(x64):
    method = jo.projected_gradient(jo.projections.projection_simplex)
    ours = jo.minimize(loss, jnp.zeros(8), method, tol=1e-10)
    theirs = scipy.optimize.minimize(
        loss, np.ones(8) / 8, method="SLSQP", jac=jax.grad(loss), bounds=[(0, None)] * 8, tol=1e-14,
        constraints={"type": "eq", "fun": lambda w: np.sum(w) - 1, "jac": lambda w: np.ones(8)},
    )  # fmt: skip
    assert bool(ours.status.success)
    np.testing.assert_allclose(ours.params, theirs.x, atol=1e-6)
    np.testing.assert_allclose(jnp.sum(ours.params), 1, atol=1e-12)


def test_acceleration_pays_where_the_condition_is_bad(x64):
    scale = jnp.logspace(0, 3, 8)
    fun = lambda w: 0.5 * jnp.sum(scale * (w - 1) ** 2)  # noqa: E731
    count = [
        int(jo.minimize(fun, jnp.zeros(8), jo.proximal_gradient(SHRINK, acceleration=a), tol=1e-8).evaluations.function)
        for a in (True, False)
    ]
    assert count[0] < 0.5 * count[1]


def test_derivatives_of_the_solution(x64):
    for method in (jo.proximal_gradient(SHRINK), jo.projected_gradient(jo.projections.projection_simplex)):
        best = lambda y, m=method: jo.minimize(loss, jnp.zeros(8), m, args=(y,), tol=1e-13).params  # noqa: E731
        d = RNG.normal(size=40)
        slope = jax.jvp(best, (jnp.asarray(Y),), (jnp.asarray(d),))[1]
        np.testing.assert_allclose(slope, (best(Y + 1e-5 * d) - best(Y - 1e-5 * d)) / 2e-5, atol=1e-7)
        reverse = jax.vjp(best, jnp.asarray(Y))[1](jnp.eye(8)[2])[0]
        np.testing.assert_allclose(reverse @ d, slope[2], atol=1e-9)


def test_every_wrapper_passes_on_what_a_method_is(x64):
    """The prox is in the record of the method, whoever pairs it anew; what hides it cannot be differentiated."""
    import optax

    def slope(method):
        def end(a):
            return jo.minimize(lambda x, a: jnp.sum((x - a) ** 2), jnp.ones(2), method, args=(a,)).params

        return jax.jacobian(end)(jnp.array([1.0, 0.25]))  # prox of |x|: 1 - 1/2, and 0 where |a| < 1/2

    bare = jo.proximal_gradient(jo.prox_lasso)
    for method in (
        bare,
        jo.with_extra_args_support(bare),
        jo.GradientTransformation(bare.init, bare.update),
        optax.GradientTransformationExtraArgs(bare.init, bare.update),
    ):
        np.testing.assert_allclose(slope(method), np.diag([1.0, 0.0]), atol=1e-6)
    hidden = jo.GradientTransformation(bare.init, lambda *args, **words: bare.update(*args, **words))
    assert jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.ones(2), hidden).status.success
    with pytest.raises(jo.errors.TransformationError, match=r"prox of proximal_gradient"):
        slope(hidden)


def test_a_set_that_moves_takes_the_solution_along(x64):
    def best(u):
        method = jo.projected_gradient(lambda x: jo.projections.projection_box(x, u[0], u[1:]))
        fun = lambda x: jnp.sum((x - jnp.array([0.3, 2.0, -9.0])) ** 2) + x[0] * x[1]  # noqa: E731
        found = jo.minimize(fun, jnp.zeros(3), method, tol=1e-13)
        return jnp.append(found.params, found.value)

    forward, reverse, differences = quick.slopes(best, jnp.array([-1.0, 1.0, 1.0, 2.0]))
    np.testing.assert_allclose(forward, differences, atol=1e-6)
    np.testing.assert_allclose(reverse, differences, atol=1e-6)


def test_lanes_and_single_precision():
    data = jnp.asarray(RNG.normal(size=(4, 40)), jnp.float32).at[2].set(jnp.nan)
    lanes = jax.vmap(lambda y: jo.minimize(loss, jnp.zeros(8), jo.proximal_gradient(SHRINK), args=(y,), tol=1e-4))(data)
    assert list(lanes.status.success) == [True, True, False, True]
    alone = jo.minimize(loss, jnp.zeros(8), jo.proximal_gradient(SHRINK), args=(data[1],), tol=1e-4)
    np.testing.assert_allclose(lanes.params[1], alone.params, atol=1e-5)


def test_keep_in_at_the_end_of_a_chain(x64):
    opt = jo.chain(jo.adam(0.05), jo.keep_in(jo.projections.projection_simplex))

    def step(carry, _):
        w, state = carry
        updates, state = opt.update(jax.grad(loss)(w), state, w)
        w = jo.apply_updates(w, updates)
        return (w, state), jnp.sum(w)

    start = jnp.ones(8) / 8
    (w, _), sums = jax.lax.scan(step, (start, opt.init(start)), None, 400)
    np.testing.assert_allclose(sums, 1, atol=1e-12)
    best = jo.minimize(loss, start, jo.projected_gradient(jo.projections.projection_simplex))
    np.testing.assert_allclose(loss(w), best.value, rtol=2e-3)


def test_what_is_refused():
    with pytest.raises(jo.errors.TransformationError, match="prox must be a function"):
        jo.proximal_gradient(0.1)
    with pytest.raises(jo.errors.HyperparameterError, match="stepsize"):
        jo.projected_gradient(jo.projections.projection_simplex, 0.0)
    with pytest.raises(jo.errors.TreeError, match="prox's result"):
        jo.minimize(lambda x: jnp.sum(x**2), jnp.ones(3), jo.proximal_gradient(lambda x, s: x[:2]))
    with pytest.raises(jo.errors.MissingArgumentError, match="value_fn is missing"):
        jo.proximal_gradient(SHRINK).init(jnp.ones(3))
    with pytest.raises(jo.errors.TreeError, match="must be a matrix"):
        jo.prox_nuclear_norm(jnp.ones(3))
