"""Orthogonalization, stacks of like shapes, and Muon beside optax's, torch's and a transcription."""

import jax
import jax.numpy as jnp
import numpy as np
import optax.contrib
import pytest
import quick

import jaxopt_ko as jo
from jaxopt_ko.core.stacking import MatrixAxes, on_stacks, stack_like_shapes
from jaxopt_ko.linalg import matrix_functions

# preset -> (steps asked for, how far its singular values are from 1 at most, for a matrix of condition number 3)
WITHIN = {
    "standard": (5, 0.33),
    "dion": (5, 0.04),
    "polar_express": (5, 0.14),
    "deepseek": (5, 1e-3),
    "deepseek_v4": (5, 1e-3),
    "cans": (5, 0.14),
    "quintic": (5, 1e-5),
    "cubic": (12, 1e-5),
}
X = jax.random.normal(jax.random.key(0), (3, 12, 40))


# ---- orthogonalization ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", WITHIN)
def test_presets_come_as_near_to_the_polar_factor_as_they_say(preset):
    steps, within = WITHIN[preset]
    u = quick.jit(lambda x: matrix_functions.orthogonalized(x, matrix_functions.PRESETS[preset](steps)))(X)
    s = np.linalg.svd(np.asarray(u), compute_uv=False)
    assert np.abs(s - 1).max() < within
    exact = matrix_functions.polar_factor(X)
    assert np.linalg.norm(u - exact, ord=2, axis=(1, 2)).max() < within * 1.01
    np.testing.assert_allclose(exact @ exact.mT, np.broadcast_to(np.eye(12), (3, 12, 12)), atol=1e-5)


def test_polar_express_is_minimax_step_by_step():
    """Amsel et al. 2025, Theorem 3.1: a polynomial is as far from 1 at both ends of the interval that the one before
    leaves as at its maximum between them; its minimum between them is no lower than the first end."""
    low, high = 1e-3, 1.0
    for a, b, c in matrix_functions._EXPRESS[:6]:
        between = np.sqrt((-3 * b + np.array([-1, 1]) * np.sqrt(9 * b**2 - 20 * a * c)) / (10 * c))
        s = np.array([low, *between, high])
        np.testing.assert_array_equal(np.sort(s), s)
        p = a * s + b * s**3 + c * s**5
        np.testing.assert_allclose(p[[1, 3]] - 1, 1 - p[0], rtol=1e-6)
        assert p[2] > p[0] * (1 - 1e-6)
        low, high = p[0], p[-1]


def test_polar_express_in_eight_steps_is_exact():
    u = matrix_functions.orthogonalized(X, matrix_functions.PRESETS["polar_express"](8))
    np.testing.assert_allclose(u, matrix_functions.polar_factor(X), atol=5e-6)
    assert len(matrix_functions.PRESETS["polar_express"](11)) == 11


@pytest.mark.parametrize("how", matrix_functions.PRECONDITIONINGS)
@pytest.mark.parametrize("gram", [False, True])
def test_either_side_and_either_form_give_the_same(how, gram):
    abc = matrix_functions.PRESETS["standard"](5)
    run = quick.jit(lambda x: matrix_functions.orthogonalized(x, abc, preconditioning=how, gram=gram))
    np.testing.assert_allclose(run(X.mT).mT, run(X), atol=2e-6)
    plain = matrix_functions.orthogonalized(X, abc, preconditioning=how, gram=False)
    np.testing.assert_allclose(run(X), plain, atol=2e-6)


@pytest.mark.parametrize("spread", [1e-2, 1e-4, 1e-6])
def test_gram_form_of_ill_conditioned_matrices(spread):
    """Within 4e-4 of the plain form, though A holds the squares of the singular values: it is made anew in between."""
    u, _, vt = np.linalg.svd(np.asarray(X[0], np.float64), full_matrices=False)
    x = jnp.asarray((u * np.geomspace(1, spread, 12)) @ vt, jnp.float32)
    for preset in ("standard", "polar_express", "cubic"):
        abc = matrix_functions.PRESETS[preset](8)
        plain, gram = (
            quick.jit(lambda x, g=g, abc=abc: matrix_functions.orthogonalized(x, abc, gram=g))(x) for g in (False, True)
        )
        np.testing.assert_allclose(gram, plain, atol=4e-4, err_msg=preset)


def test_zero_low_rank_and_16_bit_matrices():
    abc = matrix_functions.PRESETS["standard"](5)
    assert not np.any(matrix_functions.orthogonalized(jnp.zeros((2, 3, 9)), abc))
    low = jnp.ones((4, 16))
    assert np.isfinite(matrix_functions.orthogonalized(low, abc)).all()
    for dtype, near in ((jnp.bfloat16, 0.1), (jnp.float16, 0.02)):
        u = matrix_functions.orthogonalized(X, abc, compute_dtype=dtype)
        assert u.dtype == dtype
        assert np.abs(u.astype(jnp.float32) - matrix_functions.orthogonalized(X, abc)).max() < near


# ---- stacks ---------------------------------------------------------------------------------------------


def test_leaves_of_one_shape_are_one_stack_and_come_back():
    leaves = [jnp.ones((3, 4)), 2 * jnp.ones((5, 3, 4)), 3 * jnp.ones((4, 3)), jnp.arange(24.0).reshape(2, 3, 4)]
    axes = [MatrixAxes((0,), (1,)), MatrixAxes((1,), (2,)), MatrixAxes((0,), (1,)), MatrixAxes((2,), (1,))]
    seen = []

    def double(stack):
        seen.append(stack.shape)
        return 2 * stack

    back = on_stacks(double, axes, leaves, when=jnp.array(True))
    assert set(seen) == {(6, 3, 4), (3, 4, 3)}
    for twice, leaf in zip(back, leaves, strict=True):
        np.testing.assert_array_equal(twice, 2 * leaf)
    assert not any(np.any(x) for x in on_stacks(double, axes, leaves, when=jnp.array(False)))
    np.testing.assert_array_equal(stack_like_shapes(leaves[3:], axes[3:])[1], leaves[3][1].T)


# ---- Muon -----------------------------------------------------------------------------------------------

PARAMS = {
    "wide": jax.random.normal(jax.random.key(1), (4, 12)),
    "tall": jax.random.normal(jax.random.key(2), (9, 3)),
    "square": jax.random.normal(jax.random.key(3), (4, 4)),
    "bias": jnp.arange(5.0),
}


def gradients(params, k):
    return jax.tree.map(lambda p: jnp.sin(3 * p + k.astype(p.dtype)), params)


def path_of(opt, params=PARAMS, steps=20, apply_updates=jo.apply_updates):
    """Params after every step."""

    def step(carry, k):
        p, state = carry
        updates, state = opt.update(gradients(p, k), state, p)
        p = apply_updates(p, updates)
        return (p, state), p

    return quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), jnp.arange(steps))[1])(params)


def close(a, b, atol):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), atol=atol, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": False, "beta": 0.8},
        {"adaptive": True},
        {"preconditioning": "aol", "ns_steps": 4},
        {"preconditioning": "schatten"},
        {"preconditioning": "spectral"},
        {
            "consistent_rms": 0.2,
            "weight_decay": 0.1,
            "weight_decay_mask": {**dict.fromkeys(PARAMS, True), "tall": False},
        },
        {"ns_coeffs": "dion", "adam_learning_rate": 0.01, "adam_b1": 0.7},
        {"ns_coeffs": ((3.0, -4.0, 1.9), (1.5, -0.5, 0.0))},
    ],
    ids=lambda options: ",".join(options) or "defaults",
)
def test_follows_optax(options):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = path_of(optax.contrib.muon(0.02, **options), apply_updates=optax.apply_updates)
    close(path_of(jo.muon(0.02, **options)), theirs, 1e-5)


def jordan(params, rate, beta, steps):
    """The post's algorithm, for one matrix, in float64."""
    x, m, path = np.asarray(params, np.float64), 0.0, []
    for t in range(1, steps + 1):
        g = np.sin(3 * x + t - 1)
        m = beta * m + (1 - beta) * g
        u = beta * m + (1 - beta) * g
        u = u.T if u.shape[0] > u.shape[1] else u
        u = u / np.linalg.norm(u)
        for _ in range(5):
            A = u @ u.T
            u = 3.4445 * u + (-4.7750 * A + 2.0315 * A @ A) @ u
        u = u.T if x.shape[0] > x.shape[1] else u
        x = x - rate * max(1.0, x.shape[1] / x.shape[0]) ** 0.5 * u
        path.append(x)
    return np.stack(path)


@pytest.mark.parametrize("leaf", ["wide", "tall", "square"])
def test_follows_the_post_in_float64(leaf, x64):
    """Its momentum has no bias correction, which the normalization takes out but for Nesterov's first steps."""
    params = PARAMS[leaf].astype(jnp.float64)
    rate, beta = 0.02, 0.9

    def rule(g, state, p=None):
        m = beta * state + (1 - beta) * g
        return beta * m + (1 - beta) * g, m

    raw = jo.GradientTransformation(lambda p: jnp.zeros_like(p), rule)
    shape = max(1.0, params.shape[1] / params.shape[0]) ** 0.5
    opt = jo.chain(raw, jo.scale_by_muon(beta=0.0, eps=0.0), jo.scale(-rate * shape))
    np.testing.assert_allclose(path_of(opt, params), jordan(params, rate, beta, 20), rtol=0, atol=1e-9)


@pytest.mark.parametrize("stack_axes", [1, {"layers": 1, "experts": 2, "head": 0}], ids=["integer", "prefix"])
def test_stacked_leaves_are_separate_matrices(stack_axes):
    keys = jax.random.split(jax.random.key(4), 3)
    stacked = {
        "layers": jax.random.normal(keys[0], (3, 4, 9)),
        "experts": jax.random.normal(keys[1], (2, 2, 4, 9)),
        "head": jax.random.normal(keys[2], (6, 5)),
    }
    if stack_axes == 1:
        stacked = {"layers": stacked["layers"]}
    apart = {"layers": list(stacked["layers"])}
    if stack_axes != 1:
        apart |= {"experts": [list(x) for x in stacked["experts"]], "head": stacked["head"]}
    ours = path_of(jo.muon(0.02, weight_decay=0.1, adaptive=True, stack_axes=stack_axes), stacked)
    separate = path_of(jo.muon(0.02, weight_decay=0.1, adaptive=True), apart)
    close(ours["layers"], jnp.stack(separate["layers"], axis=1), 1e-6)
    if stack_axes != 1:
        close(ours["experts"], jnp.stack([jnp.stack(x, axis=1) for x in separate["experts"]], axis=1), 1e-6)
        close(ours["head"], separate["head"], 1e-6)


def test_dimension_numbers_of_a_convolution():
    numbers = {"kernel": jo.MuonDimensionNumbers((0, 1, 2), 3), "bias": None}
    params = {"kernel": jax.random.normal(jax.random.key(5), (3, 3, 4, 8)), "bias": jnp.ones(8)}
    theirs = {"kernel": optax.contrib.MuonDimensionNumbers((0, 1, 2), 3), "bias": None}
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        want = path_of(
            optax.contrib.muon(0.02, muon_weight_dimension_numbers=theirs), params, apply_updates=optax.apply_updates
        )
    for given in (numbers, lambda p: numbers):
        close(path_of(jo.muon(0.02, muon_weight_dimension_numbers=given), params), want, 2e-6)
    flat = {"kernel": params["kernel"].reshape(36, 8), "bias": params["bias"]}
    close(path_of(jo.muon(0.02), flat)["kernel"].reshape(-1, 3, 3, 4, 8), want["kernel"], 2e-6)


def test_the_rest_goes_to_any_transformation():
    u, _ = (opt := jo.muon(0.02, rest=jo.sgd(1.0))).update(PARAMS, opt.init(PARAMS), PARAMS)
    np.testing.assert_allclose(u["bias"], -PARAMS["bias"])


def test_the_scale_of_a_gradient_does_not_matter():
    for scale in (1e-12, 1e25):
        g = jax.tree.map(lambda p, s=scale: s * p, PARAMS)
        opt = jo.muon(0.02, eps=0.0)
        u, _ = opt.update(g, opt.init(PARAMS), PARAMS)
        v, _ = opt.update(PARAMS, opt.init(PARAMS), PARAMS)
        close({k: u[k] for k in ("wide", "tall", "square")}, {k: v[k] for k in ("wide", "tall", "square")}, 2e-6)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.muon(0.1, "sixth"), r"scale_by_muon: ns_coeffs must be one of 'standard'"),
        (lambda: jo.muon(0.1, (1.0, 2.0)), r"ns_coeffs must be three finite numbers"),
        (lambda: jo.muon(0.1, ns_steps=0), r"ns_steps"),
        (lambda: jo.muon(0.1, preconditioning="none"), r"preconditioning must be one of"),
        (lambda: jo.scale_by_muon().update(PARAMS, jo.scale_by_muon().init(PARAMS)), r"the leaf \['bias'\] must have"),
        (
            lambda: jo.scale_by_muon(weight_dimension_numbers=jo.MuonDimensionNumbers(0, 0)).update(
                {"w": jnp.ones((2, 3))}, jo.scale_by_muon().init({"w": jnp.ones((2, 3))})
            ),
            r"the leaf \['w'\] must have the separate axes",
        ),
        (lambda: jo.muon(0.1, stack_axes={"a": 1}).init(PARAMS), r"stack_axes"),
    ],
)
def test_what_does_not_fit_is_said(make, words):
    with pytest.raises(ValueError, match=words):
        make()
