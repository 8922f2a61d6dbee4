"""Bad input: who, what was wrong, what was got, what to do; when made if possible, else when traced."""

import inspect
import re
import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_ko as jo
from cases import CASES, every, params_like, whole
from engines import in_full

G = {"a": jnp.ones((2, 3)), "b": jnp.ones(3)}


def refuses(*words, error=(ValueError, TypeError)):
    """The message has every word, starts with a name and is three sentences at most."""
    pattern = "".join(f"(?=.*{re.escape(w)})" for w in words)
    return pytest.raises(error, match=f"(?s)^[^\n]*{pattern}")


# ---- when the optimizer is made -------------------------------------------------------------------------

OPTIMIZERS = sorted({case.factory for case in CASES if "learning_rate" in case.hypers and case.make is None}, key=str)
BAD_RATES = [
    None,
    -0.1,
    float("nan"),
    float("inf"),
    "0.1",
    [0.1, 0.2],
    np.ones(3),
    jnp.ones((1,)),
    True,
    1j,
    {"a": 0.1},
    np.array(True),
    np.complex64(1 + 2j),
    np.array("0.1"),
    Fraction(1, 10),
    10**400,
    1e39,
    [[1], [1, 2]],
]


@pytest.mark.parametrize("factory", OPTIMIZERS, ids=lambda f: f.__name__)
def test_bad_learning_rates(factory):
    for bad in BAD_RATES[factory is jo.adafactor :]:  # None is adafactor's own: steps in proportion to the parameters
        with refuses("learning_rate", "Got"):
            factory(bad)


def bad_values(key):
    if key in ("b1", "b2", "decay", "rho", "momentum", "dampening", "shampoo_beta", "beta3"):
        return [1.0, -0.1, 1.5, float("nan"), "x", jnp.ones(2), 0.99999999]  # the last is 1 in float32
    if key in (
        "eps",
        "eps_root",
        "weight_decay",
        "initial_scale",
        "initial_accumulator_value",
        "momentum_decay",
        "eta",
        "weight_decay_rate",
    ):
        return [-1e-8, float("nan"), float("inf"), "x", jnp.ones(2)]
    if key == "optimism":
        return [-1e-8, float("nan"), "x", jnp.ones(2)]
    if key == "clip_threshold":
        return [0.0, -1.0, float("nan"), "x", jnp.ones(2)]
    if key == "preconditioner_update_probability":
        return [-0.1, 1.5, float("nan"), "x"]
    if key in ("max_delta", "max_norm"):
        return [-1.0, float("nan"), None, "x"]
    if key in ("max_learning_rate", "smooth_beta"):  # None is that of a number, or 1
        return [0.0, -0.1, float("nan"), "x", jnp.ones(2)]
    if key == "clipping_threshold":  # None is none
        return [0.0, -1.0, float("nan"), "x"]
    return [float("nan"), None, "x", jnp.ones(2)]


# decays that may be 1: nothing is divided by the weight that a mean of them has gathered
MAY_BE_ONE = {
    **dict.fromkeys((jo.trace, jo.scale_by_rms, jo.scale_by_stddev, jo.rmsprop), ("decay", "momentum")),
    **dict.fromkeys((jo.sgd, jo.lars, jo.dpsgd, jo.adafactor, jo.sm3), ("momentum",)),
    **dict.fromkeys((jo.scale_by_lion, jo.lion, jo.scale_by_adopt, jo.adopt), ("b1", "b2")),
    **dict.fromkeys((jo.scale_by_novograd, jo.novograd, jo.scale_by_sm3), ("b1", "b2")),
    **dict.fromkeys((jo.qhm, jo.scale_by_qhm), ("momentum",)),
    **dict.fromkeys((jo.tam, jo.scale_by_tam), ("momentum", "decay")),
    **dict.fromkeys((jo.adadelta, jo.scale_by_adadelta), ("rho",)),
}


def may_be_one(case, key):
    corrected = case.options.get("bias_correction")
    if case.name.startswith("adam-uncorrected"):
        return key in ("b1", "b2")
    return key in MAY_BE_ONE.get(case.factory, ()) and not (key == "decay" and corrected)


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if c.make is None and c.hypers])
def test_bad_hyperparameters(case):
    others = {key: value for key, value in case.hypers.items() if key != "learning_rate"}
    for key in others:
        for bad in bad_values(key):
            if may_be_one(case, key) and isinstance(bad, float) and 0.9 < bad < 1.1:
                case(**{key: bad})
                continue
            with refuses(key, "Got"):
                case(**{key: bad})
        case(**{key: lambda count: jnp.float32(0.5)})  # a schedule is fine, and so is what is traced:
    jax.eval_shape(lambda traced: whole(case, **traced).init(G), {key: jnp.float32(0.0) for key in others})


@pytest.mark.parametrize("returned", [None, np.ones(2), "x", [1.0, 2.0], 1j, True], ids=repr)
def test_schedules_that_do_not_return_one_number(returned):
    with refuses("schedule for learning_rate", "must return one number"):
        jo.adam(lambda count: returned)
    with refuses("schedule for b1"):
        jo.adam(0.1, b1=lambda count: returned)


def test_a_schedule_that_cannot_be_traced_shows_itself_when_called():
    opt = jo.sgd(lambda count: 0.1 if int(count) < 3 else None)  # needs concrete steps: eager only
    state = opt.init(G)
    for _ in range(3):
        _, state = opt.update(G, state, G)
    with refuses("scale_by_learning_rate", "schedule for learning_rate", "None"):
        opt.update(G, state, G)


def test_forgotten_calls_and_strangers():
    with refuses("chain", "adam", "Call it first: adam(...)"):
        jo.chain(jo.clip(1.0), jo.adam)
    with refuses("chain", "argument 1", "3"):
        jo.chain(jo.adam(0.1), 3)
    with refuses("named_chain", "pair"):
        jo.named_chain(jo.adam(0.1))
    with refuses("named_chain", "twice"):
        jo.named_chain(("a", jo.adam(0.1)), ("a", jo.adam(0.1)))
    with refuses("masked", "inner", "adam"):
        jo.masked(jo.adam, True)
    with refuses("partition", "transforms['x']", "sgd"):
        jo.partition({"x": jo.sgd}, "x")
    with refuses("inject_hyperparams(adam)", "nope"):
        jo.inject_hyperparams(jo.adam, static_args="nope")
    with refuses("learning_rate"):
        jo.inject_hyperparams(jo.adam)(None)
    with refuses("amsgrad", "maximum", "'biggest'"):
        jo.amsgrad(0.1, maximum="biggest")
    with refuses("add_noise", "key"):
        jo.add_noise(0.1, 0.5, "key")


def test_an_empty_chain_is_the_identity():
    opt = jo.chain()
    updates, state = opt.update(G, opt.init(G), G)
    assert updates is G and state == ()


# ---- when it is traced ----------------------------------------------------------------------------------


@every("errors", in_full)
def test_gradient_trees_that_do_not_fit(case):
    """At the latest as steps: a rule that has no use for params does not compare them."""
    opt = whole(case)
    state = opt.init(G)
    step = jax.jit(lambda g, s: jo.apply_updates(G, opt.update(g, s, G)[0]))
    for bad, where in [
        ({"a": G["a"]}, "['b']"),
        ({**G, "c": jnp.ones(3)}, "['c']"),
        ({"a": G["a"], "B": G["b"]}, "['b']"),
    ]:
        if case.name not in ("identity",):
            with refuses(where):
                step(bad, state)
    for shape in [(3,), (1, 3), (2, 1), (), (2, 3, 1), (4, 4)]:
        if case.name not in ("identity",):
            with refuses("['a']", "(2, 3)"):
                step({"a": jnp.ones(shape), "b": G["b"]}, state)
    if case.name not in ("identity",):
        with refuses("['b']"):
            step({"a": G["a"], "b": jnp.ones(3, jnp.int32)}, state)
        with refuses("structure"):
            step([G["a"], G["b"]], state)
    leaves = not case.vector and case.name not in ("add_noise", "noisy_sgd")
    if leaves and any(jnp.ndim(x) for x in jax.tree.leaves(state)):  # the state alone shows for whom it was made
        for bad in [{"a": G["a"]}, {"a": jnp.ones((1, 3)), "b": G["b"]}, {"a": jnp.ones(()), "b": G["b"]}]:
            with refuses("['"):
                opt.update(bad, state, bad)


@every("errors", lambda case: case.factory not in (jo.identity, jo.transform))
def test_states_of_others_and_swapped_arguments(case):
    opt = whole(case)
    state = opt.init(G)
    other = jo.chain(*[jo.sgd(0.1, 0.9)] * 5).init(G)
    with refuses("state", "Got"):
        opt.update(G, other, G)
    with refuses("Got"):
        opt.update(state, G, G)  # swapped
    if jax.tree.leaves(state) or type(state) is tuple:  # None stands for a state of nothing
        with refuses("state", "Got"):
            opt.update(G, None, G)


@pytest.mark.parametrize("name", ["adamw", "nadamw", "adamaxw", "adadelta"])
def test_missing_params(name):
    opt = getattr(jo, name)(0.1, weight_decay=1e-4)
    with refuses("add_decayed_weights", "params is missing", "update(updates, state, params)"):
        opt.update(G, opt.init(G))


@every(
    "errors",
    lambda case: (
        case.factory not in (jo.identity, jo.masked, jo.partition, jo.scale_by_group, jo.split_real_and_imaginary)
    ),
)
def test_leaves_that_cannot_be_optimized(case):
    opt = whole(case)
    for bad in (jnp.ones(3, jnp.int32), jnp.tanh, "text", jax.random.key(0), 3):
        if "mask" in case.options:
            continue
        with refuses("['x']"):
            opt.init({"w": jnp.ones(2), "x": bad})
    with refuses("masked"):
        opt.init({"w": jnp.ones((2, 2)), "x": jnp.ones((3, 3), jnp.int32)})


def test_an_integer_leaf_is_masked_as_the_message_says():
    params = {"w": jnp.ones(2), "n": jnp.arange(3), "f": jnp.tanh}
    floating = lambda tree: jax.tree.map(lambda x: x is None or (hasattr(x, "dtype") and x.dtype == jnp.float32), tree)  # noqa: E731
    opt = jo.masked(jo.adam(0.1), floating)
    state = opt.init(params)
    grads = {"w": jnp.ones(2), "n": None, "f": None}
    updates, _ = opt.update(grads, state, params)
    after = jo.apply_updates(params, updates)
    assert after["n"] is params["n"] and after["f"] is jnp.tanh and float(after["w"][0]) < 1


def test_masks_and_labels_that_do_not_fit():
    with refuses("masked", "['b']", "True or False", "1.5"):
        jo.masked(jo.adam(0.1), {"a": True, "b": 1.5}).init(G)
    with refuses("masked", "labels", "params"):
        jo.masked(jo.adam(0.1), {"a": True, "c": True}).init(G)
    with refuses("partition", "['b']", "'y'", "'x'"):
        jo.partition({"x": jo.adam(0.1)}, {"a": "x", "b": "y"}).init(G)
    opt = jo.partition({"x": jo.adam(0.1)}, "x")
    with refuses("partition", "PartitionState"):
        opt.update(G, opt.init(G).inner_states, G)


def test_apply_updates_does_not_broadcast():
    with refuses("apply_updates", "['a']", "(2, 3)"):
        jo.apply_updates(G, {"a": jnp.ones(3), "b": G["b"]})
    with refuses("apply_updates", "['b']"):
        jo.apply_updates(G, {"a": G["a"]})


def test_rules_of_a_users_own_are_held_to_the_contract():
    zeros = jax.tree.map(jnp.zeros_like, G)
    drift = jo.transform(
        "drift", lambda p: zeros, lambda g, s, p=None: (g, jax.tree.map(lambda x: x.astype("float16"), s))
    )
    with refuses("drift", "['a']", "float32[2,3]", "float16"):
        drift.update(G, drift.init(G), G)
    grow = jo.transform("grow", lambda p: (), lambda g, s, p=None: (g, (*s, 1)))
    with refuses("grow", "new state"):
        grow.update(G, (), G)
    shrink = jo.transform("shrink", lambda p: (), lambda g, s, p=None: (jax.tree.map(jnp.sum, g), s))
    with refuses("shrink", "updates", "['a']", "(2, 3)"):
        shrink.update(G, (), G)
    leaf = jo.leafwise("leaf", jo.ScaleByScheduleState, rule=lambda g, p, h: g * h.nothing)
    with pytest.raises(AttributeError, match="nothing"):
        leaf.update(G, leaf.init(G), G)
    outer = jo.leafwise("outer", jo.ScaleByScheduleState, rule=lambda g, p, h: g[None])
    with pytest.raises(AssertionError, match="outer"):
        outer.update(G, outer.init(G), G)


def test_traced_values_pass_unchecked():
    jax.eval_shape(lambda lr: jo.adam(lr, b1=lr).init(params_like()), jnp.float32(-1.0))


@pytest.mark.parametrize("bad", [jnp.int32, bool, 3, "flot32", jnp.complex64, jnp.float8_e4m3fn], ids=str)
def test_dtypes_of_memory(bad):
    for make, key in [
        (lambda d: jo.adam(0.1, mu_dtype=d), "mu_dtype"),
        (lambda d: jo.adamw(0.1, nu_dtype=d), "nu_dtype"),
        (lambda d: jo.nadam(0.1, mu_dtype=d, momentum_decay=0.1), "mu_dtype"),
        (lambda d: jo.amsgrad(0.1, nu_dtype=d), "nu_dtype"),
        (lambda d: jo.sgd(0.1, 0.9, accumulator_dtype=d), "accumulator_dtype"),
        (lambda d: jo.ema(0.9, accumulator_dtype=d), "accumulator_dtype"),
    ]:
        if bad is jnp.complex64 and key != "nu_dtype":
            make(bad).init(jnp.ones(2, bad))
            continue
        with refuses(key, "floating dtype"):
            make(bad)


@pytest.mark.parametrize(
    "bad", [1.5, "x", -1, np.int8(-3), True, np.ones(2, np.float32), jax.random.split(jax.random.key(0), 2)]
)
def test_noise_keys(bad):
    with refuses("add_noise", "key"):
        jo.add_noise(0.1, 0.5, bad)
    for good in (3, np.int32(3), jnp.int32(3), jax.random.key(0), jax.random.PRNGKey(0)):
        jo.add_noise(0.1, 0.5, good).init(G)
    for make in (lambda: jo.add_noise(0.1, 0.5), lambda: jo.noisy_sgd(0.1)):  # the same noise in each run, said once
        with pytest.warns(UserWarning, match="no key was given"):
            made = make()
        assert jax.tree.leaves(made.init(G))
    with refuses("differentially_private_aggregate", "key"):  # known noise hides nothing
        jo.differentially_private_aggregate(1.0, 1.0)


def test_states_of_near_relations():
    for a, b in [
        (jo.sgd(0.1), jo.adam(0.1)),
        (jo.sgd(0.1), jo.sgd(0.1, 0.9)),
        (jo.adam(0.1), jo.adabelief(0.1)),
        (jo.rmsprop(0.1), jo.rmsprop(0.1, momentum=0.9)),
        (jo.rmsprop(0.1), jo.rmsprop(0.1, centered=True)),
    ]:
        for opt, other in ((a, b), (b, a)):
            with refuses("state must be"):
                opt.update(G, other.init(G), G)


def test_messages_name_the_method_that_was_called():
    for name in ("sgd", "rmsprop", "adam", "adadelta"):
        opt = getattr(jo, name)(0.1)
        with refuses(f"{name}: the state must be a tuple"):
            opt.update(G, None, G)
    with refuses("adamw: the state must be a tuple"):
        jo.adamw(0.1, mask=True).update(G, None, G)


def test_misused_pieces():
    with refuses("add_noise", "AddNoiseState"):
        opt = jo.add_noise(0.1, 0.5, 0)
        opt.update(G, None)
    with refuses("['a']", "not a floating-point array"):
        opt = jo.chain(jo.clip_by_global_norm(1.0), jo.adam(0.1))
        opt.update({"a": "x", "b": G["b"]}, opt.init(G), G)
    with refuses("count", "vmap"):
        states = jax.vmap(lambda _: jo.adam(0.1).init(G))(jnp.arange(3))
        jo.adam(0.1).update(G, states, G)
    with refuses("partition", "sorts"):
        jo.partition({"a": jo.sgd(0.1), 1: jo.sgd(0.1)}, "a")
    with refuses("partition", "dict"):
        jo.partition([jo.sgd(0.1)], 0)
    with refuses("inject_hyperparams", "inner_factory must be a function"):
        jo.inject_hyperparams(jo.adam(0.1))
    with refuses("forgetful", "(updates, state)"):
        jo.transform("forgetful", lambda p: (), lambda g, s: g).update(G, (), G)
    with refuses("mine", "tuple of 1 arrays"):
        jo.leafwise("mine", jo.TraceState, init=lambda p: p, rule=lambda g, p, v, h: (g, v)).init(G)
    many = {f"leaf{i}": jnp.ones(2) for i in range(300)}
    with pytest.raises(jo.errors.TreeError) as caught:
        jo.adam(0.1).update({**many, "extra": jnp.ones(2)}, jo.adam(0.1).init(many), many)
    assert len(str(caught.value)) < 700


def test_apply_updates_names_the_right_leaf_among_nones():
    two, three = jnp.ones(2), jnp.ones(3)
    params = {"a": None, "b": two, "c": two, "d": two}
    with refuses("['b']"):
        jo.apply_updates(params, {"a": None, "b": three, "c": None, "d": two})
    with refuses("['c']"):
        jo.apply_updates(params, {"a": None, "b": None, "c": three, "d": two})
    assert (
        jo.apply_updates(params, {"a": two, "b": None, "c": two, "d": two})["a"] is None
    )  # there is nothing to add to


def test_integer_parameters_frozen_by_partition():
    params = {"w": jnp.ones(2), "n": jnp.int32(2**24 + 1)}
    opt = jo.partition({"train": jo.adam(0.1), "keep": jo.set_to_zero()}, {"w": "train", "n": "keep"})
    grads = jax.grad(lambda p: jnp.sum(p["w"]) * 2.0, allow_int=True)(params)  # float0 for n
    updates, _ = opt.update(grads, opt.init(params), params)
    assert int(jo.apply_updates(params, updates)["n"]) == 2**24 + 1
    zeros = {**grads, "n": jnp.int32(0)}
    updates, _ = opt.update(zeros, opt.init(params), params)
    assert int(jo.apply_updates(params, updates)["n"]) == 2**24 + 1


def test_a_nan_gradient_is_not_hidden_by_clipping():
    opt = jo.clip_by_global_norm(1.0)
    g = {"a": jnp.array([1e6, 1e6]), "b": jnp.array([jnp.nan])}
    updates, _ = opt.update(g, opt.init(g))
    assert bool(jnp.all(jnp.isnan(updates["a"])))


# ---- what a signature says ------------------------------------------------------------------------------

STANDS_FOR = {
    "Callable": lambda x: x, "Function": lambda x: x, "Mapping": {}, "GradientTransformation": jo.sgd(0.1),
    "Hyper": 0.1, "int": 1, "float": 0.1, "PyTree": True, "MaskOrFn": True, "str": "x",
    "ArrayLike": np.ones(2, np.float32),
}  # fmt: skip


def signatures():
    """(name, function, its required arguments, parameters) of what is public here."""
    for room in (jo, jo.contrib, jo.data, jo.loop, jo.losses, jo.microbatching, jo.schedules):
        for name in sorted(getattr(room, "__all__", dir(room))):
            function = getattr(room, name)
            if name in ("safe_norm", "unitwise_norm"):
                continue  # of arrays, not made beforehand
            if name.startswith("_"):
                continue
            if inspect.isfunction(function) and function.__module__.startswith("jaxopt_ko"):
                parameters = inspect.signature(function).parameters
                kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
                needed = [p for p in parameters.values() if p.default is p.empty and p.kind in kinds]
                base = {p.name: next((v for k, v in STANDS_FOR.items() if k in str(p.annotation)), 1) for p in needed}
                if "state_type" in base:
                    base["state_type"] = jo.EmptyState
                yield name, function, base, parameters


BAD_OPTIONS = {
    "Axes | None": ("x", 1.5, True, ("x",), {"a": 1}),
    "Axis": ("x", 1.5, (0, "x")),
    "int | Sequence[int]": ("x", 1.5, ("x",), True),
    "str | Sequence[str]": (1, (1,)),
    "str | Iterable[str]": (1, (1,)),
    "Function": ("f", 1),
    "bool": ("yes", None, 1.5, -1, [], np.ones(2, bool)),
    "bool | None": ("yes", 1.5),
    "DType | None": ("float33", 3, []),
    "jax.sharding.Sharding | None": ("data", 1),
}


def test_options_are_what_the_signature_says():
    seen, taken = set(), []
    for name, function, base, parameters in signatures():
        for word, parameter in parameters.items():
            by_name = ("1", 1.5, -1, None, True) if word == "stack_axes" else ()
            if word.split("_")[-1] == "mask" or word == "normalized":
                by_name = ("x", 1, {"a": "x"}, [True, 0.5], np.ones(2))
            if word.endswith("dimension_numbers"):
                by_name = ("x", 1, {"a": 1}, [(0, 1)])
            bad = by_name or BAD_OPTIONS.get(str(parameter.annotation), ())
            for value in bad:
                if str(parameter.annotation) == "bool" and value is None and parameter.default is None:
                    continue
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)
                        function(**{**base, word: value})
                    taken.append((name, word, value))
                except (jo.errors.HyperparameterError, jo.errors.TransformationError, jo.errors.TreeError) as error:
                    if word not in str(error):
                        taken.append((name, word, str(error)))
                except Exception as error:
                    taken.append((name, word, value, repr(error)[:80]))
                seen.add((name, word))
    assert len(seen) > 150
    assert not taken


def test_messages_blame_the_name_that_was_given():
    for make, word in [
        (lambda: jo.splus(0.1, precondition_frequency=0), "precondition_frequency"),
        (lambda: jo.scale_by_splus(precondition_frequency=1.5), "precondition_frequency"),
        (lambda: jo.soap(0.1, precondition_frequency=0), "precondition_frequency"),
        (lambda: jo.dowg(0.1, eps="x"), "eps"),
        (lambda: jo.dpsgd(0.1, 1.0, 0.1, 0, momentum="x"), "momentum"),
        (lambda: jo.scion(0.1, mu_dtype="x"), "mu_dtype"),
        (lambda: jo.muon(0.1, rest="adam"), "rest"),
        (lambda: jo.lbfgs(linesearch="zoom"), "linesearch"),
        (lambda: jo.newton(linesearch="zoom"), "linesearch"),
        (lambda: jo.prodigy(1.0, betas=None), "betas"),
        (lambda: jo.sgd(0.1, dampening="x"), "dampening"),
        (lambda: jo.sophia(0.1, print_win_rate_every_n_steps=1.5), "print_win_rate_every_n_steps"),
        (lambda: jo.scale_by_group([0.1], {"a": 0}), "factors"),
        (lambda: jo.muon(0.1, stack_axes="1"), "stack_axes"),
        (lambda: jo.minimize(lambda p: 1.0, None), "params"),
        (lambda: jo.least_squares(lambda p: p, None), "params"),
        (lambda: jo.root(lambda p: p, "a"), "params"),
        (lambda: jo.least_squares(lambda p: p, jnp.ones(1), loss_scale="a"), "loss_scale"),
        (lambda: jo.least_squares(lambda p: p, jnp.ones(1), jacobian_fn="a"), "jacobian_fn"),
        (lambda: jo.root(lambda p: p, jnp.ones(1), jo.lbfgs()), "residuals"),
        (lambda: jo.root(lambda p: p, jnp.ones(1), jo.newton()), "residuals"),
        (lambda: jo.linear_program("c"), "linear_program: c"),
    ]:
        with refuses(word) as caught:
            make()
        assert type(caught.value).__module__ == "jaxopt_ko.errors", word


def test_optax_names_of_states_are_the_classes_of_the_states():
    for rule, kind in [
        (jo.scale(1.0), jo.ScaleState),
        (jo.clip(1.0), jo.ClipState),
        (jo.clip_by_global_norm(1.0), jo.ClipByGlobalNormState),
        (jo.add_decayed_weights(0.1), jo.AddDecayedWeightsState),
        (jo.scale_by_schedule(lambda t: 0.1), jo.ScaleByScheduleState),
        (jo.partition({"a": jo.sgd(0.1)}, "a"), jo.MultiTransformState),
        (jo.identity(), jo.EmptyState),
    ]:
        assert isinstance(rule.init(G), kind), kind
