"""What stands on Muon's engine: orthogonalization alone, NorMuon, AdaMuon, Scion, QK-clip."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest
import quick
from references import record_matrices as record

import jaxopt_ko as jo
from jaxopt_ko.linalg import matrix_functions

# ---- orthogonalize --------------------------------------------------------------------------------------


def test_orthogonalize_is_muons_direction_without_its_mean():
    g = {"w": jax.random.normal(jax.random.key(0), (3, 4, 6)), "k": jax.random.normal(jax.random.key(1), (2, 2, 5))}
    numbers = {"w": jo.MuonDimensionNumbers(2, 1), "k": jo.MuonDimensionNumbers((0, 1), 2)}
    options = {"weight_dimension_numbers": numbers, "shape_scale": lambda fan_in, fan_out: fan_in / fan_out}
    alone, muon = jo.orthogonalize("cubic", **options), jo.scale_by_muon("cubic", beta=0.0, nesterov=False, **options)
    u, _ = quick.jit(alone.update)(g, alone.init(g))
    v, _ = quick.jit(muon.update)(g, muon.init(g))
    np.testing.assert_allclose(u["w"], v["w"], atol=1e-6)
    exact = matrix_functions.polar_factor(g["k"].reshape(4, 5)) * 4 / 5
    np.testing.assert_allclose(u["k"].reshape(4, 5), exact, atol=1e-5)
    np.testing.assert_allclose(v["k"].reshape(4, 5), exact, atol=1e-5)


def test_labels_of_muon_are_optaxs():
    params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3)}
    for numbers in (None, {"w": jo.MuonDimensionNumbers(), "b": None}, lambda p: None):
        state = jo.muon(0.1, muon_weight_dimension_numbers=numbers).init(params)
        assert state.inner_states["muon"].inner_state[0].mu["b"] == jo.MaskedNode()
        assert set(state.inner_states) == set(optax.contrib.muon(0.1).init(params).inner_states) == {"muon", "adam"}


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


# ---- Scion ----------------------------------------------------------------------------------------------

# norm of W [out, in] -> -lmo(W) on the unit ball
ORACLES = {
    "spectral": lambda W: np.sqrt(W.shape[0] / W.shape[1]) * newton_schulz(W, 0.0),
    "column": lambda W: np.sqrt(W.shape[0]) * W / np.linalg.norm(W, axis=0),
    "row": lambda W: W / np.linalg.norm(W, axis=1, keepdims=True) / np.sqrt(W.shape[1]),
    "sign": lambda W: np.sign(W) / W.shape[1],
    "rms": lambda W: np.sqrt(W.size) * W / np.linalg.norm(W),
}


@pytest.mark.parametrize("norm", ORACLES)
@pytest.mark.parametrize("constrained", [True, False])
def test_scion_follows_its_paper(norm, constrained, x64):
    W, d, want = START, np.zeros_like(START), []
    for k in range(20):
        d = 0.3 * np.sin(3 * W + k) + 0.7 * d
        W = (1 - 0.05 if constrained else 1) * W - 0.05 * 0.7 * ORACLES[norm](d)
        want.append(W.T)
    got = follow(jo.scion(0.05, 0.7, 0.7, norm, constrained, eps=0.0), jnp.asarray(START.T))
    np.testing.assert_allclose(got, np.stack(want), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", record.SCION)
def test_scion_follows_a_public_implementation(name):
    """pytorch_optimizer's, its Newton-Schulz in float32; by columns it swaps the words in and out, not the numbers."""
    with np.load(record.HERE / f"scion_{name}.npz") as file:
        want = file["path"]
    norm = "rms" if name == "bias" else name
    opt = jo.scion(record.RATE, 0.7, {norm: 0.7}, norm, constrained=name != "sign")
    got = follow(opt, jnp.asarray(record.start(f"scion_{name}").T))
    np.testing.assert_allclose(got, want if name == "bias" else want.swapaxes(1, 2), rtol=0, atol=1e-5)


def test_norms_are_chosen_by_leaf_and_the_ball_is_not_left():
    params = {"embed": START, "layers": [{"w": START.T, "b": START[0]}, {"w": START[:3], "b": START[1]}]}
    params = jax.tree.map(lambda x: jnp.float32(0.1 * x), params)
    norms = {"embed": "column", "layers": [{"w": "spectral", "b": "rms"}, "sign"]}
    opt = jo.scion(0.2, 0.5, {"column": 2.0, "spectral": 1.0, "rms": 1.5, "sign": 0.25}, norms, ns_coeffs="cubic")
    end = jax.tree.map(lambda x: np.asarray(x[-1], np.float64), follow(opt, params, 30))
    (first, second), embed = end["layers"], end["embed"]
    assert np.linalg.norm(embed, axis=1).max() <= 2 * np.sqrt(6) * 1.0001  # what one input does
    assert np.linalg.norm(first["w"], 2) <= np.sqrt(4 / 6) * 1.0001
    assert np.sqrt(np.mean(first["b"] ** 2)) <= 1.5 * 1.0001
    assert np.abs(second["w"]).max() <= 0.25 / 3 * 1.0001 and np.abs(second["b"]).max() <= 0.25 * 1.0001
    by_shape = jo.scion(0.1).init(params)[1].inner_states
    assert set(by_shape) == set(jo.scion(0.1, radius=dict.fromkeys(ORACLES, 1.0)).init(params)[1].inner_states)
    u, _ = (opt := jo.scion(1.0, constrained=False)).update(params, opt.init(params), params)
    np.testing.assert_array_equal(u["layers"][0]["b"], -np.sign(START[0]))
    assert np.linalg.svd(u["embed"], compute_uv=False).max() < 1.3 * np.sqrt(6 / 4)


def test_oracles_of_stacks_convolutions_and_zeros():
    g = jax.random.normal(jax.random.key(2), (3, 2, 2, 4, 6))
    for norm in ORACLES:
        if norm in ("sign", "rms"):
            stacked, one = jo.scale_by_lmo(norm, stack_axes=1), jo.scale_by_lmo(norm)
        else:
            numbers = [jo.MuonDimensionNumbers(axes, out) for axes, out in (((1, 2, 3), 4), ((0, 1, 2), 3))]
            stacked, one = (jo.scale_by_lmo(norm, weight_dimension_numbers=n) for n in numbers)
        u, _ = stacked.update(g, stacked.init(g))
        flat = jo.scale_by_lmo(norm)
        for i in range(3):
            v, _ = one.update(g[i], one.init(g[i]))
            w, _ = flat.update(g[i].reshape(16, 6), flat.init(g[i].reshape(16, 6)))
            np.testing.assert_allclose(u[i], v, atol=1e-6, err_msg=norm)
            np.testing.assert_allclose(v.reshape(16, 6), w, atol=1e-6, err_msg=norm)
        assert not np.any(flat.update(jnp.zeros((2, 3)), flat.init(jnp.zeros((2, 3))))[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.scale_by_lmo("nuclear"), r"norm must be one of 'spectral'"),
        (lambda: jo.scale_by_lmo(radius=0.0), r"radius must be"),
        (lambda: jo.scion(0.1, radius={"frobenius": 1.0}), r"scion: each norm of radius must be one of"),
        (lambda: jo.scion(0.1, 1.0), r"b1"),
        (lambda: jo.scale_by_lmo("row").update(jnp.ones(3), jo.scale_by_lmo("row").init(jnp.ones(3))), r"must have 0"),
        (lambda: jo.normuon(0.1, b2=1.0), r"b2 must be in \[0, 1\)"),
        (lambda: jo.scale_by_adamuon(rms=0.0), r"rms must be"),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()


# ---- QK-clip --------------------------------------------------------------------------------------------


def attention(key, heads=3, size=4):
    """Kernels [in, heads, size], side by side, and of latent attention: q and k each of a part of one kernel."""
    keys = jax.random.split(key, 7)
    shapes = {
        "query": {"kernel": (5, heads, size), "bias": (heads, size)}, "key": {"kernel": (5, heads * size)},
        "q_b": {"kernel": (5, heads * size)}, "kv_b": {"kernel": (5, heads, size)},
        "k_r": {"kernel": (5, 2)}, "value": {"kernel": (5, heads, size)},
    }  # fmt: skip
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda x: isinstance(x, tuple))
    return treedef.unflatten([jax.random.normal(k, shape) for k, shape in zip(keys, leaves, strict=True)])


HEADS = jo.labels_by_path(
    {
        "query/kernel$": jo.QKHeads("query", 1),
        "query/bias$": jo.QKHeads("query", 0),
        "key/kernel$": jo.QKHeads("key", -1),
        "q_b": jo.QKHeads((("query", 3), ("query_alone", 1)), 1),
        "kv_b": jo.QKHeads((("key", 1), ("rest", 3)), 1),
    }
)


def clipped(layer, S, tau, alpha):
    """Algorithm 1 of the report, head by head, on weights after the step."""
    out = jax.tree.map(lambda x: np.array(x, np.float64), layer)
    heads = {name: out[name]["kernel"].reshape(5, 3, 4) for name in ("query", "key", "q_b", "kv_b")}
    for h in range(3):
        if S[h] > tau:
            gamma = tau / S[h]
            heads["query"][:, h] *= gamma**alpha
            out["query"]["bias"][h] *= gamma**alpha
            heads["key"][:, h] *= gamma ** (1 - alpha)
            heads["q_b"][:, h, :3] *= gamma**alpha
            heads["q_b"][:, h, 3:] *= gamma
            heads["kv_b"][:, h, :1] *= gamma ** (1 - alpha)
    return out


@pytest.mark.parametrize("alpha", [0.5, 0.2])
def test_qk_clip_follows_its_report_behind_any_optimizer(alpha, x64):
    params = {"layers": [{"attention": attention(jax.random.key(k))} for k in range(2)], "head": jnp.ones((2, 3))}
    logits = {"layers/0/attention": jnp.array([50.0, 130.0, -3.0]), "layers/1": jnp.array([100.0, 400.0, 101.0])}
    alone = jo.chain(jo.muon(0.02, consistent_rms=0.2, weight_decay=0.1))
    both = jo.chain(alone, jo.qk_clip(HEADS, 100.0, alpha))
    u, _ = alone.update(jax.tree.map(jnp.sin, params), alone.init(params), params)
    v, _ = quick.jit(both.update)(jax.tree.map(jnp.sin, params), both.init(params), params, max_logits=logits)
    after = jo.apply_updates(params, u)
    want = [clipped(layer["attention"], np.asarray(S), 100.0, alpha)
            for layer, S in zip(after["layers"], logits.values(), strict=True)]  # fmt: skip
    got = jo.apply_updates(params, v)
    for layer, expected in zip(got["layers"], want, strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), layer["attention"], expected)
    nested = {"layers": [{"attention": logits["layers/0/attention"]}, logits["layers/1"]]}
    again, _ = both.update(jax.tree.map(jnp.sin, params), both.init(params), params, max_logits=nested)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-12), again, v)


def test_logits_after_the_clip_are_tau():
    x = jax.random.normal(jax.random.key(0), (7, 5))
    params = {"q": jax.random.normal(jax.random.key(1), (5, 12)), "k": jax.random.normal(jax.random.key(2), (5, 12))}

    def largest(p):
        q, k = ((x @ p[name]).reshape(7, 3, 4) for name in "qk")
        return jnp.max(jnp.einsum("ihd,jhd->hij", q, k), axis=(1, 2))

    S = largest(params)
    tau = float(jnp.median(S))
    opt = jo.qk_clip({"q": jo.QKHeads("query", 1), "k": jo.QKHeads("key", 1)}, tau, 0.3)
    u, _ = opt.update(jax.tree.map(jnp.zeros_like, params), opt.init(params), params, max_logits=S)
    np.testing.assert_allclose(largest(jo.apply_updates(params, u)), jnp.minimum(S, tau), rtol=1e-5)


def test_a_stack_of_layers_is_clipped_as_its_layers():
    layers = [attention(jax.random.key(k)) for k in range(2)]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *layers)
    S = jnp.array([[1.0, 200.0, 3.0], [150.0, 100.0, 1e9]])

    def behind(own):
        return None if own is None else own._replace(axis=(0, own.axis % 2 + 1 if own.axis >= 0 else own.axis))

    heads = jax.tree.map(behind, HEADS(layers[0]), is_leaf=lambda x: x is None or isinstance(x, jo.QKHeads))
    opt, one = jo.qk_clip(heads), jo.qk_clip(HEADS)
    u, _ = opt.update(stacked, opt.init(stacked), stacked, max_logits=S)
    np.testing.assert_array_equal(u["query"]["kernel"][0, :, 0], stacked["query"]["kernel"][0, :, 0])  # below tau
    np.testing.assert_array_equal(u["value"]["kernel"], stacked["value"]["kernel"])
    for i, layer in enumerate(layers):
        v, _ = one.update(layer, one.init(layer), layer, max_logits=S[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), u, v)


def test_what_cannot_be_clipped_is_said():
    p = {"a": {"q": jnp.ones((5, 6))}}

    def clip(own, logits, params=p):
        opt = jo.qk_clip({"a": {"q": own}})
        return opt.update(p, opt.init(p), params, max_logits=logits)

    S = jnp.ones(3)
    clip(jo.QKHeads("query", 1), {"a": S})
    for own, logits, words in (
        (jo.QKHeads("query", 1), None, "max_logits is missing"),
        (jo.QKHeads("query", 1), {"b": S}, "must have a layer whose name begins the path a/q"),
        (jo.QKHeads("query", 0), {"a": S}, r"the leaf a/q must have the heads of max_logits, shape \(3,\)"),
        (jo.QKHeads((("key", 1), ("rest", 2)), 1), {"a": S}, "each head the parts"),
        (jo.QKHeads("values", 1), {"a": S}, "part of a/q must be one of 'query'"),
    ):
        with pytest.raises(ValueError, match=words):
            clip(own, logits)
    with pytest.raises(ValueError, match="each pattern must be a regular expression"):
        jo.labels_by_path({"(": 1})


def test_labels_by_path_deal_leaves_out():
    labels = jo.labels_by_path({"embed|bias": "rest"}, "matrix")
    params = {"embed": jnp.ones((2, 3)), "layer": [{"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}, None]}
    assert labels(params) == {"embed": "rest", "layer": [{"kernel": "matrix", "bias": "rest"}, "matrix"]}
    opt = jo.partition({"matrix": jo.scale_by_muon(), "rest": jo.set_to_zero()}, labels)
    u, _ = opt.update(params, opt.init(params), params)
    assert not np.any(u["embed"]) and np.any(u["layer"][0]["kernel"])
