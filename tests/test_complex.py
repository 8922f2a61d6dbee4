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
from cases import BY_NAME, CASES, curvature, params_like, slope


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


VALUED = ("momo", "schedule_free_plus", "momo_adam", "polyak_sgd", "scale_by_polyak", "reduce_on_plateau")

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
    """On one leaf, which is less to compile."""
    covered = {*RULES, *(f"scale_by_{name}" for name in SHARED)}
    names = [name for name in SHARED if not is_refused(name) and name not in STEPS and name not in covered]
    p = {"w": params(jnp.complex128)["w"]}

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


def test_lbfgs_is_optax_s(x64):
    """With the gradients that a search keeps, which are jax.grad's."""
    p = {"w": params(jnp.complex128)["w"]}

    def walked(library):
        opt = library.lbfgs(linesearch=library.scale_by_zoom_linesearch(10, initial_guess_strategy="one"))

        def step(carry, _):
            p, state = carry
            u, state = stepped(opt, "lbfgs", p, state)
            return (library.apply_updates(p, u), state), None

        p_end, state = jax.lax.scan(step, (p, opt.init(p)), None, 4)[0]
        return p_end["w"], library.tree.get(state, "grad")["w"] if library is optax else jo.tree.get(state, "grad")["w"]

    with jax.numpy_dtype_promotion("standard"):
        (ours, kept), (theirs, theirs_kept) = quick.jit(lambda: (walked(jo), walked(optax)))()
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    np.testing.assert_allclose(kept, theirs_kept, atol=1e-9)
    np.testing.assert_allclose(kept, jax.grad(value)({"w": ours})["w"], atol=1e-9)


# ---- what optax has not ---------------------------------------------------------------------------------

TURN = np.exp(0.7j).astype(np.complex64)  # no rule may depend on where the phases of complex numbers begin


def turned(p):
    return jax.tree.map(lambda x: TURN * x.astype(jnp.complex64), p)


def turned_slope(p):
    return jax.tree.map(lambda z: curvature(jnp.real(z)).astype(z.dtype) * (2 * (z - TURN * np.complex64(0.3))), p)


def turned_loss(p):
    far = jax.tree.map(lambda z: curvature(jnp.real(z)) * jnp.square(jnp.abs(z - TURN * np.complex64(0.3))), p)
    return jo.tree.sum(far)


def walk(case, p, slope, steps=2):
    opt = jo.chain(case(), jo.scale_by_learning_rate(0.1)) if case.direction else case()
    extra = {"value": jnp.float32(1.5)} if case.words else {}

    def step(carry, _):
        p, state = carry
        u, state = opt.update(slope(p), state, p, **extra)
        return (jo.apply_updates(p, u), state), None

    return jax.lax.scan(step, (p, opt.init(p)), None, steps)[0][0]


OURS = [
    "adadelta",
    "adan",
    "hyperball",
    "madgrad",
    "momo_adam",
    "normuon",
    "prodigy",
    "scale_by_distance_over_gradients",
    "scion-unconstrained",
    "simplified_ademamix",
    "adafactor",
    "muon-aol",
    "add_cautious_decayed_weights",
    "cautious",
    "generalized_primal_averaging",
    "average_params",
    "pinned",
]


def test_a_phase_is_a_phase():
    """Gradients and parameters turned by a phase make steps turned by it: those of real ones, turned."""
    p = {"w": params_like()["w"]}
    cases = [BY_NAME[name] for name in OURS]
    real, found = quick.jit(
        lambda p: [[walk(c, p, slope) for c in cases], [walk(c, turned(p), turned_slope) for c in cases]]
    )(p)
    for case, a, b in zip(cases, real, found, strict=True):
        np.testing.assert_allclose(b["w"], TURN * np.asarray(a["w"]), atol=3e-5, err_msg=case.name)


def test_rules_for_real_numbers_say_so():
    """By name, before anything is computed; behind the wrapper that the message names each works."""
    refused = []
    p = turned(params_like())
    for case in CASES:
        if case.words in ("flat", "residuals") or case.name in UNLIKE:
            continue
        extra = (
            {"value": jnp.float32(1.5), "grad": p, "value_fn": turned_loss, "obj_fn": turned_loss} if case.words else {}
        )
        try:
            jax.eval_shape(case().init, p)
            continue
        except jo.errors.TreeError as error:
            assert "split_real_and_imaginary" in str(error), case.name
        refused.append(case.name)
        opt = jo.split_real_and_imaginary(case())
        u, _ = jax.eval_shape(lambda p, opt=opt, extra=extra: opt.update(p, opt.init(p), p, **extra), p)
        assert jax.tree.map(jnp.result_type, u) == jax.tree.map(jnp.result_type, p), case.name
    assert {"clip", "rprop", "sophia", "soap", "shampoo", "psgd_kron", "galore", "dion", "cocob"} <= set(refused)
    assert len(refused) < 56


UNLIKE = {
    "split_real_and_imaginary",
    "generalized_primal_averaging-z",
    "differentially_private_aggregate",
    "dpsgd",
    "qk_clip",
}  # other words or shapes


# ---- small print ----------------------------------------------------------------------------------------


def test_there_must_be_room_for_imaginary_parts():
    p = jnp.ones(2, jnp.complex64)
    for opt in (jo.adam(0.1, mu_dtype=jnp.bfloat16), jo.sgd(0.1, 0.9, accumulator_dtype=jnp.float32)):
        with pytest.raises(jo.errors.TreeError, match="is real, and what comes to it complex"):
            opt.update(p, opt.init(p), p)
    with pytest.raises(jo.errors.TreeError, match="params leaf"):
        jo.apply_updates(jnp.ones(2), p)
    with pytest.raises(jo.errors.TreeError, match="params leaf"):
        jo.adamw(0.1).update(p, jo.adamw(0.1).init(p), jnp.ones(2))
    for opt in (jo.schedule_free_sgd(0.1, state_dtype=jnp.float32),):
        with pytest.raises(jo.errors.TreeError, match="dtype of the state"):
            opt.init(p)
    opt = jo.adam(0.1, mu_dtype=jnp.complex64)  # real gradients beside complex memory
    u, state = opt.update(jnp.ones(2), opt.init(jnp.ones(2)))
    assert u.dtype == jnp.float32 and state[0].mu.dtype == jnp.complex64
    np.testing.assert_allclose(u, -0.1, rtol=1e-5)


def test_derivatives_through_a_step():
    """By the learning rate and by a gradient, which is 0 at first, where no length has a derivative."""
    opt = jo.chain(jo.clip_by_global_norm(1.0), jo.scale_by_adam())
    p = jnp.asarray([1 + 2j], jnp.complex64)

    def length(rate, x):
        u, _ = opt.update(jax.lax.complex(x, x), opt.init(p), p)
        return jnp.sum(jnp.abs(p + rate.astype(p.dtype) * u))

    by_rate, by_x = jax.grad(length, (0, 1))(jnp.float32(0.1), jnp.zeros(1))
    assert by_rate == 0 and np.all(np.isfinite(by_x))
    by_rate, _ = jax.grad(length, (0, 1))(jnp.float32(0.0), jnp.ones(1))
    np.testing.assert_allclose(by_rate, 3 / np.sqrt(10), rtol=1e-5)  # along (1 + i) / sqrt(2) from 1 + 2i


def test_trees():
    z = {"a": jnp.asarray([3 + 4j, 1j], jnp.complex64), "b": jnp.ones(2)}
    y = {"a": jnp.asarray([1j, 2], jnp.complex64), "b": jnp.zeros(2)}
    np.testing.assert_allclose(jo.tree.vdot(z, y), np.vdot(z["a"], y["a"]), rtol=1e-6)
    for order, want in ((2, np.sqrt(28)), (1, 8.0), ("inf", 5.0)):
        length = jo.tree.norm(z, order)
        assert length.dtype == jnp.float32
        np.testing.assert_allclose(length, want, rtol=1e-6)
    np.testing.assert_allclose(jo.tree.norm(z, squared=True), 28, rtol=1e-6)
    m = jo.tree.update_moment_per_elem_norm(z, jo.tree.zeros_like(z), 0.5, 2)
    np.testing.assert_allclose(m["a"], [12.5, 0.5], rtol=1e-6)
    ball = jo.projections.projection_l1_ball(z["a"], 3.0)
    np.testing.assert_allclose(ball, [1.8 + 2.4j, 0], atol=1e-6)
    with pytest.raises(jo.errors.TreeError, match="no order"):
        jo.projections.projection_simplex(z)


# ---- solvers --------------------------------------------------------------------------------------------

RNG = np.random.default_rng(1)
A = (RNG.normal(size=(4, 2)) + 1j * RNG.normal(size=(4, 2))).astype(np.complex128)
B = (RNG.normal(size=(3, 4)) + 1j * RNG.normal(size=(3, 4))).astype(np.complex128)
PINV = np.linalg.pinv(A)


def test_minimize(x64):
    """By real and imaginary parts, jitted and vmapped, with the solution's derivatives."""

    def end(b):
        return jo.minimize(lambda z: 0.5 * jo.tree.norm(A @ z - b, squared=True), jnp.zeros(2, jnp.complex128)).params

    found, change = quick.jit(jax.vmap(lambda b: jax.jvp(end, (b,), (1j * b,))))(jnp.asarray(B))
    np.testing.assert_allclose(found, B @ PINV.T, atol=1e-6)
    np.testing.assert_allclose(change, 1j * B @ PINV.T, atol=1e-10)


def test_least_squares_and_roots(x64):
    def end(b):
        fit = jo.least_squares(lambda z: A @ z - b, jnp.zeros(2, jnp.complex128)).params
        return fit, jo.root(lambda z: z * z - b[:1], jnp.asarray([1 + 1j])).params

    b = jnp.asarray(B[0])
    (fit, zero), (d_fit, d_zero) = quick.jit(lambda b: jax.jvp(end, (b,), (1j * b,)))(b)
    np.testing.assert_allclose(fit, PINV @ B[0], atol=1e-10)
    np.testing.assert_allclose(d_fit, 1j * PINV @ B[0], atol=1e-10)
    np.testing.assert_allclose(zero * zero, b[:1], atol=1e-7)
    np.testing.assert_allclose(d_zero, 1j * zero / 2, atol=1e-7)


def test_solvers_refuse_what_has_no_order():
    z = jnp.ones(2, jnp.complex64)
    with pytest.raises(jo.errors.TreeError, match="no order"):
        jo.minimize(lambda z: jo.tree.norm(z), z, jo.lbfgsb(), bounds=(0.0, None))
    with pytest.raises(jo.errors.TreeError, match="loss='linear'"):
        jo.least_squares(lambda z: z, z, loss="huber")
    with pytest.raises(jo.errors.TreeError, match="jacobian_fn must be None"):
        jo.least_squares(lambda z: z, z, jacobian_fn=lambda z: jnp.eye(2))
    with pytest.raises(jo.errors.TreeError, match="imaginary parts as two leaves"):
        jo.minimize(lambda z: jo.tree.norm(z), z, jo.interior_point(), equality=lambda z: z)
