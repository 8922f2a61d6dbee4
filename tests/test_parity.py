"""Step by step against torch (recorded), optax (live) and the published equations, in float64.

Every run is 60 steps on one nested tree of three shapes. Both sides of a comparison get the same gradients:
those met by the reference on its own way. An error is relative to the reference's value, element by element.

The tables OPTAX and PAPERS, here and in tests/parity/, are what `examples/parity_table.py` reads, too:
    OPTAX   "method-variant": [calls]          ours as optax, called alike (from optax or optax.contrib)
    PAPERS  "method-variant": (rule, call)     ours as rule(x, g, t, *memory) -> (x, *memory); a list of calls: a chain
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
import quick
from references import record
from references.record import AWAKE, CASES, NOISE, SHAPES, SIZE, START, STEPS, call, gradient, make

import jaxopt_ko as jo

TOLERANCE = 1e-9
pytestmark = pytest.mark.usefixtures("x64")

# ---- runs -----------------------------------------------------------------------------------------------


def unflatten(flat):
    """(…, 20) -> a nested tree with the leaves (…,), (…, 7), (…, 3, 4)."""
    lead = flat.shape[:-1]
    scalar, vector, matrix = flat[..., 0], flat[..., 1:8], flat[..., 8:].reshape(*lead, 3, 4)
    assert [x.shape[len(lead) :] for x in (scalar, vector, matrix)] == list(SHAPES)
    return {"scalar": scalar, "inner": [vector, {"matrix": matrix}]}


def flatten(tree, lead=()):
    leaves = [tree["scalar"], tree["inner"][0], tree["inner"][1]["matrix"]]
    return jnp.concatenate([leaf.reshape(*lead, -1) for leaf in leaves], axis=-1)


def run(pair, gradients_of, xs, apply_updates=jo.apply_updates):
    """Params, updates and gradients of every step, (60, 20) each, as one jitted scan over `xs`."""

    @quick.jit
    def scan(params, xs):
        def step(carry, x):
            params, state = carry
            gradients = gradients_of(params, x)
            updates, state = pair.update(gradients, state, params)
            params = apply_updates(params, updates)
            return (params, state), (params, updates, gradients)

        return jax.lax.scan(step, (params, pair.init(params)), xs)[1]

    trees = scan(jax.tree.map(jnp.asarray, unflatten(START)), xs)
    return [np.asarray(flatten(tree, (STEPS,))) for tree in trees]


def ours(recipe, gradients, **extra):
    """Our params and updates, fed with these gradients (60, 20), and told this beside them."""
    xs, pair = jax.tree.map(jnp.asarray, unflatten(gradients)), make(jo, recipe)
    if extra:
        pair = jo.GradientTransformation(pair.init, functools.partial(pair.update, **extra))
    return run(pair, lambda params, gradient: gradient, xs)[:2]


class _Optax:
    """The names of optax and of optax.contrib."""

    def __getattr__(self, name):
        return getattr(optax if hasattr(optax, name) else optax.contrib, name)


THEIRS = _Optax()


def theirs(recipe, gradients):
    """Optax's params and updates, fed with these gradients."""
    with jax.numpy_dtype_promotion("standard"):
        xs = jax.tree.map(jnp.asarray, unflatten(gradients))
        return run(make(THEIRS, recipe), lambda params, gradient: gradient, xs, optax.apply_updates)[:2]


def from_optax(recipe):
    """Optax's params, updates and the gradients at its own params."""
    with jax.numpy_dtype_promotion("standard"):
        return run(
            make(THEIRS, recipe),
            lambda params, x: unflatten(gradient(flatten(params), *x)),
            (jnp.asarray(NOISE), jnp.asarray(AWAKE)),
            optax.apply_updates,
        )


def from_paper(rule):
    """Params and gradients of rule(x, g, t, *memory) -> (x, *memory), t = 1, 2, …, in NumPy."""
    x, memory, path = START, (), []
    for t in range(1, STEPS + 1):
        x, *memory = rule(x, gradient(x, NOISE[t - 1], AWAKE[t - 1]), t, *memory)
        path.append(x)
    path = np.stack(path)
    return path, record.gradients_along(path)


def relative_error(got, want):
    """|got - want| / |want|; of what cancels below 1e-10 no digits are left to compare."""
    return np.abs(got - want) / np.maximum(np.abs(want), 1e-10)


def assert_follows(got, want, what="params"):
    assert got.shape == want.shape == (STEPS, SIZE)
    assert np.isfinite(want).all(), f"the reference's {what} are not finite"
    assert np.isfinite(got).all(), f"our {what} are not finite from step {1 + np.argwhere(~np.isfinite(got))[0][0]}"
    error = relative_error(got, want)
    step, coordinate = np.unravel_index(np.argmax(error), error.shape)
    first = np.argwhere(error > TOLERANCE)
    assert not len(first), (
        f"{what}: relative error {error.max():.2e} at step {step + 1}, coordinate {coordinate}: "
        f"{got[step, coordinate]!r}, not {want[step, coordinate]!r}; "
        f"first beyond {TOLERANCE} at step {first[0][0] + 1}, coordinate {first[0][1]}"
    )


def assert_differs(a, b):
    """Apart by far more than the tolerance, or the comparisons above would not tell the two."""
    assert relative_error(a, b).max() > 1e-4


def named(table, reference):
    """The rows of a table as test parameters: method-reference-variant."""
    return [pytest.param(*row, id=name.replace("-", f"-{reference}-", 1)) for name, row in table.items()]


# ---- torch, recorded ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_follows_recorded(case):
    path = record.recorded(case)
    params, _ = ours(case.ours, record.gradients_along(path))
    assert_follows(params, path)


def test_records_are_those_of_the_table():
    assert len({case.name for case in CASES}) == len(CASES)
    files = {f"torch-{case.peer.lower()}.npz" for case in CASES}
    beside = {
        "torch-batchnorm.npz",
        "torch-gradscaler.npz",
        "low-precision.npz",
        "run-safety.npz",
    }  # of the other record_*.py
    assert {path.name for path in record.HERE.glob("*.npz")} == files | beside
    for name in files:
        with np.load(record.HERE / name) as file:
            variants = {case.variant for case in CASES if f"torch-{case.peer.lower()}.npz" == name}
            assert set(file) == variants | {"versions"}
            assert [str(version).split()[0] for version in file["versions"]] == ["torch", "numpy"]
            assert all(file[variant].dtype == np.float64 for variant in variants)


def test_recorded_variants_differ():
    """Each option of torch's bites on this problem: no two recorded runs of one class are alike."""
    for case in CASES:
        for other in CASES:
            # At the default b2 the raw second moment only grows here: its maximum is itself.
            same = {"defaults", "amsgrad_raw_maximum"} == {
                case.variant,
                other.variant,
            } and case.peer == "Adam"
            if case.peer == other.peer and case.variant < other.variant and not same:
                assert_differs(record.recorded(case), record.recorded(other))


@pytest.mark.references
def test_records_anew_what_is_committed(tmp_path):
    torch = pytest.importorskip("torch")
    default = torch.get_default_dtype()
    files = record.record(tmp_path)
    assert torch.get_default_dtype() == default
    for case in CASES:
        np.testing.assert_allclose(  # another machine may round otherwise
            record.recorded(case, tmp_path), record.recorded(case), rtol=1e-12, atol=1e-14, err_msg=case.name
        )
    with np.load(files[0]) as file:
        assert file["versions"][0] == f"torch {torch.__version__}"


# ---- optax, live ----------------------------------------------------------------------------------------


def halving(k):
    """A schedule: 0.02, halved every 15 steps."""
    return 0.02 * 0.5 ** (k // 15).astype("float64")


def rising(k):
    """A schedule for weight decay, momentum and the like: 0, 0.01, 0.02, …"""
    return 0.01 * k.astype("float64")


def matrices(params):
    return jax.tree.map(lambda p: p.ndim == 2, params)


MASK = {"scalar": True, "inner": [False, {"matrix": True}]}
FAR = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}  # far from the defaults
SGD = call("sgd", learning_rate=4e-3)

OPTAX = {
    "sgd-defaults": [SGD],
    "sgd-momentum": [call("sgd", learning_rate=4e-3, momentum=0.9)],
    "sgd-nesterov": [call("sgd", learning_rate=4e-3, momentum=0.7, nesterov=True)],
    "sgd-momentum_schedule": [call("sgd", learning_rate=halving, momentum=0.5)],
    "adagrad-defaults": [call("adagrad", learning_rate=0.1)],
    "adagrad-accumulator_eps": [call("adagrad", learning_rate=0.3, initial_accumulator_value=0.7, eps=1e-2)],
    "adagrad-accumulator_zero": [call("adagrad", learning_rate=0.3, initial_accumulator_value=0.0)],
    "adagrad-schedule": [call("adagrad", learning_rate=halving)],
    "rmsprop-defaults": [call("rmsprop", learning_rate=0.01)],
    "rmsprop-decay_eps_initial_scale": [call("rmsprop", learning_rate=0.02, decay=0.7, eps=1e-3, initial_scale=0.5)],
    "rmsprop-eps_outside_root": [call("rmsprop", learning_rate=0.02, eps=1e-2, eps_in_sqrt=False)],
    "rmsprop-centered": [call("rmsprop", learning_rate=0.01, centered=True)],
    "rmsprop-centered_eps_outside_root": [
        call(
            "rmsprop",
            learning_rate=0.01,
            decay=0.8,
            eps=1e-2,
            eps_in_sqrt=False,
            centered=True,
            initial_scale=0.1,
        )
    ],
    "rmsprop-momentum": [call("rmsprop", learning_rate=0.01, momentum=0.9)],
    "rmsprop-momentum_schedule": [call("rmsprop", learning_rate=halving, momentum=0.8)],
    "rmsprop-nesterov": [call("rmsprop", learning_rate=0.01, momentum=0.8, nesterov=True)],
    "rmsprop-centered_nesterov_schedule": [
        call("rmsprop", learning_rate=halving, momentum=0.8, nesterov=True, centered=True)
    ],
    "rmsprop-bias_correction": [call("rmsprop", learning_rate=0.01, bias_correction=True)],
    "rmsprop-bias_correction_centered_momentum": [
        # The corrected variance of one gradient is 0 but for rounding: only a large eps makes that a number.
        call(
            "rmsprop",
            learning_rate=0.05,
            decay=0.95,
            eps=1.0,
            centered=True,
            bias_correction=True,
            momentum=0.7,
        )
    ],
    "adadelta-defaults": [call("adadelta", learning_rate=1.0)],
    "adadelta-rho_eps_decay": [call("adadelta", learning_rate=0.5, rho=0.8, eps=1e-3, weight_decay=0.1)],
    "adadelta-schedule_decay_mask": [call("adadelta", learning_rate=halving, weight_decay=0.1, weight_decay_mask=MASK)],
    "adam-defaults": [call("adam", learning_rate=1e-3)],
    "adam-betas_eps": [call("adam", learning_rate=0.05, **FAR)],
    "adam-eps_root": [call("adam", learning_rate=0.05, eps=0.0, eps_root=1e-6)],
    "adam-nesterov": [call("adam", learning_rate=0.05, nesterov=True, **FAR)],
    "adam-schedule": [call("adam", learning_rate=halving)],
    "adamw-defaults": [call("adamw", learning_rate=1e-3)],
    "adamw-betas_eps_decay": [call("adamw", learning_rate=0.05, weight_decay=0.1, **FAR)],
    "adamw-mask_tree": [call("adamw", learning_rate=0.05, weight_decay=0.1, mask=MASK)],
    "adamw-mask_function": [call("adamw", learning_rate=0.05, weight_decay=0.1, mask=matrices)],
    "adamw-nesterov": [call("adamw", learning_rate=0.05, nesterov=True)],
    "adamw-schedule_of_rate_and_decay": [call("adamw", learning_rate=halving, weight_decay=rising)],
    "nadam-defaults": [call("nadam", learning_rate=1e-3)],
    "nadam-betas_eps": [call("nadam", learning_rate=0.05, eps_root=1e-4, **FAR)],
    "nadam-nesterov_off_schedule": [call("nadam", learning_rate=halving, nesterov=False)],
    "nadamw-defaults": [call("nadamw", learning_rate=1e-3)],
    "nadamw-betas_eps_decay_mask": [call("nadamw", learning_rate=0.05, weight_decay=0.1, mask=MASK, **FAR)],
    "amsgrad-defaults": [call("amsgrad", learning_rate=1e-3)],
    "amsgrad-betas_eps": [call("amsgrad", learning_rate=0.05, eps_root=1e-4, **FAR)],
    "amsgrad-uncorrected_mu": [call("amsgrad", learning_rate=0.05, bias_correction_mu=False, **FAR)],
    "amsgrad-uncorrected_both_schedule": [
        call("amsgrad", learning_rate=halving, bias_correction_mu=False, bias_correction_nu=False)
    ],
    "amsgrad-uncorrected_nu": [call("amsgrad", learning_rate=0.05, bias_correction_nu=False, **FAR)],
    "adamax-defaults": [call("adamax", learning_rate=1e-3)],
    "adamax-betas_eps_schedule": [call("adamax", learning_rate=halving, **FAR)],
    "adamaxw-defaults": [call("adamaxw", learning_rate=1e-3)],
    "adamaxw-betas_eps_decay_mask": [call("adamaxw", learning_rate=0.05, weight_decay=0.1, mask=matrices, **FAR)],
    "sign_sgd-schedule": [call("sign_sgd", learning_rate=halving)],
    "signum-beta": [call("signum", learning_rate=0.01, beta=0.8)],
    "lion-defaults": [call("lion", learning_rate=0.01)],
    "lion-betas_decay_mask": [call("lion", learning_rate=halving, b1=0.8, b2=0.95, weight_decay=0.1, mask=MASK)],
    "scale_by_lion-smooth": [call("scale_by_lion", mode="smooth", smooth_beta=0.1), SGD],
    "scale_by_lion-refined": [call("scale_by_lion", mode="refined"), SGD],
    "adabelief-defaults": [call("adabelief", learning_rate=1e-3)],
    "adabelief-betas_eps_nesterov": [call("adabelief", learning_rate=0.05, eps_root=1e-6, nesterov=True, **FAR)],
    "yogi-defaults": [call("yogi", learning_rate=0.01)],
    "yogi-betas_eps_schedule": [call("yogi", learning_rate=halving, **FAR)],
    "scale_by_yogi-eps_root_start": [call("scale_by_yogi", eps_root=1e-4, initial_accumulator_value=0.1), SGD],
    "radam-defaults": [call("radam", learning_rate=1e-3)],
    "radam-betas_eps": [call("radam", learning_rate=0.05, eps_root=1e-4, threshold=4.5, **FAR)],
    "radam-nesterov_schedule": [call("radam", learning_rate=halving, nesterov=True)],
    "clip-sgd": [call("clip", max_delta=0.5), SGD],
    "clip_by_global_norm-small": [call("clip_by_global_norm", max_norm=5.0), SGD],
    "clip_by_global_norm-between": [call("clip_by_global_norm", max_norm=60.0), SGD],
    "trace-nesterov": [
        call("trace", decay=0.6, nesterov=True),
        call("scale_by_learning_rate", learning_rate=4e-3),
    ],
    "ema-debiased": [call("ema", decay=0.8), SGD],
    "ema-biased": [call("ema", decay=0.8, debias=False), SGD],
    "scale_by_schedule-halving": [
        call("scale_by_schedule", step_size_fn=halving),
        call("scale", step_size=-0.1),
    ],
    "add_decayed_weights-coupled": [call("add_decayed_weights", weight_decay=0.1), SGD],
}


@pytest.mark.parametrize("recipe", named({k: (v,) for k, v in OPTAX.items()}, "optax"))
def test_follows_optax(recipe):
    their_params, their_updates, gradients = from_optax(recipe)
    params, updates = ours(recipe, gradients)
    assert_follows(params, their_params)
    assert_follows(updates, their_updates, "updates")


@pytest.mark.parametrize("eps_in_sqrt", [True, False], ids=lambda inside: f"rmsprop-optax-eps_in_sqrt_{inside}")
def test_first_step_of_corrected_variance_is_finite(eps_in_sqrt):
    """One gradient has no variance; rounding takes it below zero, where optax's root is NaN without eps."""
    pair = jo.rmsprop(1.0, centered=True, bias_correction=True, eps_in_sqrt=eps_in_sqrt)
    g = jax.tree.map(jnp.asarray, unflatten(gradient(START, NOISE[20], 1.0)))
    updates, _ = jax.jit(pair.update)(g, pair.init(g), g)
    assert np.isfinite(flatten(updates)).all()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"add_noise-optax-{len(shape)}d")
def test_noise_has_the_annealed_size_of_optax(shape):
    """The draws are each library's own; their standard deviation is sqrt(eta / t**gamma) within 6 %."""
    lanes = 4000
    keys = jax.random.split(jax.random.key(0), lanes)

    def noise(module, steps=8):
        def one(key):
            pair = module.add_noise(0.3, 0.55, key)
            zeros = jnp.zeros(shape)

            def step(state, _):
                updates, state = pair.update(zeros, state, zeros)
                return state, updates

            return jax.lax.scan(step, pair.init(zeros), None, length=steps)[1]

        draws = np.asarray(jax.jit(jax.vmap(one))(keys))
        return draws.std(axis=(0, *range(2, draws.ndim))), draws

    wanted = np.sqrt(0.3 / np.arange(1, 9) ** 0.55)
    mine, draws = noise(jo)
    with jax.numpy_dtype_promotion("standard"):
        theirs, _ = noise(optax)
    np.testing.assert_allclose(theirs, wanted, rtol=0.06)
    np.testing.assert_allclose(mine, wanted, rtol=0.06)
    assert len(np.unique(draws)) == draws.size  # no draw is used twice, in a leaf or in time


# ---- the papers, in their own letters -------------------------------------------------------------------
# x: parameters, g: gradient, t = 1, 2, …; what follows is the memory, all zero at first.


def adam(x, g, t, m=0.0, v=0.0):
    """Kingma & Ba 2015, Algorithm 1."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.95**t)
    return x - 0.03 * m_hat / (np.sqrt(v_hat) + 1e-5), m, v


def adam_uncorrected(x, g, t, m=0.0, v=0.0):
    """Algorithm 1 without the lines that make m_hat and v_hat (section 6.4 shows why they are there)."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    return x - 0.03 * m / (np.sqrt(v) + 1e-5), m, v


def adamw(x, g, t, m=0.0, v=0.0):
    """Loshchilov & Hutter 2019, Algorithm 2: eta_t scales step and decay, alpha the step alone.

    In torch and optax the rate scales both: theirs is alpha eta_t, and their weight decay lambda / alpha.
    """
    eta, alpha, decay = 0.5 ** ((t - 1) // 15), 0.03, 0.003
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    m_hat, v_hat = m / (1 - 0.8**t), v / (1 - 0.95**t)
    return x - eta * (alpha * m_hat / (np.sqrt(v_hat) + 1e-5) + decay * x), m, v


def adamax(x, g, t, m=0.0, u=0.0):
    """Kingma & Ba 2015, Algorithm 2; the paper has no eps: 1e-8 inside the maximum is torch's and optax's."""
    m = 0.8 * m + 0.2 * g
    u = np.maximum(0.95 * u, np.abs(g) + 1e-8)
    return x - 0.03 / (1 - 0.8**t) * m / u, m, u


def amsgrad_paper(x, g, t, m=0.0, v=0.0, v_max=0.0):
    """Reddi, Kale & Kumar 2018, Algorithm 2: no bias correction; 1e-5 is ours, against 0 / 0."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    v_max = np.maximum(v_max, v)
    return x - 0.03 * m / (np.sqrt(v_max) + 1e-5), m, v, v_max


def amsgrad_paper_schedules(x, g, t, m=0.0, v=0.0, v_max=0.0):
    """The same with alpha_t = alpha / sqrt(t) and beta_1t = beta_1 lambda**(t - 1), its Corollary 1."""
    b1 = 0.8 * 0.97 ** (t - 1)
    m = b1 * m + (1 - b1) * g
    v = 0.95 * v + 0.05 * g**2
    v_max = np.maximum(v_max, v)
    return x - 0.03 / np.sqrt(t) * m / (np.sqrt(v_max) + 1e-5), m, v, v_max


def amsgrad_corrected_maximum(x, g, t, m=0.0, v=0.0, v_max=0.0):
    """The maximum of the corrected second moment: optax."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    v_max = np.maximum(v_max, v / (1 - 0.95**t))
    return x - 0.03 * (m / (1 - 0.8**t)) / (np.sqrt(v_max) + 1e-5), m, v, v_max


def amsgrad_raw_maximum(x, g, t, m=0.0, v=0.0, v_max=0.0):
    """The maximum of the raw second moment, corrected afterwards: torch."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    v_max = np.maximum(v_max, v)
    return x - 0.03 * (m / (1 - 0.8**t)) / (np.sqrt(v_max / (1 - 0.95**t)) + 1e-5), m, v, v_max


def nadam(x, g, t, m=0.0, n=0.0):
    """Dozat 2016, Algorithm 2, constant mu and without its factor nu on n_hat: optax."""
    m = 0.8 * m + 0.2 * g
    n = 0.95 * n + 0.05 * g**2
    m_hat = 0.8 * m / (1 - 0.8 ** (t + 1)) + 0.2 * g / (1 - 0.8**t)
    return x - 0.03 * m_hat / (np.sqrt(n / (1 - 0.95**t)) + 1e-5), m, n


def nadam_schedule(x, g, t, m=0.0, n=0.0, product=1.0):
    """The same with mu_t = b1 (1 - 0.96**(t psi) / 2) in the step and constant b1 in the mean: torch."""
    mu, mu_next = (0.8 * (1 - 0.5 * 0.96 ** (s * 0.1)) for s in (t, t + 1))
    product = product * mu
    m = 0.8 * m + 0.2 * g
    n = 0.95 * n + 0.05 * g**2
    m_hat = mu_next * m / (1 - product * mu_next) + (1 - mu) * g / (1 - product)
    return x - 0.03 * m_hat / (np.sqrt(n / (1 - 0.95**t)) + 1e-5), m, n, product


def rprop(x, g, t, step=0.02, last=0.0):
    """Igel & Huesken 2003, iRprop-: after a change of sign the gradient counts as zero."""
    step = np.where(g * last > 0, np.minimum(step * 1.2, 50.0), step * np.where(g * last < 0, 0.5, 1.0))
    step = np.maximum(step, 1e-6)
    g = np.where(g * last < 0, 0.0, g)
    return x - np.sign(g) * step, step, g


def adan(x, g, t, m=0.0, v=0.0, n=0.0, last=None):
    """Xie et al. 2022, Algorithm 1 with beta = (0.1, 0.2, 0.05), and the bias corrections of its authors' code."""
    d = 0.0 if last is None else g - last
    m = (1 - 0.1) * m + 0.1 * g
    v = (1 - 0.2) * v + 0.2 * d
    n = (1 - 0.05) * n + 0.05 * (g + (1 - 0.2) * d) ** 2
    c1, c2, c3 = 1 - 0.9**t, 1 - 0.8**t, 1 - 0.95**t
    return x - 0.03 * (m / c1 + (1 - 0.2) * v / c2) / (np.sqrt(n / c3) + 1e-5), m, v, n, g


def radam(x, g, t, m=0.0, v=0.0):
    """Liu et al. 2020, Algorithm 2, with optax's and torch's threshold of 5 in the place of 4."""
    m = 0.8 * m + 0.2 * g
    v = 0.95 * v + 0.05 * g**2
    most = 2 / (1 - 0.95) - 1
    rho = most - 2 * t * 0.95**t / (1 - 0.95**t)
    if rho < 5:
        return x - 0.03 * m / (1 - 0.8**t), m, v
    r = np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return x - 0.03 * r * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), m, v


def yogi(x, g, t, m=1e-6, v=1e-6):
    """Zaheer et al. 2018, Algorithm 2, with optax's starts and bias corrections."""
    m = 0.8 * m + 0.2 * g
    v = v - 0.05 * np.sign(v - g**2) * g**2
    return x - 0.03 * m / (1 - 0.8**t) / (np.sqrt(v / (1 - 0.95**t)) + 1e-5), m, v


def adabelief(x, g, t, m=0.0, s=0.0):
    """Zhuang et al. 2020, Algorithm 2: epsilon is added to s at every step, and outside the root."""
    m = 0.8 * m + 0.2 * g
    s = 0.95 * s + 0.05 * (g - m) ** 2 + 1e-4
    return x - 0.03 * m / (1 - 0.8**t) / (np.sqrt(s / (1 - 0.95**t)) + 1e-5), m, s


def lion(x, g, t, m=0.0):
    """Chen et al. 2023, Algorithm 2."""
    update = np.sign(0.9 * m + 0.1 * g)
    return x - 0.01 * (update + 0.1 * x), 0.99 * m + 0.01 * g


def adagrad(x, g, t, s=0.0):
    """Duchi, Hazan & Singer 2011, Figure 1, diagonal: H = delta + sqrt(sum of g**2)."""
    s = s + g**2
    return x - 0.3 * g / (1e-2 + np.sqrt(s)), s


def adadelta(x, g, t, e_g=0.0, e_x=0.0):
    """Zeiler 2012, Algorithm 1."""
    e_g = 0.9 * e_g + 0.1 * g**2
    dx = -np.sqrt(e_x + 1e-4) / np.sqrt(e_g + 1e-4) * g
    e_x = 0.9 * e_x + 0.1 * dx**2
    return x + dx, e_g, e_x


def rmsprop_graves(x, g, t, n=0.0, mean=0.0, delta=0.0):
    """Graves 2013, arXiv:1308.0850, eq. 38 to 41: centered, eps in the root, the rate in the velocity."""
    n = 0.95 * n + 0.05 * g**2
    mean = 0.95 * mean + 0.05 * g
    delta = 0.9 * delta - 0.002 * g / np.sqrt(n - mean**2 + 1e-4)
    return x + delta, n, mean, delta


def rmsprop_corrected(x, g, t, v=0.0):
    """Tieleman & Hinton 2012, lecture 6e, with Adam's correction of the start at zero; eps in the root."""
    v = 0.9 * v + 0.1 * g**2
    return x - 0.02 * g / np.sqrt(v / (1 - 0.9**t) + 1e-4), v


def rmsprop_corrected_eps_outside(x, g, t, v=0.0):
    v = 0.9 * v + 0.1 * g**2
    return x - 0.02 * g / (np.sqrt(v / (1 - 0.9**t)) + 1e-4), v


def rmsprop_uncorrected(x, g, t, v=0.0):
    v = 0.9 * v + 0.1 * g**2
    return x - 0.02 * g / np.sqrt(v + 1e-4), v


def f32(x):
    """Kept in float32; what the step itself uses is not rounded."""
    return np.asarray(x).astype(np.float32).astype(np.float64)


def velocity_f32(x, g, t, v=0.0):
    v = 0.9 * v + g
    return x - 0.004 * v, f32(v)


def mean_f32(x, g, t, s=0.0):
    s = 0.8 * s + 0.2 * g
    return x - 0.004 * s, f32(s)


def adam_f32(x, g, t, m=0.0, v=0.0):
    x, m, v = adam(x, g, t, m, v)
    return x, f32(m), v


def nadam_f32(x, g, t, m=0.0, n=0.0):
    x, m, n = nadam(x, g, t, m, n)
    return x, f32(m), n


def amsgrad_f32(x, g, t, m=0.0, v=0.0, v_max=0.0):
    x, m, v, v_max = amsgrad_corrected_maximum(x, g, t, m, v, v_max)
    return x, f32(m), v, v_max


def stairs(k):
    return 0.03 * 0.5 ** (k // 15).astype("float64")


LETTERS = {"learning_rate": 0.03, "b1": 0.8, "b2": 0.95, "eps": 1e-5}
RAW = {"bias_correction_mu": False, "bias_correction_nu": False, "maximum": "raw"}
REDDI = {
    **LETTERS,
    "learning_rate": lambda k: 0.03 / jnp.sqrt(k.astype("float64") + 1.0),
    "b1": lambda k: 0.8 * 0.97 ** k.astype("float64"),
}

PAPERS = {
    "rprop-igel_huesken": (rprop, call("rprop", learning_rate=0.02)),
    "adan-algorithm_1": (adan, call("adan", learning_rate=0.03, b1=0.9, b2=0.8, b3=0.95, eps=1e-5, eps_root=0.0)),
    "radam-algorithm_2": (radam, call("radam", **LETTERS)),
    "yogi-algorithm_2_corrected": (yogi, call("yogi", **LETTERS)),
    "adabelief-algorithm_2": (adabelief, call("adabelief", eps_root=1e-4, **LETTERS)),
    "lion-algorithm_2": (lion, call("lion", learning_rate=0.01, weight_decay=0.1)),
    "adam-algorithm_1": (adam, call("adam", **LETTERS)),
    "adam-uncorrected": (adam_uncorrected, call("adam", bias_correction=False, **LETTERS)),
    "adamw-algorithm_2": (adamw, call("adamw", weight_decay=0.1, **LETTERS | {"learning_rate": stairs})),
    "adamax-algorithm_2": (adamax, call("adamax", **LETTERS | {"eps": 1e-8})),
    "amsgrad-algorithm_2_uncorrected": (amsgrad_paper, call("amsgrad", **LETTERS, **RAW)),
    "amsgrad-algorithm_2_scheduled_b1": (amsgrad_paper_schedules, call("amsgrad", **REDDI, **RAW)),
    "amsgrad-corrected_maximum_optax": (
        amsgrad_corrected_maximum,
        call("amsgrad", maximum="corrected", **LETTERS),
    ),
    "amsgrad-raw_maximum_torch": (amsgrad_raw_maximum, call("amsgrad", maximum="raw", **LETTERS)),
    "nadam-constant_momentum_optax": (nadam, call("nadam", **LETTERS)),
    "nadam-momentum_schedule_torch": (nadam_schedule, call("nadam", momentum_decay=0.1, **LETTERS)),
    "adagrad-figure_1": (
        adagrad,
        call("adagrad", learning_rate=0.3, initial_accumulator_value=0.0, eps=1e-2, eps_in_sqrt=False),
    ),
    "adadelta-algorithm_1": (adadelta, call("adadelta", learning_rate=1.0, rho=0.9, eps=1e-4)),
    "rmsprop-graves_centered_momentum": (
        rmsprop_graves,
        call("rmsprop", learning_rate=0.002, decay=0.95, eps=1e-4, centered=True, momentum=0.9),
    ),
    "rmsprop-bias_correction": (
        rmsprop_corrected,
        call("rmsprop", learning_rate=0.02, eps=1e-4, bias_correction=True),
    ),
    "rmsprop-bias_correction_eps_outside_root": (
        rmsprop_corrected_eps_outside,
        call("rmsprop", learning_rate=0.02, eps=1e-4, bias_correction=True, eps_in_sqrt=False),
    ),
    "rmsprop-uncorrected": (rmsprop_uncorrected, call("rmsprop", learning_rate=0.02, eps=1e-4)),
}


# optax multiplies the decay in the dtype of storage; ours in the gradient's, and then rounds once.
KEPT_IN_F32 = {
    "sgd-momentum_accumulator_f32": (
        velocity_f32,
        [call("sgd", learning_rate=0.004, momentum=0.9, accumulator_dtype=jnp.float32)],
    ),
    "ema-accumulator_f32": (
        mean_f32,
        [
            call("ema", decay=0.8, debias=False, accumulator_dtype=jnp.float32),
            call("sgd", learning_rate=0.004),
        ],
    ),
    "adam-mu_f32": (adam_f32, [call("adam", mu_dtype=jnp.float32, **LETTERS)]),
    "nadam-mu_f32": (nadam_f32, [call("nadam", mu_dtype=jnp.float32, **LETTERS)]),
    "amsgrad-mu_f32": (amsgrad_f32, [call("amsgrad", mu_dtype=jnp.float32, **LETTERS)]),
}


@pytest.mark.parametrize(("rule", "recipe"), named(PAPERS, "paper"))
def test_follows_paper(rule, recipe):
    path, gradients = from_paper(rule)
    params, _ = ours([recipe], gradients)
    assert_follows(params, path)


@pytest.mark.parametrize(("rule", "recipe"), named(KEPT_IN_F32, "paper"))
def test_follows_paper_with_memory_in_f32(rule, recipe):
    path, gradients = from_paper(rule)
    assert_follows(ours(recipe, gradients)[0], path)


@pytest.mark.parametrize("recipe", named({k: v[1:] for k, v in KEPT_IN_F32.items()}, "optax"))
def test_follows_optax_with_memory_in_f32(recipe):
    """No closer than optax's roundings to float32 allow, relative to the longest step of each parameter."""
    _, theirs, gradients = from_optax(recipe)
    _, updates = ours(recipe, gradients)
    longest = np.abs(theirs).max(axis=0)
    assert (np.abs(updates - theirs) <= 8 * np.finfo(np.float32).eps * longest).all()


def test_adamax_paper_without_eps():
    """Kingma & Ba 2015, Algorithm 2 to the letter: eps = 0, and no coordinate without a gradient."""
    gradients = gradient(START, NOISE, 1.0)
    m, u, x, path = 0.0, 0.0, START, []
    for t, g in enumerate(gradients, 1):
        m, u = 0.8 * m + 0.2 * g, np.maximum(0.95 * u, np.abs(g))
        x = x - 0.03 / (1 - 0.8**t) * m / u
        path.append(x)
    params, _ = ours([call("adamax", **LETTERS | {"eps": 0.0})], gradients)
    assert_follows(params, np.stack(path))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (adam, adam_uncorrected),
        (amsgrad_paper, amsgrad_corrected_maximum),
        (amsgrad_paper, amsgrad_raw_maximum),
        (amsgrad_corrected_maximum, amsgrad_raw_maximum),
        (nadam, nadam_schedule),
        (rmsprop_corrected, rmsprop_uncorrected),
        (rmsprop_corrected, rmsprop_corrected_eps_outside),
    ],
    ids=lambda rule: f"paper-{rule.__name__}",
)
def test_published_variants_differ(a, b):
    """The keyword is needed: on this problem the test above tells them apart."""
    assert_differs(from_paper(a)[0], from_paper(b)[0])


# ---- momentum, two forms --------------------------------------------------------------------------------


def sgd_rule(form, nesterov, rate):
    """Form A: v <- a v - lr g; W <- W + v.  Form B: v <- a v + g; x <- x - lr v.  Nesterov: one v further."""

    def a(x, g, t, v=0.0):
        v = 0.8 * v - rate(t - 1) * g
        return x + (0.8 * v - rate(t - 1) * g if nesterov else v), v

    def b(x, g, t, v=0.0):
        v = 0.8 * v + g
        return x - rate(t - 1) * (0.8 * v + g if nesterov else v), v

    return {"A": a, "B": b}[form]


def constant(k):
    return 4e-3


def scheduled(k):
    """Halved every 15 steps."""
    return 4e-3 * 0.5 ** (k // 15).astype("float64")


def momentum(form, nesterov, rate):
    rate = 4e-3 if rate is constant else rate
    return [call("sgd", learning_rate=rate, momentum=0.8, nesterov=nesterov, lr_in_velocity=form == "A")]


RATES = pytest.mark.parametrize("rate", [constant, scheduled], ids=lambda rate: rate.__name__)
NESTEROV = pytest.mark.parametrize("nesterov", [False, True], ids=["heavy_ball", "nesterov"])


@RATES
@NESTEROV
@pytest.mark.parametrize("form", ["A", "B"], ids=lambda form: f"sgd-paper-form_{form}")
def test_follows_momentum_form(form, nesterov, rate):
    path, gradients = from_paper(sgd_rule(form, nesterov, lambda k: rate(np.int64(k))))
    assert_follows(ours(momentum(form, nesterov, rate), gradients)[0], path)


@RATES
@NESTEROV
@pytest.mark.parametrize("forms", ["AB"], ids=["sgd-form_A-form_B"])
def test_momentum_forms_differ_only_under_a_schedule(forms, nesterov, rate):
    gradients = gradient(START, NOISE, AWAKE)
    a, b = (ours(momentum(form, nesterov, rate), gradients)[0] for form in forms)
    if rate is constant:
        assert_follows(a, b)
    else:
        assert relative_error(a, b)[:15].max() <= TOLERANCE  # as long as the rate has not changed
        assert_differs(a, b)
