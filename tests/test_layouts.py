"""The states of what optax has too are optax's: nesting, classes, fields, their order, shapes and dtypes."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

import jaxopt_ko as jo

PARAMS = {"b": np.ones(3, np.float32), "w": np.full((3, 2), 0.5, np.float32)}


def rate(step):
    return jnp.float32(0.1) / (1 + step.astype(jnp.float32))


def mask(params):
    return jax.tree.map(lambda p: np.ndim(p) == 2, params)


def labels(params):
    return jax.tree.map(lambda p: "a" if np.ndim(p) == 2 else "b", params)


def layout(state):
    """A state as nested tuples of class names, field names, shapes and dtypes."""
    if isinstance(state, tuple) and hasattr(state, "_fields"):
        fields = tuple((name, layout(value)) for name, value in zip(state._fields, state, strict=True))
        return type(state).__name__, fields
    if isinstance(state, tuple | list):
        return type(state).__name__, tuple(map(layout, state))
    if isinstance(state, dict):
        return "dict", tuple((str(key), layout(state[key])) for key in sorted(state, key=str))
    if state is None or callable(state):
        return None
    x = jnp.asarray(state) if not hasattr(state, "dtype") else state
    return tuple(np.shape(x)), str(x.dtype)


# name -> arguments, of everything that makes a transformation in both
OPTIMIZERS = (
    "acprop adabelief adadelta adafactor adagrad adam adamax adamaxw adamw adan ademamix adopt amsgrad cocob "
    "dadapt_adamw dog dowg fromage galore lamb lars lion madgrad momo momo_adam muon nadam nadamw novograd "
    "optimistic_adam_v2 optimistic_gradient_descent prodigy radam rmsprop rprop schedule_free_adamw "
    "schedule_free_sgd sgd sign_sgd signum simplified_ademamix sm3 sophia yogi"
)
PIECES = (
    "add_decayed_weights centralize hutchinson_estimator_diag_hessian identity keep_params_nonnegative normalize "
    "normalize_by_update_norm polyak_sgd reduce_on_plateau scale_by_acprop scale_by_adadelta scale_by_adam "
    "scale_by_adamax scale_by_adan scale_by_ademamix scale_by_adopt scale_by_amsgrad scale_by_belief scale_by_cocob "
    "scale_by_distance_over_gradients scale_by_factored_rms scale_by_galore scale_by_lion scale_by_muon "
    "scale_by_novograd scale_by_optimistic_gradient scale_by_param_block_norm scale_by_param_block_rms "
    "scale_by_polyak scale_by_radam scale_by_rms scale_by_rss scale_by_sign scale_by_simplified_ademamix "
    "scale_by_sm3 scale_by_stddev scale_by_trust_ratio scale_by_yogi set_to_zero zero_nans"
)
SHARED = {
    **dict.fromkeys(OPTIMIZERS.split(), (0.1,)),
    **dict.fromkeys(PIECES.split(), ()),
    "noisy_sgd": (0.1, 0.01, 0.55, 0),
    "scale_by_rprop": (0.1,),
    "scale_by_madgrad": (0.1,),
    "apply_every": (2,),
    "trace": (0.9,),
    "ema": (0.9,),
    "clip": (1.0,),
    "clip_by_block_rms": (1.0,),
    "clip_by_global_norm": (1.0,),
    "adaptive_grad_clip": (1.0,),
    "scale": (0.1,),
    "scale_by_learning_rate": (0.1,),
    "scale_by_schedule": (rate,),
    "add_noise": (0.1, 0.5, 0),
    "scale_by_zoom_linesearch": (15,),
    "scale_by_backtracking_linesearch": (15,),
    "differentially_private_aggregate": (1.0, 1.0, 0),
}

# beside the defaults: name -> (factory, keyword arguments)
OPTIONS = {
    "adam under a schedule": ("adam", {"learning_rate": rate}),
    "adamw masked": ("adamw", {"learning_rate": 0.1, "mask": mask}),
    "adamw nesterov under a schedule": ("adamw", {"learning_rate": rate, "nesterov": True}),
    "adam in bfloat16": ("adam", {"learning_rate": 0.1, "mu_dtype": jnp.bfloat16}),
    "adafactor with momentum": ("adafactor", {"learning_rate": 0.1, "momentum": 0.9, "weight_decay_rate": 0.1}),
    "adafactor factored": ("adafactor", {"learning_rate": 0.1, "min_dim_size_to_factor": 2}),
    "sgd with momentum": ("sgd", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True}),
    "sgd under a schedule": ("sgd", {"learning_rate": rate}),
    "rmsprop centered with momentum": ("rmsprop", {"learning_rate": 0.1, "centered": True, "momentum": 0.9}),
    "rmsprop corrected": ("rmsprop", {"learning_rate": 0.1, "bias_correction": True}),
    "rmsprop centered, corrected": ("rmsprop", {"learning_rate": 0.1, "centered": True, "bias_correction": True}),
    "dpsgd": ("dpsgd", {"learning_rate": 0.1, "l2_norm_clip": 1.0, "noise_multiplier": 1.0, "seed": 0}),
    "decay under a schedule": ("add_decayed_weights", {"weight_decay": rate}),
    "decay masked": ("add_decayed_weights", {"weight_decay": 0.1, "mask": mask}),
    "lars masked": ("lars", {"learning_rate": 0.1, "weight_decay_mask": mask, "trust_ratio_mask": mask}),
    "lamb masked": ("lamb", {"learning_rate": rate, "mask": mask}),
    "muon under a schedule": ("muon", {"learning_rate": rate}),
    "muon, dion's coefficients": ("muon", {"learning_rate": 0.1, "ns_coeffs": "dion"}),
    "sophia masked": ("sophia", {"learning_rate": 0.1, "weight_decay_mask": mask}),
    "prodigy under a schedule": ("prodigy", {"learning_rate": rate}),
    "dog with decay": ("dog", {"learning_rate": 1.0, "weight_decay": 0.1}),
}  # fmt: skip

# what takes other transformations: name -> made of either library
WRAPPED = {
    "chain": lambda lib: lib.chain(lib.clip_by_global_norm(1.0), lib.adam(rate)),
    "named_chain": lambda lib: lib.named_chain(("clip", lib.clip(1.0)), ("adam", lib.adam(0.1))),
    "masked": lambda lib: lib.masked(lib.adam(0.1), mask),
    "partition": lambda lib: lib.partition({"a": lib.adam(0.1), "b": lib.sgd(0.1, 0.9)}, labels),
    "MultiSteps": lambda lib: lib.MultiSteps(lib.adam(0.1), 2),
    "MultiSteps with skips": lambda lib: lib.MultiSteps(lib.adam(0.1), 2, should_skip_update_fn=lib.skip_not_finite),
    "apply_if_finite": lambda lib: lib.apply_if_finite(lib.adam(0.1), 2),
    "conditionally_mask": lambda lib: lib.conditionally_mask(lib.adam(0.1), lambda step: step < 3),
    "conditionally_transform": lambda lib: lib.conditionally_transform(lib.adam(0.1), lambda step: step < 3),
    "flatten": lambda lib: lib.flatten(lib.adam(0.1)),
    "inject_hyperparams": lambda lib: lib.inject_hyperparams(lib.adam)(rate),
    "freeze": lambda lib: lib.selective_transform(lib.adam(0.1), freeze_mask=mask(PARAMS)),
    "lookahead": lambda lib: lib.lookahead(lib.sgd(0.1), 2, 0.5),
    "sam": lambda lib: getattr(lib, "contrib", lib).sam(lib.sgd(0.1), lib.sgd(0.1)),
    "mechanize": lambda lib: getattr(lib, "contrib", lib).mechanize(lib.adam(0.1)),
    "schedule_free": lambda lib: getattr(lib, "contrib", lib).schedule_free(lib.sgd(0.1), 0.1),
    "split_real_and_imaginary": lambda lib: getattr(lib, "contrib", lib).split_real_and_imaginary(lib.adam(0.1)),
    "snapshot": lambda lib: lib.snapshot("norm", lambda g: lib.tree.norm(g)),
}  # fmt: skip

# optax injects sizes and intervals, which their factories then refuse as arrays, and takes clip_value_fn for a schedule
NOT_INJECTED = ("adafactor", "adopt", "galore", "muon", "sophia")

# where the two differ, and why
EXCEPTIONS = {
    "monitor": "optax's measurements are {} until the first update, which no scan takes",
    "lbfgs": "one buffer for all of the memory, a sixth of optax's equations; see lbfgs_from_optax",
    "scale_by_lbfgs": "as lbfgs",
}


def injected(name):
    """inject_hyperparams(factory)(its defaults), every number an array."""
    return lambda lib: lib.inject_hyperparams(called(lib, name))(*SHARED[name])


def pairs():
    for name, args in SHARED.items():
        yield name, lambda lib, name=name, args=args: called(lib, name)(*args)
    for label, (name, options) in OPTIONS.items():
        yield label, lambda lib, name=name, options=options: called(lib, name)(**options)
    yield from WRAPPED.items()
    yield from ((f"inject {name}", injected(name)) for name in OPTIMIZERS.split() if name not in NOT_INJECTED)


def called(library, name):
    deprecated = library is optax and hasattr(optax.contrib, name)
    return getattr(library.contrib if deprecated or not hasattr(library, name) else library, name)


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in pairs()])
def test_the_state_is_optax_s(make):
    with jax.numpy_dtype_promotion("standard"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert layout(make(jo).init(PARAMS)) == layout(make(optax).init(PARAMS))


DEEP = {"enc": {"w": np.full((3, 2), 0.5, np.float32), "b": np.ones(3, np.float32)}, "head": [PARAMS["b"], PARAMS["w"]]}
PREFIXES = {
    "partition": lambda lib: lib.partition({"a": lib.adam(0.1), "b": lib.sgd(0.1, 0.9)}, {"enc": "a", "head": "b"}),
    "masked": lambda lib: lib.masked(lib.adam(0.1), lambda p: {"enc": True, "head": [False, True]}),
    "none": lambda lib: lib.masked(lib.adam(0.1), False),
    "freeze": lambda lib: lib.selective_transform(lib.adam(0.1), freeze_mask={"enc": True, "head": False}),
    "decay": lambda lib: lib.adamw(0.1, mask={"enc": True, "head": False}),
    "MultiSteps": lambda lib: lib.masked(lib.MultiSteps(lib.adam(0.1), 2), {"enc": False, "head": True}),
    "in each other": lambda lib: lib.masked(
        lib.masked(lib.sgd(0.1, 0.9), lambda p: jax.tree.map(lambda x: np.ndim(x) == 2, p)),
        {"enc": True, "head": False},
    ),
}


@pytest.mark.parametrize("name", PREFIXES)
def test_a_node_that_is_left_out_whole_is_one_masked_node(name):
    """Of a mask or labels that are a prefix; and the next step is optax's, also from optax's file."""
    flax = pytest.importorskip("flax")
    ours, theirs = (PREFIXES[name](lib) for lib in (jo, optax))
    with jax.numpy_dtype_promotion("standard"):
        want = theirs.init(DEEP)
        assert layout(ours.init(DEEP)) == layout(want)
        steps, state = ours.update(DEEP, ours.init(DEEP), DEEP)
        others, want = theirs.update(DEEP, want, DEEP)
        assert layout(state) == layout(want)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), steps, others)
        saved = flax.serialization.to_bytes(want)
        steps, _ = ours.update(DEEP, flax.serialization.from_bytes(state, saved), DEEP)
        others, _ = theirs.update(DEEP, want, DEEP)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7), steps, others)


FLAGS = {"enc": {"w": True, "v": False}, "head": True}
SAID = {  # of all parameters: what makes an optimizer of it, and a tree of it
    "stack axes": (lambda axes: jo.muon(0.1, stack_axes=axes), {"enc": {"w": 0, "v": 1}, "head": 0}),
    "mask": (lambda mask: jo.adamw(0.1, mask=mask), FLAGS),
    "labels": (lambda labels: jo.partition({True: jo.sgd(0.1), False: jo.adam(0.1)}, labels), FLAGS),
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("kept", [{"enc": False, "head": True}, False], ids=["node", "all"])
def test_what_is_said_of_a_node_that_is_left_out_is_not_asked(name, kept):
    """A tree of settings is made for all parameters; a mask over it, a prefix, may leave whole nodes of it out."""
    make, said = SAID[name]
    params = {"enc": {"w": jnp.ones((2, 3)), "v": jnp.ones((2, 3, 3))}, "head": jnp.eye(3) + 1}
    opt, alone = jo.masked(make(said), kept), make({**said, "enc": {}})
    steps, _ = opt.update(params, opt.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, steps["enc"], params["enc"])
    head = {**params, "enc": {}}
    want = params if kept is False else alone.update(head, alone.init(head), head)[0]
    np.testing.assert_array_equal(steps["head"], want["head"])


def test_a_module_that_says_so_is_cut_as_any_tree_is():
    """Also one that can be called, and under a mask that leaves a node of it out."""
    equinox = pytest.importorskip("equinox")
    linear = equinox.nn.MLP(2, 2, 3, 1, key=jax.random.key(0))
    params, _ = equinox.partition(linear, equinox.is_inexact_array)
    flags = jax.tree.map(lambda p: p.ndim == 2, params)
    outer = equinox.tree_at(lambda m: m.layers, jax.tree.map(lambda _: True, params), (False, True))
    opt = jo.masked(jo.masked(jo.scale(2.0), flags), outer)
    steps, _ = opt.update(params, opt.init(params))
    first, last = steps.layers
    np.testing.assert_array_equal(first.weight, params.layers[0].weight)
    np.testing.assert_array_equal(last.weight, 2 * params.layers[1].weight)
    np.testing.assert_array_equal(last.bias, params.layers[1].bias)


def test_lbfgs_goes_on_from_optax():
    """The one layout that is ours: a run of optax's, converted, makes optax's next iterates."""
    f = lambda p: jnp.sum((p["b"] - 1) ** 4) + jnp.sum(jnp.cos(p["w"]) + p["w"] ** 2)  # noqa: E731
    slope = jax.jit(jax.grad(f))

    def run(opt, params, state, steps):
        for _ in range(steps):
            grad = slope(params)
            updates, state = opt.update(grad, state, params)
            params = jax.tree.map(lambda p, u: p + u, params, updates)
        return params, state

    plain = optax.chain(optax.scale_by_lbfgs(3), optax.scale(-0.1))
    ours = jo.chain(jo.scale_by_lbfgs(3), jo.scale(-0.1))
    start = {"b": jnp.array([0.2, 0.4, 3.0]), "w": jnp.full((3, 2), 0.5)}
    with jax.numpy_dtype_promotion("standard"):
        params, state = run(plain, start, plain.init(start), 5)
        want, _ = run(plain, params, state, 3)
        got, _ = run(ours, params, jo.lbfgs_from_optax(state), 3)
        jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6), got, want)
    with pytest.raises(jo.errors.StateError, match="ScaleByLBFGSState"):
        jo.lbfgs_from_optax(jo.adam(0.1).init(start))
