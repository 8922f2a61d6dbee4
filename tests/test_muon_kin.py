"""What stands on Muon's engine: orthogonalization alone, NorMuon, AdaMuon, Scion, QK-clip."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from references import record_matrices as record

import jaxopt_ko as jo
from jaxopt_ko import matrices

# ---- orthogonalize --------------------------------------------------------------------------------------


def test_orthogonalize_is_muons_direction_without_its_mean():
    g = {"w": jax.random.normal(jax.random.key(0), (3, 4, 6)), "k": jax.random.normal(jax.random.key(1), (2, 2, 5))}
    numbers = {"w": jo.MuonDimensionNumbers(2, 1), "k": jo.MuonDimensionNumbers((0, 1), 2)}
    options = {"weight_dimension_numbers": numbers, "shape_scale": lambda fan_in, fan_out: fan_in / fan_out}
    alone, muon = jo.orthogonalize("cubic", **options), jo.scale_by_muon("cubic", beta=0.0, nesterov=False, **options)
    u, _ = quick.jit(alone.update)(g, alone.init(g))
    v, _ = quick.jit(muon.update)(g, muon.init(g))
    np.testing.assert_allclose(u["w"], v["w"], atol=1e-6)
    exact = matrices.polar_factor(g["k"].reshape(4, 5)) * 4 / 5
    np.testing.assert_allclose(u["k"].reshape(4, 5), exact, atol=1e-5)
    np.testing.assert_allclose(v["k"].reshape(4, 5), exact, atol=1e-5)


def test_labels_of_muon_are_those_of_all_recipes():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    for numbers in (None, {"w": jo.MuonDimensionNumbers(), "b": None}, lambda p: None):
        state = jo.muon(0.1, muon_weight_dimension_numbers=numbers).init(params)
        assert state.inner_states["matrix"].inner_state[0].mu["b"] == jo.MaskedNode()
        assert set(state.inner_states) == {"matrix", "rest"}


# ---- NorMuon and AdaMuon --------------------------------------------------------------------------------

START = np.random.default_rng(0).normal(size=(4, 6))


def follow(opt, params, steps=20, **extra):
    """Params after every step, the gradient sin(3 x + k) at step k."""

    def step(carry, k):
        p, state = carry
        g = jax.tree.map(lambda x: jnp.sin(3 * x + k.astype(x.dtype)), p)
        u, state = opt.update(g, state, p, **extra)
        p = jo.apply_updates(p, u)
        return (p, state), p

    return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(steps))[1])(params)


def newton_schulz(x, eps):
    x = x / (np.linalg.norm(x) + eps)
    for _ in range(5):
        A = x @ x.T if x.shape[0] <= x.shape[1] else x.T @ x
        B = -4.7750 * A + 2.0315 * A @ A
        x = 3.4445 * x + (B @ x if x.shape[0] <= x.shape[1] else x @ B)
    return x


def transcribed(name, W, rate, b1, b2, eps, decay, nesterov=False, sign=True):
    """Algorithm 1 of either paper, W float64[out, in], y = W x."""
    M, v, path = np.zeros_like(W), 0.0, []
    for t in range(1, 21):
        G = np.sin(3 * W + t - 1)
        M = b1 * M + (1 - b1) * G
        if name == "normuon":
            hat = M / (1 - b1**t)  # for eps; without Nesterov it is taken out again
            if nesterov:
                hat = b1 * M / (1 - b1 ** (t + 1)) + (1 - b1) * G / (1 - b1**t)
            Q = newton_schulz(hat, eps)
            v = b2 * v + (1 - b2) * np.mean(Q**2, axis=1, keepdims=True)
        else:
            Q = newton_schulz(np.sign(M) if sign else M, eps)
            v = b2 * v + (1 - b2) * Q**2
        N = Q / (np.sqrt(v) + eps)
        W = W - rate * (0.2 * np.sqrt(W.size) / np.linalg.norm(N) * N + decay * W)
        path.append(W)
    return np.stack(path)


@pytest.mark.parametrize(
    ("name", "option"),
    [("normuon", {}), ("normuon", {"nesterov": True}), ("adamuon", {}), ("adamuon", {"sign": False})],
)
def test_second_moments_follow_their_papers(name, option, x64):
    """A neuron is a row of the papers' W, a column of a kernel [in, out]."""
    opt = getattr(jo, name)(0.05, 0.9, 0.8, 1e-3, weight_decay=0.1, **option)
    for W in (START, START.T):
        want = transcribed(name, W, 0.05, 0.9, 0.8, 1e-3, 0.1, **option)
        got = follow(opt, jnp.asarray(W.T))
        np.testing.assert_allclose(got, want.swapaxes(1, 2), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["normuon", "adamuon"])
def test_second_moments_follow_a_public_implementation(name):
    """pytorch_optimizer's, its Newton-Schulz in float32; it leaves out AdaMuon's sign, as the paper's first version."""
    with np.load(record.HERE / f"{name}.npz") as file:
        want = file["path"]
    option = {"sign": False} if name == "adamuon" else {"weight_dimension_numbers": jo.MuonDimensionNumbers(1, 0)}
    opt = getattr(jo, name)(record.RATE, 0.95, 0.9, weight_decay=0.1, **option)
    start = jnp.asarray(record.start(name))
    np.testing.assert_allclose(follow(opt, start), want, rtol=0, atol=1e-5)
    if name == "adamuon":
        assert np.abs(follow(jo.adamuon(record.RATE, 0.95, 0.9, weight_decay=0.1), start) - want).max() > 1e-3


@pytest.mark.parametrize("make", [jo.scale_by_normuon, jo.scale_by_adamuon])
def test_dimension_numbers_and_stacks_of_second_moments(make):
    """A convolution's kernel is its matrix; the moment of a neuron is one number for each output; zeros stay zeros."""
    kernel = jax.random.normal(jax.random.key(5), (2, 3, 4, 8))
    numbers = jo.MuonDimensionNumbers((0, 1, 2), 3)
    conv, flat = make(weight_dimension_numbers=numbers), make()
    state, flat_state = conv.init({"k": kernel, "none": None}), flat.init(kernel.reshape(24, 8))
    assert state.nu["k"].shape == ((1, 1, 1, 8) if make is jo.scale_by_normuon else kernel.shape)
    for k in range(2):
        u, state = conv.update({"k": jnp.sin(k + kernel), "none": None}, state)
        v, flat_state = flat.update(jnp.sin(k + kernel).reshape(24, 8), flat_state)
        np.testing.assert_allclose(u["k"].reshape(24, 8), v, atol=2e-6)
        np.testing.assert_allclose(jnp.sqrt(jnp.mean(v**2)), 0.2, rtol=1e-5)
    zero, _ = flat.update(jnp.zeros((24, 8)), flat.init(jnp.zeros((24, 8))))
    assert not np.any(zero)
