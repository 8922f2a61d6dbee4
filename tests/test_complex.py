"""Complex parameters: as optax has them, or by real and imaginary parts, or refused by name."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from test_layouts import SHARED, called, layout, pairs

import jaxopt_ko as jo

TURN = np.exp(0.7j)  # a phase: no rule may depend on where the phases of complex numbers begin


def params(dtype):
    rng = np.random.default_rng(0)
    w, b = (rng.normal(size=s) + 1j * rng.normal(size=s) for s in ((3, 2), 3))
    return {"b": jnp.asarray(b, dtype), "w": jnp.asarray(w, dtype)}


def value(p):
    """A bowl around 0.3 + 0.2i, real."""
    terms = [
        jnp.sum(weights(x) * jnp.square(jnp.abs(x - jnp.asarray(0.3 + 0.2j, x.dtype)))) for x in jax.tree.leaves(p)
    ]
    return sum(terms[1:], start=terms[0])


def weights(x):
    return np.linspace(0.5, 2.0, x.size).reshape(x.shape).astype(x.real.dtype)


def ascent(p):
    """The conjugate of `value`'s gradient."""
    return jax.tree.map(lambda x: (2 * weights(x)).astype(x.dtype) * (x - jnp.asarray(0.3 + 0.2j, x.dtype)), p)


def words(name):
    if "linesearch" in name or "lbfgs" in name:
        return {"value_fn": value}
    return {"obj_fn": value} if "sophia" in name else {}


def stepped(opt, name, p, state):
    g = ascent(p)
    extra = {"value": value(p), "grad": g} if name in VALUED or words(name) else {}
    return opt.update(g, state, p, **extra, **words(name))


VALUED = ("momo", "momo_adam", "polyak_sgd", "scale_by_polyak", "reduce_on_plateau")

# where the states differ, or one of the two has none
LAYOUTS = {
    "MultiSteps": "optax gathers complex gradients in float32, without their imaginary parts",
    "MultiSteps with skips": "as MultiSteps",
    "scale_by_distance_over_gradients": "optax keeps x_0 in float32, without its imaginary part",
    "lookahead": "params are pairs there",
    "snapshot": "optax's state begins without the measure",
    "scale_by_muon": "it takes matrices alone",
}
REFUSED = {  # there is no order among complex numbers, or no meaning in theirs parts alone
    "adopt": "optax refuses to clip, too",
    "clip": "as adopt",
    "rprop": "as adopt",
    "sophia": "as adopt",
    "sm3": "optax refuses, too",
    "cocob": "optax takes the larger of complex numbers",
    "galore": "optax projects with the transpose that is not conjugate",
    "hutchinson_estimator_diag_hessian": "the Hessian of a real function is by parts",
    "keep_params_nonnegative": "optax asks which complex numbers are negative",
    "differentially_private_aggregate": "optax's noise has half of the variance in each part",
    "dpsgd": "as differentially_private_aggregate",
    "named_chain": "it has a clip",
}  # fmt: skip


def is_refused(label):
    return label.removeprefix("scale_by_").partition(" ")[0] in REFUSED


INJECTED = [*(name for name, _ in pairs() if name.startswith("inject ")), "inject_hyperparams"]  # optax's are complex


@pytest.mark.parametrize(
    "label, make", [pytest.param(*pair, id=pair[0]) for pair in pairs() if pair[0] not in INJECTED]
)
def test_states_are_optax_s(label, make):
    """Shapes, dtypes, and what a step makes of them; nothing is compiled."""
    if label in LAYOUTS:
        return
    p = params(jnp.complex64)
    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        ours, theirs = make(jo), make(optax)
    if is_refused(label):
        with pytest.raises(jo.errors.TreeError, match="split_real_and_imaginary"):
            jax.eval_shape(ours.init, p)
        return
    state = jax.eval_shape(ours.init, p)
    with jax.numpy_dtype_promotion("standard"):
        if "lbfgs" not in label:
            assert layout(state) == layout(jax.eval_shape(theirs.init, p))
    if label in ("adam in bfloat16", "adafactor with momentum"):  # optax drops the imaginary parts
        with pytest.raises(jo.errors.TreeError, match="complex"):
            jax.eval_shape(lambda p, s: stepped(ours, label, p, s), p, state)
        return
    u, after = jax.eval_shape(lambda p, s: stepped(ours, label, p, s), p, state)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), u) == jax.tree.map(lambda x: (x.shape, x.dtype), p)
    assert layout(after) == layout(state)


# where the steps differ from optax's, and why
STEPS = {
    "adadelta": "real leaves, too: optax's eps stands elsewhere",
    "adan": "real leaves, too",
    "dadapt_adamw": "optax squares complex numbers as they are",
    "prodigy": "as dadapt_adamw",
    "momo_adam": "as dadapt_adamw",
    "simplified_ademamix": "as dadapt_adamw",
    "madgrad": "optax takes a cube root of complex numbers, which JAX has not",
    "noisy_sgd": "other keys",
    "add_noise": "other keys",
    "scale_by_muon": "it takes matrices alone",
    "adafactor": "float32 within",
    "scale_by_factored_rms": "float32 within",
    "scale_by_zoom_linesearch": "it wants a direction downhill",
    "scale_by_backtracking_linesearch": "it wants a direction downhill",
    "scale_by_distance_over_gradients": "optax loses x_0's imaginary part",
}

# rule -> an optimizer that has it, and is no less to compile
RULES = {
    "scale_by_belief": "adabelief",
    "scale_by_rss": "adagrad",
    "scale_by_rms": "rmsprop",
    "scale_by_trust_ratio": "lamb",
    "scale_by_optimistic_gradient": "optimistic_gradient_descent",
    "scale_by_polyak": "polyak_sgd",
    "nadam": "nadamw",
    "adam": "adamw",
    "adamax": "adamaxw",
    "sign_sgd": "signum",
    "add_decayed_weights": "adamw",
    "scale": "sgd",
    "scale_by_learning_rate": "sgd",
    "identity": "sgd",
}


def test_steps_are_optax_s(x64):
    covered = {*RULES, *(f"scale_by_{name}" for name in SHARED)}
    names = [name for name in SHARED if not is_refused(name) and name not in STEPS and name not in covered]
    p = params(jnp.complex128)

    def walked(library):
        ends = {}
        for name in names:
            opt = called(library, name)(*SHARED[name])

            def step(carry, _, opt=opt, name=name):
                p, state = carry
                u, state = stepped(opt, name, p, state)
                return (library.apply_updates(p, u), state), None

            ends[name] = jax.lax.scan(step, (p, opt.init(p)), None, 3)[0][0]
        return ends

    ours = quick.jit(lambda: walked(jo))()
    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        theirs = quick.jit(lambda: walked(optax))()
    for name in names:
        for a, b in zip(jax.tree.leaves(ours[name]), jax.tree.leaves(theirs[name]), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * float(jnp.max(jnp.abs(b))), err_msg=name)
