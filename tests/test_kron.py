"""PSGD with Kronecker factors, SPlus and KL-Shampoo beside recorded peers and transcriptions of their equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_matrices as record
from test_matrix_methods import path_of

import jaxopt_ko as jo
from jaxopt_ko.optimizers.more import kron

KRON = {"kron": {"weight_decay": 0.1}, "kron_options": record.CASES["kron_options"][1]}


def recorded(name):
    with np.load(record.HERE / f"{name}.npz") as file:
        return file["path"]


def psgd(
    x, probes, rate=record.RATE, weight_decay=0.0, preconditioner_update_probability=1.0, memory_save_mode=None,
    momentum_into_precond_update=True, precond_lr=0.1, precond_init_scale=1.0, spoiled=False,
):  # fmt: skip
    """In float64, one matrix; spoiled: the step, too, is taken of the noisy gradient to which Q is fitted."""

    def largest(A):
        x = A @ A[:, np.argmax((A * A).sum(0))]
        return np.linalg.norm(A @ x) / np.linalg.norm(x)

    Q = [np.eye(n) * precond_init_scale**0.5 for n in x.shape]
    flat = [memory_save_mode == "one_diag" and side == int(x.shape[0] <= x.shape[1]) for side in (0, 1)]
    M, gone, path = 0.0, 0, []
    for t in range(1, record.STEPS + 1):
        G = np.sin(3 * x + t - 1)
        M, gone = 0.9 * M + 0.1 * G, gone + 1
        mean = M / (1 - 0.9**t)
        if gone >= 1 / preconditioner_update_probability:
            gone, V = 0, next(probes)
            H = mean if momentum_into_precond_update else G
            H = H + np.sqrt(np.finfo(np.float32).eps) * np.abs(H).mean() * V
            if spoiled and momentum_into_precond_update:
                mean = H
            A = Q[0] @ H @ Q[1].T
            B = np.linalg.inv(Q[0]).T @ V @ np.linalg.inv(Q[1])
            for side, (a, b) in enumerate([(A @ A.T, B @ B.T), (A.T @ A, B.T @ B)]):
                part, size = (lambda x: np.diag(np.diag(x)), np.max) if flat[side] else (np.triu, largest)
                Q[side] = Q[side] - precond_lr * part(a - b) / size(part(a + b) if flat[side] else a + b) @ Q[side]
        U = Q[0].T @ Q[0] @ mean @ Q[1].T @ Q[1]
        U = U * min(1, 1.1 / (np.sqrt((U * U).mean()) + 1e-12))
        x = x - rate * (U + weight_decay * x)
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize("name", KRON)
def test_the_transcription_is_kron_torch(name):
    """Which adds its noise in place: where Q is fitted to the momentum, the step is of the noisy one."""
    want, start = recorded(name), record.start(name).astype(np.float64)
    np.testing.assert_allclose(psgd(start, record.probes(name), spoiled=True, **KRON[name]), want, rtol=0, atol=1e-5)
    assert np.abs(want[-1] - want[0]).max() > 1e-2
    if name == "kron":  # that noise is a 3000th of the gradient
        np.testing.assert_allclose(psgd(start, record.probes(name), **KRON[name]), want, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", KRON)
def test_psgd_follows_its_equations(name, x64):
    start = record.start(name).astype(np.float64)
    key = jax.random.key(5)
    options, p = KRON[name], KRON[name].get("preconditioner_update_probability", 1.0)
    fitted_at = [t for t in range(1, record.STEPS + 1) if t % np.ceil(1 / p) == 0]
    probes = (np.asarray(kron.probe(jax.random.fold_in(key, t), jnp.zeros((1, *start.shape)))[0]) for t in fitted_at)
    got = path_of(jo.psgd_kron(record.RATE, key=key, **options), jnp.asarray(start))
    np.testing.assert_allclose(got, psgd(start, probes, **options), rtol=0, atol=1e-9)
    assert next(probes, None) is None


def test_what_comes_out_is_white_and_nothing_is_done_between(x64):
    """Gradients S_L**0.5 Z S_R**0.5 of random Z: Q_L' Q_L goes to a multiple of S_L**-0.5."""
    rng = np.random.default_rng(0)
    L, R = np.diag([1.0, 3.0, 10.0]), np.eye(4) + 0.5
    rate = jo.exponential_decay(0.1, 500, 0.5)
    opt = jo.scale_by_kron(b1=0.0, preconditioner_update_probability=0.5, precond_lr=rate)

    @quick.jit
    def run(gs):
        return jax.lax.scan(lambda s, g: (opt.update(g, s)[1], s), opt.init(gs[0]), gs)

    end, states = run(jnp.asarray(L @ rng.normal(size=(2000, 3, 4)) @ R))
    for Q, S in ((end.Q_L, L), (end.Q_R, R)):
        P = np.asarray(Q.T @ Q @ S)
        np.testing.assert_allclose(P / P[0, 0], np.eye(len(S)), atol=0.15)
    same = [np.array_equal(a, b) for a, b in itertools.pairwise(np.asarray(states.Q_L[:9]))]
    assert same == [True, False] * 4 and states.since[:5].tolist() == [0, 1, 0, 1, 0]
    text = str(jax.make_jaxpr(opt.update)({"a": L, "b": R, "c": L}, opt.init({"a": L, "b": R, "c": L})))
    assert "triangular_solve" in text and "triangular_solve" not in text.split("cond[", maxsplit=1)[0]
    assert text.count("cond[") == 3  # of two shapes, whatever the number of leaves, and of where these begin


def test_a_matrix_without_a_gradient_stays():
    opt = jo.scale_by_kron(key=1, memory_save_mode="one_diag", mu_dtype=jnp.bfloat16)
    g = {"w": jnp.zeros((3, 2))}
    u, state = opt.update(g, opt.init(g))
    assert not np.any(u["w"]) and state.mu["w"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(state.Q_L["w"], np.ones(3))
    np.testing.assert_array_equal(state.Q_R["w"], np.eye(2))


def test_which_sides_have_diagonals():
    def shapes(shape, **options):
        state = jo.scale_by_kron(**options).init(jnp.ones(shape))
        return [q.ndim for q in (state.Q_L, state.Q_R)]

    assert shapes((4, 6)) == [2, 2] and shapes((1, 6)) == [1, 2] and shapes((4, 6), max_size_triangular=5) == [2, 1]
    assert shapes((4, 6), min_ndim_triangular=3) == shapes((4, 6), memory_save_mode="all_diag") == [1, 1]
    assert shapes((4, 4), memory_save_mode="one_diag") == [2, 1]
    assert shapes((4, 4), memory_save_mode="smart_one_diag") == [2, 2]
    assert shapes((6, 4), memory_save_mode="smart_one_diag") == [1, 2]
    with pytest.raises(jo.errors.HyperparameterError, match="memory_save_mode must be one of"):
        jo.psgd_kron(memory_save_mode="two_diag")


# ---- SPlus ----------------------------------------------------------------------------------------------


def splus(x, steps, rate, b1, b2, ema_rate, every, weight_decay):
    """Algorithm 1 in float64: the paths of the parameters and of their mean."""
    (m, n), M, L, R, Q_L, Q_R, mean = x.shape, 0.0, 0.0, 0.0, np.eye(x.shape[0]), np.eye(x.shape[1]), 0.0
    path = []
    for t in range(1, steps + 1):
        G = np.sin(3 * x + t - 1)
        M, L, R = b1 * M + (1 - b1) * G, b2 * L + (1 - b2) * G @ G.T, b2 * R + (1 - b2) * G.T @ G
        x = x - rate * 2 / (m + n) * (Q_L @ np.sign(Q_L.T @ M @ Q_R) @ Q_R.T + weight_decay * x)
        mean = ema_rate * mean + (1 - ema_rate) * x
        if t == 1 or t % every == 0:
            Q_L, Q_R = np.linalg.eigh(L)[1], np.linalg.eigh(R)[1]
        path.append((x, mean / (1 - ema_rate**t)))
    return np.stack(path)


def test_splus_follows_its_paper_and_its_peer(x64):
    with np.load(record.HERE / "splus.npz") as file:
        peer = file["path"]
    start = record.start("splus")
    plain = {"b1": 0.8, "b2": 0.9, "precondition_frequency": 4, "weight_decay": 0.0}
    np.testing.assert_allclose(path_of(jo.splus(record.RATE, **plain), jnp.asarray(start)), peer, rtol=0, atol=1e-5)
    assert np.abs(peer[-1] - peer[0]).max() > 1e-3

    opt = jo.splus(0.1, **plain | {"weight_decay": 0.1}, ema_rate=0.9)

    def step(carry, k):
        p, state = carry
        updates, state = opt.update(jnp.sin(3 * p + k), state, p)
        p = jo.apply_updates(p, updates)
        return (p, state), jnp.stack([p, jo.averaged_params(state, p)])

    start = jnp.asarray(start.astype(np.float64))
    got = quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(20.0))[1])(start)
    np.testing.assert_allclose(got, splus(np.asarray(start), 20, 0.1, 0.8, 0.9, 0.9, 4, 0.1), rtol=0, atol=1e-9)


def test_splus_elsewhere():
    """A side that is too long, and leaves that are no matrices; what has no gradient is its own mean."""
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3), "frozen": jnp.ones(2)}
    opt = jo.splus(1.0, nonstandard_constant=0.25, weight_decay=0.0, max_precondition_dim=2)
    g = {"w": jnp.full((2, 3), -2.0), "b": jnp.full(3, 5.0), "frozen": None}
    u, state = opt.update(g, opt.init(params), params)
    np.testing.assert_allclose(u["w"], jnp.full((2, 3), 0.25))
    np.testing.assert_allclose(u["b"], jnp.full(3, -0.25))
    mean = jo.averaged_params(state, params)
    np.testing.assert_allclose(mean["w"], jnp.full((2, 3), 1.25), rtol=1e-6)
    np.testing.assert_array_equal(mean["frozen"], params["frozen"])


# ---- KL-Shampoo and KL-SOAP -----------------------------------------------------------------------------


def kl(x, steps, rate, adam, frequency, b1=0.9, b2=0.9, eps=1e-8, factor=0.1):
    """As their authors' code does it, in float64; at the first gradient no step."""
    (m, n), M, V, path = x.shape, 0.0, 0.0, []
    for count in range(steps):
        G = np.sin(3 * x + count)
        if count == 0:
            L, R = (1 - b2) * G @ G.T / n, (1 - b2) * G.T @ G / m
            Q_L, Q_R = np.linalg.eigh(L)[1][:, ::-1], np.linalg.eigh(R)[1][:, ::-1]
            d_L, d_R = np.full(m, factor), np.full(n, factor)
        else:
            turned = Q_L.T @ G @ Q_R
            M, V = b1 * M + (1 - b1) * G, b2 * V + (1 - b2) * turned**2
            size = np.sqrt(V) if adam else np.sqrt(np.outer(d_L, d_R))
            x = x - rate * Q_L @ (Q_L.T @ M @ Q_R / (size + eps)) @ Q_R.T
            L = b2 * L + (1 - b2) * G @ Q_R @ np.diag(1 / d_R) @ Q_R.T @ G.T / n
            R = b2 * R + (1 - b2) * G.T @ Q_L @ np.diag(1 / d_L) @ Q_L.T @ G / m
            d_L, d_R = (
                b2 * d_L + (1 - b2) * (turned**2 / d_R).mean(1),
                b2 * d_R + (1 - b2) * (turned**2 / d_L[:, None]).mean(0),
            )
            d_L, d_R = np.maximum(d_L, 1e-2), np.maximum(d_R, 1e-2)  # 1 / sqrt(d) <= 10
            if count % frequency == 0:
                Q_L, Q_R = np.linalg.qr(L @ Q_L)[0], np.linalg.qr(R @ Q_R)[0]
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize("adam", [False, True], ids=["shampoo", "soap"])
def test_kl_shampoo_follows_its_authors(adam, x64):
    start = np.random.default_rng(3).normal(size=(4, 4))
    method = jo.kl_soap if adam else jo.kl_shampoo
    opt = method(0.05, b2=0.9, weight_decay=0.0, precondition_frequency=3)
    got = path_of(opt, jnp.asarray(start), 20)
    np.testing.assert_allclose(got, kl(start, 20, 0.05, adam, 3), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(got[0], start)


def test_each_side_is_fitted_to_what_the_other_has_made_white(x64):
    """Gradients S_L**0.5 Z S_R**0.5 of random Z: L x R goes to S_L x S_R."""
    rng = np.random.default_rng(0)
    A, B = np.diag([1.0, 3.0, 10.0]), np.diag([0.5, 2.0, 1.0, 4.0])
    opt = jo.scale_by_kl_shampoo(b2=0.995, max_clamp_value=None, precondition_frequency=1)
    gs = jnp.asarray(A @ rng.normal(size=(2000, 3, 4)) @ B)
    end = quick.jit(lambda gs: jax.lax.scan(lambda s, g: (opt.update(g, s)[1], None), opt.init(gs[0]), gs)[0])(gs)
    got = np.kron(*(Q @ jnp.diag(D) @ Q.T for Q, D in ((end.Q_L, end.D_L), (end.Q_R, end.D_R))))
    np.testing.assert_allclose(np.diag(got), np.diag(np.kron(A, B)) ** 2, rtol=0.3)


def test_matrices_of_other_shapes_take_other_turns():
    opt = jo.scale_by_kron(preconditioner_update_probability=0.25)
    params = {"a": jnp.eye(3), "b": jnp.eye(2)}
    step = quick.jit(lambda s: opt.update(params, s)[1])
    states = [opt.init(params)]
    for _ in range(9):
        states.append(step(states[-1]))
    changed = [
        {key for key in params if not np.array_equal(now.Q_L[key], before.Q_L[key])}
        for before, now in itertools.pairwise(states)
    ]
    assert changed == [set(), {"b"}, set(), {"a"}] * 2 + [set()]
