"""The losses of optax's top level: values and gradients beside its own in float64; extremes; what does not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from quick import jit

import jaxopt_ko as jo

RNG = np.random.default_rng(0)
Z = 3 * RNG.normal(size=(4, 5))
P = np.exp(Z) / np.exp(Z).sum(1, keepdims=True)
T = RNG.dirichlet(np.ones(5), 4)
Y = RNG.integers(0, 2, (4, 5)).astype(float)
SIGNS = 2 * Y - 1
WHERE = RNG.random((4, 5)) < 0.7
MASKED_T = np.where(WHERE, T, 0.0)
LABELS = np.array([0, 1, 0, 1])
CLASSES = np.array([0, 4, 2, 2])
MORE = np.random.default_rng(1)
LISTED = WHERE & np.array([[True], [True], [False], [True]])
IMAGES, MARKED = MORE.normal(size=(2, 3, 4, 3)), np.eye(3)[MORE.integers(0, 3, (2, 3, 4))]

# name -> (arguments, keywords); the first argument is differentiated
TABLE = {
    "huber_loss": ((Z, T), {"delta": 0.7}),
    "log_cosh": ((Z, T), {}),
    "hinge_loss": ((Z, SIGNS), {}),
    "softmax_cross_entropy": ((Z, T), {}),
    "softmax_cross_entropy-axis": ((Z, T), {"axis": 0}),
    "softmax_cross_entropy-where": ((Z, MASKED_T), {"where": WHERE}),
    "softmax_cross_entropy-examples": ((Z, T), {"where": np.array([True, False, True, False])}),
    "safe_softmax_cross_entropy": ((Z, T), {}),
    "sigmoid_binary_cross_entropy": ((Z, Y), {}),
    "sigmoid_focal_loss": ((Z, Y), {"alpha": 0.3, "gamma": 1.5}),
    "sigmoid_focal_loss-plain": ((Z, Y), {}),
    "smooth_labels": ((T, 0.1), {}),
    "smooth_labels-where": ((T, 0.1), {"where": WHERE}),
    "kl_divergence": ((np.log(P), T), {}),
    "kl_divergence-where": ((np.log(P), T), {"where": WHERE, "axis": 0}),
    "generalized_kl_divergence": ((np.log(P), T), {}),
    "cosine_similarity": ((Z, T), {}),
    "cosine_similarity-where": ((Z, T), {"where": WHERE, "axis": 0}),
    "cosine_distance": ((Z, T), {}),
    "ntxent": ((Z, LABELS), {"temperature": 0.5}),
    "ntxent-three": ((Z, np.array([0, 0, 0, 1])), {}),
    "perceptron_loss": ((Z, SIGNS), {}),
    "sparsemax_loss": ((Z, Y), {}),
    "multiclass_hinge_loss": ((Z, CLASSES), {}),
    "multiclass_perceptron_loss": ((Z, CLASSES), {}),
    "multiclass_sparsemax_loss": ((Z, CLASSES), {}),
    "poly_loss_cross_entropy": ((Z, T), {"epsilon": -1.0}),
    "poly_loss_cross_entropy-where": ((Z, MASKED_T), {"where": WHERE, "axis": 0}),
    "kl_divergence_with_log_targets": ((np.log(P), np.log(T)), {}),
    "kl_divergence_with_log_targets-where": ((np.log(P), np.log(T)), {"where": WHERE, "axis": 0}),
    "ranking_softmax_loss": ((Z, T), {"weights": P}),
    "ranking_softmax_loss-where": ((Z, T), {"where": LISTED}),
    "ranking_softmax_loss-sum": ((Z, T), {"where": LISTED, "reduce_fn": jnp.sum}),
    "ranking_softmax_loss-each": ((Z, T), {"where": LISTED, "reduce_fn": None}),
    "triplet_margin_loss": ((Z, T, Z[::-1]), {}),
    "triplet_margin_loss-even": ((Z, T, Z[::-1]), {"norm_degree": 4, "axis": 0, "margin": 0.3, "eps": 0.01}),
    "dice_loss": ((IMAGES, MARKED), {}),
    "dice_loss-weighted": ((IMAGES, MARKED), {"class_weights": np.arange(1.0, 4), "alpha": 0.3, "reduction": "sum"}),
    "dice_loss-foreground": ((IMAGES, MARKED), {"ignore_background": True, "reduction": "none", "axis": (0, 2)}),
    "dice_loss-one": ((IMAGES[..., 0], MARKED[..., :1]), {}),
    "multiclass_generalized_dice_loss": ((IMAGES, MARKED), {"ignore_background": True}),
    "binary_dice_loss": ((IMAGES[..., 0], MARKED[..., 0]), {"smooth": 0.5}),
}


@pytest.mark.parametrize("name", TABLE)
def test_values_and_gradients_are_optaxs(name, x64):
    (x, *rest), options = TABLE[name]
    ours, theirs = (getattr(library.losses, name.split("-")[0]) for library in (jo, optax))

    def both(f):
        value = f(jnp.asarray(x), *rest, **options)
        return value, jax.grad(lambda x: jnp.sum(f(x, *rest, **options)))(jnp.asarray(x))

    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        want = jit(both, static_argnums=0)(theirs)
    for a, b in zip(jit(both, static_argnums=0)(ours), want, strict=True):
        assert a.shape == b.shape and a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)


def test_a_fenchel_young_loss_is_optaxs_and_of_logsumexp_the_cross_entropy(x64):
    args = jnp.asarray(Z), jnp.asarray(T)
    loss = jo.losses.make_fenchel_young_loss(jax.nn.logsumexp)
    np.testing.assert_allclose(loss(*args), optax.losses.make_fenchel_young_loss(jax.nn.logsumexp)(*args), rtol=1e-12)
    one_hot = jax.nn.one_hot(CLASSES, 5)
    np.testing.assert_allclose(loss(args[0], one_hot), jo.softmax_cross_entropy(args[0], one_hot), rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda z: jnp.sum(loss(z, args[1])))(args[0]), P - T, atol=1e-12)


def test_the_derivative_by_labels_of_zero(x64):
    z, labels = jnp.asarray([0.3, -1.0, 0.7]), jnp.asarray([0.0, 1.0, 0.0])
    slope = jax.grad(lambda y: jo.softmax_cross_entropy(z, y))(labels)
    np.testing.assert_allclose(slope, -jax.nn.log_softmax(z), rtol=1e-12)
    away = jo.softmax_cross_entropy(z.at[0].set(-jnp.inf), labels)
    assert np.isfinite(away)


def test_losses_by_margins_at_the_ends():
    big = jnp.asarray([[3e38, -jnp.inf, 0.0], [1.0, 2.0, -jnp.inf]])
    labels = jnp.asarray([0, 1])
    for name in ("multiclass_hinge_loss", "multiclass_perceptron_loss", "multiclass_sparsemax_loss"):
        loss = getattr(jo.losses, name)
        outside = loss(jnp.ones((2, 3)), jnp.asarray([3, -1]))
        assert np.isnan(outside).all(), name  # no class, and not another one
        np.testing.assert_allclose(loss(big[:, :2][1:], labels[1:]), 0.0, atol=1e-6)
        assert loss(jnp.ones((2, 4, 3), jnp.bfloat16), jnp.zeros((2, 4), jnp.int8)).dtype == jnp.float32
    np.testing.assert_array_equal(jo.losses.multiclass_perceptron_loss(big, labels), 0.0)
    np.testing.assert_allclose(jo.losses.sparsemax_loss(jnp.asarray([-3e38, 3e38, 0.0]), jnp.zeros(3)), [0, 3e38, 0.25])
    nothing = jo.losses.ranking_softmax_loss(jnp.ones((2, 3)), jnp.ones((2, 3)), where=jnp.zeros((2, 3), bool))
    assert nothing == 0
    slope = jax.grad(lambda z: jo.losses.ranking_softmax_loss(z, jnp.ones((1, 2)), where=jnp.zeros((1, 2), bool)))
    np.testing.assert_array_equal(slope(jnp.full((1, 2), jnp.nan)), 0.0)
    log_t = jnp.asarray([0.0, -jnp.inf])
    np.testing.assert_array_equal(jo.losses.kl_divergence_with_log_targets(log_t, log_t), 0.0)
    odd = jo.losses.triplet_margin_loss(jnp.zeros((1, 2)), jnp.ones((1, 2)), jnp.zeros((1, 2)), norm_degree=3, eps=0.0)
    np.testing.assert_allclose(odd, 2 ** (1 / 3) + 1, rtol=1e-6)  # |x|**3, not x**3


def test_probabilities_of_one_region_need_not_be_one():
    p, t = jnp.asarray([[0.9, 0.2]]), jnp.asarray([[1.0, 0.0]])
    both, said, true = 0.9, 1.1, 1.0
    want = 1 - (both + 1) / (both + 0.5 * (said - both) + 0.5 * (true - both) + 1)
    np.testing.assert_allclose(jo.losses.binary_dice_loss(p, t, apply_sigmoid=False), want, rtol=1e-6)
    with pytest.raises(jo.errors.TreeError, match=r"in \[0, 1\]"):
        jo.losses.binary_dice_loss(2 * p, t, apply_sigmoid=False)
    with pytest.raises(jo.errors.TreeError, match="add up to 1"):
        jo.losses.dice_loss(jnp.full((1, 2, 3), 0.5), jnp.ones((1, 2, 3)), apply_softmax=False)


# ---- connectionist temporal classification --------------------------------------------------------------

LOGITS = RNG.normal(size=(3, 7, 4))
SPELLED = np.array([[1, 2, 2], [3, 0, 0], [2, 1, 0]])
LENGTHS, TIMES = np.array([3, 1, 2]), np.array([7, 5, 6])


def paddings():
    return (np.arange(7) >= TIMES[:, None]).astype(float), (np.arange(3) >= LENGTHS[:, None]).astype(float)


def test_ctc_is_optaxs_and_the_sum_over_all_ways(x64):
    gaps, ends = paddings()
    loss, blank, label = jo.ctc_loss_with_forward_probs(jnp.asarray(LOGITS), gaps, SPELLED, ends)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        theirs = optax.ctc_loss_with_forward_probs(jnp.asarray(LOGITS), gaps, SPELLED, ends)
        slope = jax.grad(lambda z: jnp.sum(optax.ctc_loss(z, gaps, SPELLED, ends)))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(loss, theirs[0], rtol=1e-12)
    reached = np.asarray(theirs[1]) > -1e3
    np.testing.assert_allclose(np.asarray(blank)[reached], np.asarray(theirs[1])[reached], rtol=1e-12)
    reached = np.asarray(theirs[2]) > -1e3
    np.testing.assert_allclose(np.asarray(label)[reached], np.asarray(theirs[2])[reached], rtol=1e-12)
    ours = jax.grad(lambda z: jnp.sum(jo.ctc_loss(z, gaps, SPELLED, ends)))(jnp.asarray(LOGITS))
    np.testing.assert_allclose(ours, slope, rtol=1e-9, atol=1e-13)

    # by hand: all 4**5 ways of the second example, those that spell "3"
    log_p = np.asarray(jax.nn.log_softmax(LOGITS[1, :5], axis=-1))
    ways = np.stack(np.meshgrid(*[np.arange(4)] * 5, indexing="ij"), -1).reshape(-1, 5)
    spells = [[k for i, k in enumerate(way) if k and (i == 0 or way[i - 1] != k)] == [3] for way in ways]
    total = np.exp(log_p[np.arange(5)[None], ways].sum(1))[spells].sum()
    np.testing.assert_allclose(loss[1], -np.log(total), rtol=1e-12)


def test_ctc_agrees_with_torch():
    """Recorded from torch 2.13.0, torch.nn.functional.ctc_loss(reduction="none") in float64."""
    gaps, ends = paddings()
    loss = jo.ctc_loss(jnp.asarray(LOGITS, jnp.float32), gaps, SPELLED, ends)
    np.testing.assert_allclose(loss, TORCH, rtol=1e-5)


def test_what_ctc_takes_for_labels(x64):
    """Padding may be anything; a label that is no class, or is the blank, is no loss, and harms no other example."""
    gaps, ends = paddings()
    for padding in (-1, 99, 0):
        labels = np.where(ends == 0, SPELLED, padding)
        both = jax.value_and_grad(lambda z, labels=labels: jnp.sum(jo.ctc_loss(z, gaps, labels, ends)))
        value, slope = both(jnp.asarray(LOGITS))
        assert np.isfinite(value) and np.all(np.isfinite(slope))
        np.testing.assert_array_equal(jo.ctc_loss(LOGITS, gaps, labels, ends), jo.ctc_loss(LOGITS, gaps, SPELLED, ends))
    for wrong in (-1, 4, 0):
        labels = np.asarray(SPELLED).copy()
        labels[1, 0] = wrong
        np.testing.assert_array_equal(np.isnan(jo.ctc_loss(LOGITS, gaps, labels, ends)), [False, True, False])
    with pytest.raises(jo.errors.TreeError, match="labels must be integers"):
        jo.ctc_loss(LOGITS, gaps, np.asarray(SPELLED, float), ends)
    with pytest.raises(jo.errors.HyperparameterError, match=r"blank_id must be one of the 4 classes. Got blank_id=4"):
        jo.ctc_loss(LOGITS, gaps, SPELLED, ends, blank_id=4)


TORCH = [8.6952317, 4.2959719, 4.9550458]

# ---- extremes -------------------------------------------------------------------------------------------


def finite(f, *xs):
    value = f(*xs)
    slopes = jax.grad(lambda *xs: jnp.sum(f(*xs)), tuple(range(len(xs))))(*xs)
    return bool(jnp.all(jnp.isfinite(value))) and all(bool(jnp.all(jnp.isfinite(s))) for s in slopes)


def test_finite_where_optax_is_not():
    zero, one = jnp.zeros((1, 3)), jnp.ones((1, 3))
    assert finite(jo.cosine_similarity, zero, one) and not finite(optax.cosine_similarity, zero, one)
    far = jnp.array([[1e25, 1e25, 0.0]])
    np.testing.assert_allclose(jo.cosine_similarity(far, far), 1.0, rtol=1e-6)
    large = jnp.array([[200.0, -200.0, 0.0]])
    for f in (jo.log_cosh, jo.huber_loss):
        assert finite(lambda z, f=f: f(z, one), large)
    for f in (jo.sigmoid_binary_cross_entropy, jo.sigmoid_focal_loss, jo.softmax_cross_entropy):
        assert finite(lambda z, f=f: f(z, jnp.array([[1.0, 0.0, 0.0]])), large)
    assert finite(lambda z: jo.kl_divergence(z, jnp.array([[1.0, 0.0, 0.0]])), jnp.array([[0.0, -1e4, -1e4]]))
    logits = jnp.array([[0.0, -jnp.inf, 1.0]])
    np.testing.assert_allclose(
        jo.safe_softmax_cross_entropy(logits, jnp.array([[1.0, 0.0, 0.0]])), np.log(1 + np.e), rtol=1e-6
    )


def test_short_numbers_are_computed_in_float32():
    x = jnp.array([300.0, -300.0], jnp.float16)
    for f in (jo.log_cosh, jo.huber_loss):
        assert f(x).dtype == jnp.float32 and np.isfinite(f(x)).all()
    unit = jo.cosine_similarity(x, x)
    assert unit.dtype == jnp.float32 and abs(float(unit) - 1) < 1e-6


def test_log_cosh_keeps_the_digits_of_small_errors():
    """optax subtracts log 2 from what is nearly log 2."""
    x = jnp.array([1e-3, -1e-4])
    np.testing.assert_allclose(jo.log_cosh(x), np.square(x) / 2, rtol=1e-5)
    assert np.abs(optax.log_cosh(x) / (np.square(x) / 2) - 1).max() > 1e-2


def test_the_least_norm_is_a_norm():
    """optax compares epsilon with the norm's square."""
    p, t = jnp.array([1e-3, 0.0]), jnp.array([1.0, 0.0])
    np.testing.assert_allclose(jo.cosine_similarity(p, t, epsilon=1e-2), 0.1, rtol=1e-6)
    np.testing.assert_allclose(optax.cosine_similarity(p, t, epsilon=1e-2), 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: jo.softmax_cross_entropy(jnp.ones((2, 3)), jnp.ones(3)), r"labels must have the shape \(2, 3\)"),
        (lambda: jo.hinge_loss(jnp.ones(3, int), jnp.ones(3)), r"predictor_outputs must be real floating"),
        (lambda: jo.huber_loss(jnp.ones(2), delta=0.0), r"delta must be"),
        (lambda: jo.smooth_labels(jnp.ones(2), 1.5), r"alpha must be"),
        (lambda: jo.ntxent(jnp.ones((3, 2)), jnp.ones(2)), r"embeddings must be \[batch, n\]"),
        (
            lambda: jo.ctc_loss(jnp.ones((2, 3, 4)), jnp.ones((2, 3)), jnp.ones((2, 2), int), jnp.ones((2, 3))),
            r"label_pad",
        ),
    ],
)
def test_what_does_not_fit_is_said(call, words):
    with pytest.raises(ValueError, match=words):
        call()
