"""Methods whose rule looks at a whole leaf, step by step against optax (live) and the papers, in float64.

Where optax computes in float32 or departs from the paper, the paper is transcribed and optax's difference shown.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from references.record import AWAKE, NOISE, call, gradient, make
from test_parity import (
    MASK,
    assert_differs,
    assert_follows,
    flatten,
    from_paper,
    halving,
    matrices,
    named,
    ours,
    relative_error,
    run,
    unflatten,
)

import jaxopt_ko as jo

pytestmark = pytest.mark.usefixtures("x64")

SGD = call("sgd", learning_rate=4e-3)
OPTAX = {
    "lamb-defaults": [call("lamb", learning_rate=1e-2)],
    "lamb-betas_eps_decay_mask": [
        call("lamb", learning_rate=halving, b1=0.8, b2=0.95, eps=1e-3, eps_root=1e-4, weight_decay=0.1, mask=matrices)
    ],
    "lars-defaults": [call("lars", learning_rate=1.0)],
    "lars-decay_coefficient_eps_nesterov": [
        call("lars", learning_rate=halving, weight_decay=0.1, trust_coefficient=0.5, eps=0.1, momentum=0.5,
             nesterov=True)
    ],
    "lars-masks": [
        call("lars", learning_rate=0.02, weight_decay=0.1, weight_decay_mask=MASK, trust_ratio_mask=matrices,
             trust_coefficient=0.1)
    ],
    "fromage-defaults": [call("fromage", learning_rate=0.02)],
    "fromage-min_norm_schedule": [call("fromage", learning_rate=halving, min_norm=0.5)],
    "novograd-defaults": [call("novograd", learning_rate=1e-2)],
    "novograd-betas_eps_decay": [
        call("novograd", learning_rate=halving, b1=0.8, b2=0.9, eps=1e-3, eps_root=1e-4, weight_decay=0.1)
    ],
    "adaptive_grad_clip-small": [call("adaptive_grad_clip", clipping=0.1), SGD],
    "adaptive_grad_clip-eps_axis": [call("adaptive_grad_clip", clipping=0.5, eps=0.1, axis=()), SGD],
    "clip_by_block_rms-small": [call("clip_by_block_rms", threshold=0.5), SGD],
    "clip_by_block_rms-between": [call("clip_by_block_rms", threshold=20.0), SGD],
    "centralize-sgd": [call("centralize"), SGD],
    "normalize_by_update_norm-scale": [call("normalize_by_update_norm", scale_factor=2.0, eps=0.1), SGD],
    "normalize-sgd": [call("normalize"), call("sgd", learning_rate=0.1)],
    "scale_by_param_block_norm-min_scale": [call("scale_by_param_block_norm", min_scale=0.5), SGD],
    "scale_by_param_block_rms-defaults": [call("scale_by_param_block_rms"), SGD],
    "scale_by_trust_ratio-min_norm": [
        call("scale_by_trust_ratio", min_norm=0.3, trust_coefficient=0.5, eps=0.1),
        call("sgd", learning_rate=0.1),
    ],
}  # fmt: skip


class Optax:
    """Both of its floors."""

    def __getattr__(self, name):
        return getattr(optax, name) if hasattr(optax, name) else getattr(optax.contrib, name)


def theirs(recipe):
    """Optax's params, updates and the gradients at its own params."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        return run(
            make(Optax(), recipe),
            lambda params, x: unflatten(gradient(flatten(params), *x)),
            (jnp.asarray(NOISE), jnp.asarray(AWAKE)),
            optax.apply_updates,
        )


@pytest.mark.parametrize("recipe", named({k: (v,) for k, v in OPTAX.items()}, "optax"))
def test_follows_optax(recipe):
    their_params, their_updates, gradients = theirs(recipe)
    params, updates = ours(recipe, gradients)
    assert_follows(params, their_params)
    assert_follows(updates, their_updates, "updates")


# ---- the papers, in their own letters: on the scalar, the vector and the matrix of the one tree -----------

LEAVES = (slice(0, 1), slice(1, 8), slice(8, 20))


def parts(x):
    return x[0].reshape(()), x[1:8], x[8:].reshape(3, 4)


def joined(leaves):
    return np.concatenate([np.reshape(leaf, -1) for leaf in leaves])


def leaf_by_leaf(rule):
    """A rule for one leaf, as `from_paper` takes one for all."""

    def whole(x, g, t, memory=(None, None, None)):
        ends = [rule(p, d, t, m) for p, d, m in zip(parts(x), parts(g), memory, strict=True)]
        return joined(p for p, _ in ends), [m for _, m in ends]

    return whole


def rms(x):
    return np.sqrt(np.mean(x * x))


def adafactor(p, g, t, memory):
    """Shazeer & Stern 2018, Algorithms 4 and 5, with momentum and decay as optax puts them behind."""
    R, C, V, m = memory or (0.0, 0.0, 0.0, 0.0)
    b = 1 - t**-0.7
    square = g * g + 1e-12
    if g.ndim < 2:
        V = b * V + (1 - b) * square
    else:
        R = b * R + (1 - b) * square.mean(1)
        C = b * C + (1 - b) * square.mean(0)
        V = np.outer(R, C) / R.mean()
    u = g / np.sqrt(V)
    u = 0.03 * u / max(1.0, rms(u) / 0.8)
    u = max(1e-3, rms(p)) * u
    m = 0.6 * m + 0.4 * u
    return p - m - 1e-3 * p, (R, C, V, m)


def sm3(p, g, t, memory):
    """Anil et al. 2019, Algorithm SM3-II with the cover of rows and columns, and their momentum."""
    mu, m = memory or ([np.zeros(n) for n in g.shape] or [np.zeros(())], np.zeros(g.shape))
    bound = mu[0] if g.ndim < 2 else np.minimum(mu[0][:, None], mu[1][None, :])
    v = bound + g * g
    mu = [v] if g.ndim < 2 else [v.max(1), v.max(0)]
    m = 0.9 * m + 0.1 * np.where(g == 0, 0, g / np.sqrt(v + 1e-8))
    return p - 0.3 * m, (mu, m)


def galore(keeps):
    def rule(p, g, t, memory):
        """Zhao et al. 2024, Algorithm 2, with Adam; [3, 4], so that the paper projects from the left."""
        P, m, v = memory or (None, 0.0, 0.0)
        R = g
        if g.ndim == 2:
            U, _, Vh = np.linalg.svd(g) if (t - 1) % 7 == 0 else (None, None, None)
            P = P if U is None else U[:, :2] if keeps == "long" else Vh[:2].T
            R = P.T @ g if keeps == "long" else g @ P
        m = 0.9 * m + 0.1 * R
        v = 0.999 * v + 0.001 * R * R
        u = m / (1 - 0.9**t) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        if g.ndim == 2:
            u = 0.5 * (P @ u if keeps == "long" else u @ P.T)
        return p - 0.05 * (u + 0.01 * p), (P, m, v)

    return rule


def lars_paper(p, g, t, memory):
    """You, Gitman & Ginsburg 2017, Algorithm 1: the norms of gradient and decay apart."""
    v = 0.0 if memory is None else memory
    norms = np.linalg.norm(g) + 0.1 * np.linalg.norm(p)
    rate = 0.05 * np.linalg.norm(p) / norms if np.linalg.norm(p) * norms > 0 else 1.0
    v = 0.9 * v + 0.2 * rate * (g + 0.1 * p)
    return p - v, v


GALORE = {"learning_rate": 0.05, "rank": 2, "update_proj_gap": 7, "scale": 0.5, "weight_decay": 0.01}
PAPERS = {
    "adafactor-momentum_decay": (
        call("adafactor", learning_rate=0.03, min_dim_size_to_factor=2, decay_rate=0.7, clipping_threshold=0.8,
             momentum=0.6, weight_decay_rate=1e-3, eps=1e-12, dtype_momentum="float64"),
        adafactor,
    ),
    "sm3-defaults": (call("sm3", learning_rate=0.3), sm3),
    "galore-paper": (call("galore", **GALORE, keeps="long"), galore("long")),
    "galore-optax": (call("galore", **GALORE), galore("short")),
    "lars-separate_norms": (
        call("lars", learning_rate=0.2, weight_decay=0.1, trust_coefficient=0.05, norms="separate"), lars_paper,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("recipe", "rule"), named(PAPERS, "paper"))
def test_follows_paper(recipe, rule):
    path, gradients = from_paper(leaf_by_leaf(rule))
    assert_follows(ours([recipe], gradients)[0], path)


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("adafactor-momentum_decay", 1e-8, 1e-4), ("galore-optax", 1e-8, 1.0)],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_optax_computes_these_in_float32(name, least, most):
    """Its decay 1 - t**-0.8 and its singular vectors, in float64 too."""
    recipe, rule = PAPERS[name]
    path, gradients = from_paper(leaf_by_leaf(rule))
    xs = jax.tree.map(jnp.asarray, unflatten(gradients))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        params, _, _ = run(make(Optax(), [recipe]), lambda params, g: g, xs, optax.apply_updates)
    assert least < relative_error(params, path).max() < most


def test_variants_differ():
    gradients = from_paper(leaf_by_leaf(lars_paper))[1]
    separate = PAPERS["lars-separate_norms"][0]
    joint = call("lars", **{**separate.arguments, "norms": "joint"})
    assert_differs(ours([separate], gradients)[0], ours([joint], gradients)[0])
    assert_differs(*(ours([PAPERS[name][0]], gradients)[0] for name in ("galore-paper", "galore-optax")))


@pytest.mark.rounding
def test_masked_norms_of_lars_are_the_plain_ones_elsewhere():
    arguments = {"learning_rate": 0.2, "weight_decay": 0.1, "trust_coefficient": 0.05}
    gradients = from_paper(leaf_by_leaf(lars_paper))[1]
    masks = {"weight_decay_mask": MASK, "trust_ratio_mask": matrices}
    masked = ours([call("lars", **arguments, **masks, norms="separate")], gradients)[0]
    whole = ours([call("lars", **arguments, norms="separate")], gradients)[0]
    joint = ours([call("lars", **arguments, **masks)], gradients)[0]
    np.testing.assert_allclose(masked[:, 8:], whole[:, 8:], rtol=1e-12)  # the matrix: both
    np.testing.assert_allclose(masked[:, :8], joint[:, :8], rtol=1e-12)  # no ratio


def test_optax_has_no_sm3_for_scalars():
    with pytest.raises(IndexError), jax.numpy_dtype_promotion("standard"):
        opt = optax.sm3(0.1)
        opt.update(jnp.ones(()), opt.init(jnp.ones(())))
    opt, start = jo.sm3(0.1), jnp.ones(())
    np.testing.assert_allclose(opt.update(start, opt.init(start))[0], -0.01, rtol=1e-6)


def test_sm3_without_scalars_is_optaxs():
    """b2 < 1, too, of which the paper knows nothing."""
    grads = [{"w": jnp.asarray(NOISE[k, 8:].reshape(3, 4)), "v": jnp.asarray(NOISE[k, 1:8])} for k in range(50)]

    def steps(library):
        opt = library.scale_by_sm3(0.8, 0.95, 1e-3)
        state, out = opt.init(grads[0]), []
        for g in grads:
            u, state = opt.update(g, state)
            out.append(np.concatenate([u["v"], np.ravel(u["w"])]))
        return np.stack(out)

    with jax.numpy_dtype_promotion("standard"):
        want = steps(optax)
    np.testing.assert_allclose(steps(jo), want, rtol=1e-9)
