"""Projections: in the set, nearest, once is enough; over trees; derivatives; what is refused. And optax beside."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from jax.test_util import check_grads

import jaxopt_ko as jo

P = jo.projections

RNG = np.random.default_rng(5)
A, B = RNG.normal(size=(2, 6)), RNG.normal(size=2)
DIRECTION = RNG.normal(size=6)
LOWER, UPPER = -0.3 - RNG.random(6), 0.2 + RNG.random(6)


def l1_sphere(v):
    return np.sign(v) * np.abs(v) / np.abs(v).sum()


SETS = {  # name -> (projection of a vector, is it convex?, some point of the set from a random vector)
    "non_negative": (P.projection_non_negative, True, np.abs),
    "box": (lambda x: P.projection_box(x, LOWER, UPPER), True, lambda v: np.clip(v, LOWER, UPPER)),
    "hypercube": (lambda x: P.projection_hypercube(x, 0.7), True, lambda v: np.clip(v, 0, 0.7)),
    "linf_ball": (lambda x: P.projection_linf_ball(x, 0.6), True, lambda v: np.clip(v, -0.6, 0.6)),
    "simplex": (lambda x: P.projection_simplex(x, 1.5), True, lambda v: 1.5 * np.abs(v) / np.abs(v).sum()),
    "l1_sphere": (P.projection_l1_sphere, False, l1_sphere),
    "l1_ball": (P.projection_l1_ball, True, lambda v: 0.9 * l1_sphere(v)),
    "l2_sphere": (P.projection_l2_sphere, False, lambda v: v / np.linalg.norm(v)),
    "l2_ball": (P.projection_l2_ball, True, lambda v: 0.9 * v / np.linalg.norm(v)),
    "vector": (lambda x: P.projection_vector(x, DIRECTION), True, lambda v: v[0] * DIRECTION),
    "hyperplane": (
        lambda x: P.projection_hyperplane(x, DIRECTION, 0.4),
        True,
        lambda v: v - (v @ DIRECTION - 0.4) / (DIRECTION @ DIRECTION) * DIRECTION,
    ),
    "halfspace": (
        lambda x: P.projection_halfspace(x, DIRECTION, -0.4),
        True,
        lambda v: v - (v @ DIRECTION + 0.4 + abs(v[0])) / (DIRECTION @ DIRECTION) * DIRECTION,
    ),
    "affine_set": (
        lambda x: P.projection_affine_set(x, A, B),
        True,
        lambda v: v - np.linalg.pinv(A) @ (A @ v - B),
    ),
    "affine_set of dependent rows": (
        lambda x: P.projection_affine_set(x, np.stack([A[0], 2 * A[0]]), np.array([1.0, 2.0])),
        True,
        lambda v: v - (v @ A[0] - 1) / (A[0] @ A[0]) * A[0],
    ),
    "second_order_cone": (
        lambda x: jnp.concatenate([a.reshape(-1) for a in P.projection_second_order_cone((x[0], x[1:]))]),
        True,
        lambda v: np.concatenate([[np.linalg.norm(v[1:]) + abs(v[0])], v[1:]]),
    ),
    "psd_cone": (
        lambda x: P.projection_psd_cone(jnp.array([[x[0], x[1], x[2]], [x[1], x[3], x[4]], [x[2], x[4], x[5]]])),
        None,  # of a matrix: see its own test
        None,
    ),
}
VECTORS = {name: row for name, row in SETS.items() if row[1] is not None}


@pytest.mark.parametrize("name", VECTORS)
def test_it_is_in_the_set_once_is_enough_and_nothing_is_nearer(x64, name):
    project, convex, some = VECTORS[name]
    project = jax.jit(project)
    for x in RNG.normal(size=(8, 6)) * 2:
        p = np.asarray(project(jnp.asarray(x)))
        np.testing.assert_allclose(project(jnp.asarray(p)), p, atol=1e-12)
        for y in map(some, RNG.normal(size=(30, 6))):
            np.testing.assert_allclose(project(jnp.asarray(y)), y, atol=1e-12)  # it is a point of the set
            assert np.sum((x - p) ** 2) <= np.sum((x - y) ** 2) + 1e-12
            if convex:
                assert (x - p) @ (y - p) <= 1e-10


@pytest.mark.parametrize("name", VECTORS)
def test_derivatives(x64, name):
    for x in RNG.normal(size=(3, 6)):
        check_grads(VECTORS[name][0], (jnp.asarray(x),), order=2, modes=["fwd", "rev"], eps=1e-6, rtol=1e-4, atol=1e-4)


SAME = {
    "projection_non_negative": (),
    "projection_box": (-0.3, 0.4),
    "projection_hypercube": (0.7,),
    "projection_l1_ball": (0.8,),
    "projection_l1_sphere": (0.8,),
    "projection_l2_ball": (0.8,),
    "projection_l2_sphere": (0.8,),
    "projection_linf_ball": (0.8,),
    "projection_simplex": (0.8,),
}


@pytest.mark.parametrize("name", SAME)
def test_as_in_optax_over_trees(x64, name):
    tree = {"a": jnp.asarray(RNG.normal(size=(2, 3))), "b": [jnp.asarray(RNG.normal(size=4)), jnp.asarray(0.3)]}
    more = SAME[name]
    ours = getattr(jo.projections, name)(tree, *more)
    with jax.numpy_dtype_promotion("standard"):
        if name == "projection_box":  # trees, in optax
            more = tuple(jax.tree.map(lambda x, b=b: jnp.full_like(x, b), tree) for b in more)
        if name == "projection_hypercube":  # which fails on trees in optax 0.2.8
            theirs = jax.tree.map(lambda x: optax.projections.projection_hypercube(x, *more), tree)
        else:
            theirs = getattr(optax.projections, name)(tree, *more)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)
    assert all(x.dtype == jnp.bfloat16 for x in jax.tree.leaves(getattr(jo.projections, name)(half, *SAME[name])))


@pytest.mark.parametrize("name", ["projection_vector", "projection_hyperplane", "projection_halfspace"])
def test_as_in_optax_with_a_direction(x64, name):
    x, a = ({"a": jnp.asarray(RNG.normal(size=3)), "b": jnp.asarray(RNG.normal(size=2))} for _ in range(2))
    more = () if name == "projection_vector" else (0.3,)
    ours, theirs = (getattr(lib, name)(x, a, *more) for lib in (jo.projections, optax.projections))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), ours, theirs)


def test_the_sphere_from_its_centre_has_a_value():
    np.testing.assert_allclose(P.projection_l2_sphere(jnp.zeros(4), 2.0), 1.0)  # NaN in optax
    assert np.all(np.isfinite(jax.jacobian(P.projection_l2_ball)(jnp.zeros(4))))


def test_positive_semidefinite_matrices(x64):
    S = RNG.normal(size=(5, 4, 4))
    S = S + np.swapaxes(S, 1, 2)
    p = np.asarray(P.projection_psd_cone({"s": jnp.asarray(S)})["s"])
    rest = p - S  # the polar part: positive semidefinite, and orthogonal to p
    for matrix in (*p, *rest):
        assert np.linalg.eigvalsh(matrix).min() >= -1e-12
    np.testing.assert_allclose(np.sum(p * rest, axis=(1, 2)), 0, atol=1e-12)
    check_grads(P.projection_psd_cone, (jnp.asarray(S),), order=2, modes=["rev"], rtol=1e-4, atol=1e-4)
    same = jax.jacobian(P.projection_psd_cone)(jnp.eye(3))  # eigenvalues that meet
    np.testing.assert_allclose(
        same, np.eye(9).reshape(3, 3, 3, 3) / 2 + np.eye(9).reshape(3, 3, 3, 3).swapaxes(2, 3) / 2
    )


@pytest.mark.parametrize("shape", [(3, 4), (6, 2), (1, 3)])
def test_the_transport_polytope(x64, shape):
    Xs = RNG.normal(size=(100, *shape)) * np.exp(2 * RNG.normal(size=(100, 1, 1)))
    rs, cs = RNG.random((100, shape[0])), RNG.random((100, shape[1]))
    cs *= (rs.sum(1) / cs.sum(1))[:, None]
    ps = np.asarray(jax.jit(jax.vmap(P.projection_transport))(Xs, rs, cs))
    np.testing.assert_allclose(ps.sum(2), rs, atol=1e-12)
    np.testing.assert_allclose(ps.sum(1), cs, atol=1e-12)
    assert ps.min() >= 0
    X, r, c, p = Xs[0], rs[0], cs[0], ps[0]
    for _ in range(20):
        q = np.outer(r, c) / r.sum() + 0.0  # and moves along the polytope
        i, j, k, l = (RNG.integers(n) for n in (shape[0], shape[0], shape[1], shape[1]))  # noqa: E741
        move = RNG.random() * min(q[i, k], q[j, l])
        q[i, k] -= move
        q[j, l] -= move
        q[i, l] += move
        q[j, k] += move
        assert np.sum((X - p) * (q - p)) <= 1e-10
    check_grads(
        jax.jit(lambda X: P.projection_transport(X, r, c)), (jnp.asarray(X),), order=1, eps=1e-6, rtol=1e-4, atol=1e-4
    )
    lanes = quick.jit(jax.vmap(P.projection_transport, (0, None, None)))(jnp.stack([X, 2 * X]), r, c)
    np.testing.assert_allclose(lanes[0], p, atol=1e-12)


def test_sums_that_no_plan_has():
    X, a = jnp.ones((2, 3)), jnp.array([1.0, 2.0])
    no, short, below = jnp.ones(3), jnp.full(3, 0.9), jnp.array([-1.0, 2.0, 2.0])
    with pytest.raises(jo.errors.HyperparameterError, match=r"same total. Got 3 and 2.7\. No P has both"):
        P.projection_transport(X, a, short)
    with pytest.raises(jo.errors.HyperparameterError, match=r"must be >= 0. Got the least are 1 and -1"):
        P.projection_transport(X, a, below)
    lanes = quick.jit(jax.vmap(P.projection_transport, (None, None, 0)))(X, a, jnp.stack([no, short, below]))
    np.testing.assert_allclose(lanes[0].sum(1), a, rtol=1e-6)
    assert np.all(np.isnan(lanes[1:]))
    nearly = P.projection_transport(X, a, no * (1 + 1e-5))  # which float32 may make of equal ones
    np.testing.assert_allclose(nearly.sum(1), a, rtol=3e-5)
    assert P.projection_transport(X, a.astype(int), no.astype(int)).dtype == X.dtype


def test_what_is_refused():
    with pytest.raises(jo.errors.TreeError, match=r"projection_affine_set: A must have the shape \(2, 3\)"):
        P.projection_affine_set(jnp.ones(3), jnp.ones((2, 4)), jnp.ones(2))
    with pytest.raises(jo.errors.TreeError, match="square matrix"):
        P.projection_psd_cone(jnp.ones((2, 3)))
    with pytest.raises(jo.errors.TreeError, match="row_sums"):
        P.projection_transport(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(3))
    with pytest.raises(jo.errors.TreeError, match="lower"):
        P.projection_box({"a": jnp.ones(3)}, {"b": 0.0}, 1.0)
