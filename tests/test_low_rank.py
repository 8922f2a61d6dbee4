"""Dion and APOLLO beside transcriptions of their papers and recorded references."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_matrices as record
from test_matrix_methods import path_of

import jaxopt_ko as jo
from jaxopt_ko.linalg import matrix_functions
from jaxopt_ko.optimizers.more.apollo import projection


def dion(x, Q, steps, rate, mu, turned):
    """Algorithm 1 in float64, of x or, turned, of its transpose."""
    fan_in, fan_out = x.shape
    M, path = np.zeros_like(x), []
    for k in range(steps):
        B = M + np.sin(3 * x + k)
        B = B.T if turned else B
        P, _ = np.linalg.qr(B @ Q)
        R = B.T @ P
        M = B - (1 - mu) * P @ R.T
        Q = R / np.linalg.norm(R, axis=0)
        U = P @ Q.T
        M, U = (M.T, U.T) if turned else (M, U)
        x = x - rate * (np.sqrt(fan_out / fan_in) * U + 0.1 * x)
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize(
    ("shape", "side", "turned"),
    [((6, 4), "long", False), ((5, 5), "long", True), ((6, 4), "output", True), ((4, 6), "input", False)],
)
def test_dion_follows_its_paper(shape, side, turned, x64):
    x = np.random.default_rng(0).normal(size=shape)
    opt = jo.dion(0.02, 0.5, 0.9, 0.0, 0.1, orthonormal_side=side, key=3)
    Q = opt.init(jnp.asarray(x)).inner_states["matrix"].inner_state[0].Q
    assert Q.shape == (shape[0] if turned else shape[1], -(-min(shape) // 2))
    got = path_of(opt, jnp.asarray(x), 20)
    np.testing.assert_allclose(got, dion(x, np.asarray(Q), 20, 0.02, 0.9, turned), rtol=0, atol=1e-9)


def test_dion_follows_the_authors_code():
    """It has [fan_out, fan_in], and P always on the first side."""
    with np.load(record.HERE / "dion.npz") as file:
        Q, want = file["Q"], file["path"].swapaxes(1, 2)
    rule = jo.scale_by_dion(0.5, orthonormal_side="output")
    started = jo.GradientTransformation(lambda p: rule.init(p)._replace(Q=jnp.asarray(Q)), rule.update)
    opt = jo.chain(started, jo.add_decayed_weights(0.1), jo.scale(-record.RATE))
    got = path_of(opt, jnp.asarray(record.start("dion").T))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(want[-1] - want[0]).max() > 0.01


@pytest.mark.parametrize("kind", ["well", "ill", "dependent", "zero"])
def test_columns_are_orthonormal_by_every_method(kind):
    x = np.array(jax.random.normal(jax.random.key(0), (2, 160, 3)))
    x[1] *= kind != "zero"
    if kind in ("ill", "dependent"):
        x[1, :, 2] = x[1, :, 0] + (1e-4 * x[1, :, 2] if kind == "ill" else 0)
    exact = np.linalg.qr(np.float64(x))[0]
    for how in matrix_functions.QR_METHODS:
        Q = quick.jit(lambda x, how=how: matrix_functions.orthonormal_columns(x, how, jax.random.key(1)))(x)
        np.testing.assert_allclose(Q.mT @ Q, np.broadcast_to(np.eye(3), (2, 3, 3)), atol=1e-4)
        if kind in ("well", "ill"):
            signs = np.sign(np.sum(exact * Q, axis=1, keepdims=True))
            np.testing.assert_allclose(Q * signs, exact, atol=1e-5 if kind == "well" else 2e-2)


def test_dion_makes_no_step_of_rounding_errors():
    a, b = jax.random.normal(jax.random.key(0), (2, 8))
    g = jnp.outer(a, b)
    rule = jo.scale_by_dion()
    u, state = rule.update(g, rule.init(g))
    np.testing.assert_allclose(u, g / jnp.linalg.norm(g), atol=1e-5)
    u, new = rule.update(0 * g, rule.init(g))
    assert not np.any(u) and not np.any(new.M)
    u, _ = rule.update(jnp.eye(8), state)  # the directions that were not in use are not lost
    np.testing.assert_allclose(jnp.linalg.norm(u), jnp.sqrt(8), rtol=0.1)


def apollo(x, Ps, steps, rate, scale, kind, gamma):
    """Algorithm 1 in float64, with b1 = 0.8, b2 = 0.9, eps = 0 and Fira's limit; of x with columns as channels."""
    M, V, norm, path = 0.0, 0.0, 0.0, []
    for k in range(steps):
        G = np.sin(3 * x + k)
        R = Ps[k // record.GAP] @ G
        M, V = 0.8 * M + 0.2 * R, 0.9 * V + 0.1 * R * R
        N = M / np.sqrt(V)
        s = np.linalg.norm(N, axis=0) / np.linalg.norm(R, axis=0)
        D = G * (s if kind == "channel" else np.linalg.norm(N) / np.linalg.norm(R))
        if norm:
            D = D * min(1.0, gamma * norm / np.linalg.norm(D))
        norm = np.linalg.norm(D)
        x = x - rate * (scale * np.sqrt(1 - 0.9 ** (k + 1)) / (1 - 0.8 ** (k + 1)) * D + 0.1 * x)
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize(
    ("shape", "kind", "keeps", "turned", "gamma"),
    [
        ((4, 6), "channel", "long", False, 1.01),
        ((6, 4), "channel", "long", True, np.inf),
        ((4, 6), "channel", "short", True, 1.2),
        ((5, 5), "tensor", "long", False, 1.01),
    ],
)
def test_apollo_follows_its_paper(shape, kind, keeps, turned, gamma, x64):
    x, rank = np.random.default_rng(0).normal(size=shape), 3 if kind == "channel" else 1
    opt = jo.apollo(0.02, rank, record.GAP, 1.5, 0.8, 0.9, 0.0, 0.1, scale_type=kind, gamma=gamma, keeps=keeps, key=5)
    side = shape[1] if turned else shape[0]
    Ps = [np.asarray(projection(jax.random.key(5), jnp.int32(k), (rank, side), jnp.float64)) for k in range(3)]
    assert not np.allclose(Ps[0], Ps[1])
    got = path_of(opt, jnp.asarray(x), 20)
    want = apollo(x.T if turned else x, Ps, 20, 0.02, 1.5, kind, gamma)
    np.testing.assert_allclose(got, want.swapaxes(1, 2) if turned else want, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("apollo", {"rank": 4, "key": 11}),
        ("apollo_mini", {"rank": 1, "scale": 2.0, "scale_type": "tensor", "key": 12}),
    ],
)
def test_apollo_follows_the_authors_code(name, options, monkeypatch):
    """It has [fan_out, fan_in]."""
    with np.load(record.HERE / f"{name}.npz") as file:
        want = file["path"].swapaxes(1, 2)
        Ps = np.stack([file[f"P{k}"] for k in range(3)])
    Ps = Ps if name == "apollo_mini" else Ps.swapaxes(1, 2)
    drawn = jnp.asarray(Ps)
    module = importlib.import_module("jaxopt_ko.optimizers.more.apollo")
    monkeypatch.setattr(module, "projection", lambda key, draw, shape, dtype: drawn[draw])
    opt = jo.chain(jo.scale_by_apollo(update_proj_gap=record.GAP, **options), jo.scale(-record.RATE))
    jax.clear_caches()  # equal rules share a program: none with another projection before, nor with this one after
    got = path_of(opt, jnp.asarray(record.start(name).T))
    jax.clear_caches()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)
    assert np.abs(want[-1] - want[0]).max() > 0.01


def test_apollo_starts_again_after_steps_of_zero():
    """The authors' code goes on from a norm of zero: the next step is 1e-8 long, and a hundredth longer each time."""
    g = jax.random.normal(jax.random.key(0), (3, 4))
    rule = jo.scale_by_apollo(2)
    u, state = rule.update(0 * g, rule.init(g))
    assert not np.any(u)
    u, state = rule.update(g, state)
    assert np.linalg.norm(u) > 0.1
    u, state = rule.update(100 * g, state)
    assert np.all(np.isfinite(u)) and state.norm > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.scale_by_dion(0.0), r"rank_fraction must be in \(0, 1\]"),
        (lambda: jo.scale_by_dion(qr_method="svd"), r"qr_method must be one of"),
        (lambda: jo.scale_by_dion(orthonormal_side="short"), r"orthonormal_side must be one of"),
        (lambda: jo.scale_by_dion(key=-1), r"key must be a PRNG key or an integer seed >= 0"),
        (lambda: jo.scale_by_apollo(0), r"rank must be an integer of at least 1"),
        (lambda: jo.scale_by_apollo(scale_type="row"), r"scale_type must be one of"),
        (lambda: jo.scale_by_apollo(gamma=0.9), r"gamma must be a number >= 1"),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
