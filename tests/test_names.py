"""What is public says that it is: its module, what pickles and copies write down, its annotations, its signature."""

import copy
import inspect
import pickle
import pickletools
import pydoc
import sys
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
from data import signatures

import jaxopt_ko as jo
from cases import CASES, params_like, whole

PUBLIC = {name: getattr(jo, name) for name in jo.__all__}
OURS = {
    name: thing
    for name, thing in PUBLIC.items()
    if (inspect.isclass(thing) or inspect.isfunction(thing)) and thing.__module__.startswith("jaxopt_ko")
}
CLASSES = {name: thing for name, thing in OURS.items() if inspect.isclass(thing)}


def modules_named(pickled):
    """The modules that a pickle imports from."""
    words = [arg for code, arg, _ in pickletools.genops(pickled) if code.name in ("SHORT_BINUNICODE", "BINUNICODE")]
    return {word for word in words if word.partition(".")[0] == "jaxopt_ko"}


def test_public_classes_and_functions_live_on_the_face():
    elsewhere = {name for name, thing in OURS.items() if thing.__module__ != "jaxopt_ko"}
    assert elsewhere == {"tree_map_params"}  # jaxopt_ko.tree.map_params
    assert len(CLASSES) > 100
    for name, thing in OURS.items():
        assert pickle.loads(pickle.dumps(thing)) is thing, name
        assert modules_named(pickle.dumps(thing)) <= {"jaxopt_ko", "jaxopt_ko.tree"}, name


def test_objects_of_every_public_class_are_pickled_and_copied():
    for name, cls in CLASSES.items():
        if not issubclass(cls, tuple) or cls in (
            jo.Routed,
            jo.Group,
            jo.Quantized,
            jo.WidthScaled,
        ):  # which are made of functions
            continue
        one = cls(*(np.float32(i) for i in range(len(cls._fields))))
        pickled = pickle.dumps(one)
        assert modules_named(pickled) == {"jaxopt_ko"}, name
        for again in (pickle.loads(pickled), copy.copy(one), copy.deepcopy(one)):
            assert type(again) is cls and again == one, name


def test_annotations_are_read_where_they_were_written():
    for name, cls in CLASSES.items():
        typing.get_type_hints(cls)
        assert all(not isinstance(x, typing.ForwardRef) for x in vars(cls).get("__annotations__", {}).values()), name
    assert typing.get_type_hints(jo.ScaleByAdamState)["count"] is jax.Array
    assert "jaxopt_ko" not in str(inspect.signature(jo.ScaleByAdamState))
    assert "ScaleByAdamState in module jaxopt_ko" in pydoc.plain(pydoc.render_doc(jo.ScaleByAdamState))


def classes_in(state):
    """The classes of a state's nodes that are ours."""
    found = {type(state)} if type(state).__module__.partition(".")[0] == "jaxopt_ko" else set()
    for child in jax.tree.leaves(state, is_leaf=lambda node: node is not state):
        if child is not state:
            found |= classes_in(child)
    return found


def classes_of(annotation):
    """The NamedTuples of ours that a field may hold."""
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        yield annotation
    for part in typing.get_args(annotation):
        yield from classes_of(part)


def test_what_states_hold_is_public():
    """A state is written with references to its classes: they are to be there when the house has been moved."""
    params = params_like()
    found = set().union(*(classes_in(jax.eval_shape(whole(case).init, params)) for case in CASES))
    found |= {thing for name, thing in vars(jo.states).items() if name in jo.states.__all__}
    todo = found | {cls for name, cls in CLASSES.items() if name.endswith("State")}
    while todo:
        hints = typing.get_type_hints(todo.pop())
        more = {cls for hint in hints.values() for cls in classes_of(hint)} - found
        found, todo = found | more, todo | more
    assert len(found) > 80
    for cls in found:
        assert cls.__module__ == "jaxopt_ko" or cls.__module__.removeprefix("jaxopt_ko.") in PUBLIC, cls
        room = sys.modules[cls.__module__]
        assert getattr(room, cls.__name__) is cls, cls


def test_a_state_goes_on_from_its_pickle():
    g = params_like()
    opt = jo.chain(jo.clip_by_global_norm(1.0), jo.masked(jo.adamw(0.1), mask_of_all), jo.ema(0.9))
    _, state = opt.update(g, opt.init(g), g)
    again = pickle.loads(pickle.dumps(state))
    assert modules_named(pickle.dumps(state)) == {"jaxopt_ko"}
    for a, b in zip(jax.tree.leaves(opt.update(g, again, g)), jax.tree.leaves(opt.update(g, state, g)), strict=True):
        np.testing.assert_array_equal(a, b)


def mask_of_all(params):
    return jax.tree.map(lambda p: True, params)


def test_signatures_are_as_they_were():
    """Wanted changes are written down by `python tests/data/signatures.py`."""
    lines = signatures.signatures(jo)
    assert len(lines) > 500 and not [line for line in lines if " at 0x" in line]
    written = signatures.FILE.read_text(encoding="utf-8").splitlines()
    changed = [f"- {line}" for line in written if line not in lines] + [f"+ {x}" for x in lines if x not in written]
    assert lines == written, "If this is meant, run python tests/data/signatures.py\n" + "\n".join(changed)


# ---- which pair takes extra arguments ---------------------------------------------------------------------


def strict(lib):
    """A user's pair, which takes no more than it says."""
    return lib.GradientTransformation(lambda p: (), lambda g, s, p=None: (jax.tree.map(jnp.negative, g), s))


def test_isinstance_says_which_pair_takes_extra_arguments():
    pair, extra = jo.GradientTransformation, jo.GradientTransformationExtraArgs
    for lib in (jo, optax):
        own = strict(lib)
        assert isinstance(own, pair) and not isinstance(own, extra)
    wide = optax.with_extra_args_support(strict(optax))
    assert isinstance(wide, pair) and isinstance(wide, extra)
    assert isinstance(optax.adam(0.1), pair)
    g = {"w": jnp.ones(2)}
    made = [case() for case in CASES if case.name in ("adam", "muon", "lbfgs", "MultiSteps", "flatten")]
    for own in (strict(jo), strict(optax), tuple(strict(jo))):
        made += [jo.chain(own), jo.masked(own, True), jo.with_extra_args_support(own)]
        made += [
            jo.named_chain(("a", own)),
            jo.partition({"a": own}, "a"),
            jo.MultiSteps(own, 1).gradient_transformation(),
        ]
        made += [jo.apply_if_finite(own, 2), jo.flatten(own)]
        for opt in made[-8:]:
            np.testing.assert_array_equal(opt.update(g, opt.init(g), g, value=1.0, batch=None)[0]["w"], -1.0)
    for opt in made:
        assert isinstance(opt, extra) and isinstance(opt, pair), opt
    assert not isinstance((len, len), pair) and not isinstance(jo.EmptyState(), pair) and issubclass(extra, pair)
    assert isinstance(own, tuple) and len(jo.adam(0.1)) == 2
