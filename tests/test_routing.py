"""Roles of leaves, what `explain` says of ten models, and each leaf to its group, shown as the matrices it is."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from references import model_trees

import jaxopt_ko as jo

TREES = model_trees.trees()
HIDDEN = ("matrix", "qkv", "experts", "convolution")
every_tree = pytest.mark.parametrize("name", TREES)


def groups(hidden=jo.muon, tables=jo.adamw, vectors=jo.adamw):
    return (
        jo.Group("hidden", hidden, 0.02, 0.1, role=HIDDEN),
        jo.Group("tables", tables, 3e-3, 0.0, role=("embedding", "head")),
        jo.Group("vectors", vectors, 3e-3, role=("norm", "bias")),
    )


@every_tree
def test_the_table_is_the_golden_one(name):
    params, options = TREES[name]
    golden = (model_trees.HERE / f"{name}.txt").read_text(encoding="utf-8")
    assert f"{jo.explain(params, **options)}\n" == golden, "python tests/references/model_trees.py, and read them"


# of each tree, read by hand: what must not be orthogonalized
PROTECTED = {
    "linen_language_model": "bias|scale|embedding|^Dense_0/kernel",
    "linen_scanned": "bias|scale|embedding|^Dense_0/kernel",
    "linen_resnet": "bias|scale|^Dense_0",
    "linen_vision_transformer": "bias|scale|^embedding|posembed|cls|^head",
    "linen_actor_critic": "bias|Dense_2|Dense_5",
    "nnx_language_model": "bias|scale|embedding|lm_head",
    "equinox_language_model": "bias|/n1/|/n2/|^norm|^table|^out",
    "equinox_digits": "bias|^layers/[14]/",
    "haiku_transformer": "/b$|offset|scale|embeddings|transformer/linear/",
    "gpt2": "bias|scale|embedding",
    "mixture_of_experts": "norm|bias|embedding|/gate/|lm_head",
}


@every_tree
def test_no_embedding_head_norm_or_bias_is_orthogonalized(name):
    """By the steps: 1 from the method of matrices, 0 from the others."""
    params, options = TREES[name]

    def steps_of(value):
        def method(learning_rate, weight_decay=0.0):
            return jo.stateless(lambda g, p: jax.tree.map(lambda x: np.full(x.shape, value, x.dtype), g))

        return method

    opt = jo.route(*groups(steps_of(1.0), steps_of(0.0), steps_of(0.0)), **options)
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), params)
    u, _ = opt.update(params, opt.init(params), params)
    leaves = {leaf.path: float(np.max(x)) for leaf, x in zip(jo.roles_of(u), jax.tree.leaves(u), strict=True)}
    assert leaves == {path: float(not re.search(PROTECTED[name], path)) for path in leaves}
    assert sum(leaves.values()) >= 3


def around(wrapper, method):
    def made(learning_rate):
        return wrapper(method(learning_rate))

    return made


# what nothing else here is given: methods for hidden matrices, and wrappers of methods
METHODS = {
    name: getattr(jo, name)
    for name in (
        "soap_muon", "aurora", "muown", "spectral_sphere", "dion2", "polargrad", "asgo", "conda", "tam",
        "schedule_free_plus", "adam_mini", "came", "fira", "adamp", "stable_spam",
    )
} | {"magma": around(jo.magma, jo.adamw), "lazy_rows": around(jo.lazy_rows, jo.adam)}  # fmt: skip
EACH = [("equinox_digits", method) for method in METHODS]
EACH += [(name, list(METHODS)[(2 * i + k) % len(METHODS)]) for i, name in enumerate(TREES) for k in range(2)]


@pytest.mark.parametrize(("name", "method"), dict.fromkeys(EACH))
def test_methods_take_the_hidden_leaves_of_models_as_they_are_shown_them(name, method):
    """Two on each tree, and all on one: steps and states as a scan would have them."""
    params, options = TREES[name]
    params = jax.tree.map(lambda p: p if jnp.issubdtype(p.dtype, jnp.floating) else None, params)
    opt = jo.route(*groups(lambda learning_rate, weight_decay: METHODS[method](learning_rate)), **options)
    state = jax.eval_shape(opt.init, params)
    u, new = jax.eval_shape(lambda s, p: opt.update(p, s, p, value=jnp.ones(())), state, params)
    for after, before in ((u, params), (new, state)):
        leaves = [[(x.shape, x.dtype) for x in jax.tree.leaves(each)] for each in (after, before)]
        assert leaves[0] == leaves[1] and jax.tree.structure(after) == jax.tree.structure(before)


# ---- stacks nobody spoke of, names that mislead ---------------------------------------------------------


def role(shapes, path, **options):
    return {leaf.path: leaf.role for leaf in jo.roles_of(model_trees.tree_of(shapes), **options)}[path]


@pytest.mark.parametrize(
    ("shapes", "path", "wanted"),
    [
        ({"layers/q_proj/kernel": (3, 8, 8), "layers/o_proj/kernel": (3, 8, 8)}, "layers/q_proj/kernel", None),
        ({"layers/mlp/kernel": (3, 8, 8)}, "layers/mlp/kernel", None),
        ({"layers/moe/router/kernel": (3, 8, 4)}, "layers/moe/router/kernel", "head"),
        ({"layers/attention/query/kernel": (3, 8, 2, 4)}, "layers/attention/query/kernel", None),
        ({"block_0/ssm/A_log": (8, 4)}, "block_0/ssm/A_log", "bias"),
        ({"a/w1": (3, 8), "a/w2": (8, 8), "a/w10": (8, 2)}, "a/w10", "head"),
        ({"a/w1": (3, 8), "a/w2": (8, 8), "a/w10": (8, 2)}, "a/w2", "matrix"),
        ({"l/1/in_proj_weight": (24, 8), "l/1/out/weight": (8, 8)}, "l/1/in_proj_weight", "qkv"),
        ({"l/1/w": (8, 8), "l/1/v": (8, 8), "reads/w": (3, 8), "says/w": (8, 5)}, "reads/w", "embedding"),
        ({"l/1/w": (8, 8), "l/1/v": (8, 8), "reads/w": (3, 8), "says/w": (8, 5)}, "says/w", "head"),
        ({"Conv_0/kernel": (3, 3, 1, 8)}, "Conv_0/kernel", "convolution"),
        ({"stem/kernel": (3, 3, 1, 8)}, "stem/kernel", "convolution"),
        ({"layers/scale": (3, 8)}, "layers/scale", "norm"),
        ({"w": (3, 8)}, "w", "head"),
        ({"l/1/w": (8, 8), "l/1/v": (8, 8), "mix/w": (8, 8), "head/w": (8, 5)}, "mix/w", "embedding"),
        ({"l/moe/gate_proj/kernel": (4, 8, 6), "l/moe/gate/kernel": (8, 4)}, "l/moe/gate_proj/kernel", "experts"),
        ({"l/moe/experts/gate/kernel": (4, 8, 6)}, "l/moe/experts/gate/kernel", "experts"),
        ({"l/moe/gate/kernel": (8, 4)}, "l/moe/gate/kernel", "head"),
    ],
)
def test_names_and_shapes_that_mislead(shapes, path, wanted):
    assert role(shapes, path) == wanted


def test_what_is_said_goes_before_what_is_guessed():
    shapes = {"mixer/kernel": (4, 2, 3), "gate/kernel": (4, 6)}
    assert role(shapes, "mixer/kernel") is None
    said = {"kernel": "bias", "gate": "matrix", "mixer": jo.MatrixAxes((0,), (1, 2))}
    leaves = {leaf.path: leaf for leaf in jo.roles_of(model_trees.tree_of(shapes), said)}
    assert leaves["gate/kernel"].role == leaves["mixer/kernel"].role == "matrix"
    assert leaves["mixer/kernel"].axes.shape((4, 2, 3)) == (1, 4, 6)
    with pytest.raises(jo.errors.HyperparameterError, match="the role of 'a' must be one of"):
        jo.roles_of({}, {"a": "hidden"})
    with pytest.raises(jo.errors.TreeError, match=r"\['mixer'\]\['kernel'\] must have two axes behind 0 stack axes"):
        jo.roles_of(model_trees.tree_of(shapes), {"mixer": "matrix"})


# ---- groups ---------------------------------------------------------------------------------------------


def values(shapes):
    leaves, treedef = jax.tree.flatten(model_trees.tree_of(shapes))
    keys = jax.random.split(jax.random.key(0), len(leaves))
    return treedef.unflatten([jax.random.normal(key, leaf.shape) for key, leaf in zip(keys, leaves, strict=True)])


MODEL = {
    "embed/embedding": (9, 4),
    "layers/attention/qkv/kernel": (2, 4, 12),
    "layers/attention/out/kernel": (2, 2, 2, 4),
    "layers/moe/experts/up/weight": (2, 3, 5, 4),
    "layers/norm/scale": (2, 4),
    "conv/kernel": (3, 3, 2, 4),
    "head/kernel": (4, 9),
}
STACKS = {"embed": 0, "layers": 1, "conv": 0, "head": 0}


def test_each_matrix_steps_as_it_would_alone():
    params = values(MODEL)
    opt, alone = jo.route(*groups(), stack_axes=STACKS), jo.muon(0.02, weight_decay=0.1)
    u, _ = quick.jit(lambda p: opt.update(p, opt.init(p), p))(params)
    layers, steps = params["layers"], u["layers"]
    parts = {
        "q": (layers["attention"]["qkv"]["kernel"][1, :, :4], steps["attention"]["qkv"]["kernel"][1, :, :4]),
        "v": (layers["attention"]["qkv"]["kernel"][0, :, 8:], steps["attention"]["qkv"]["kernel"][0, :, 8:]),
        "o": tuple(x["attention"]["out"]["kernel"][1].reshape(4, 4) for x in (layers, steps)),
        "e": tuple(x["moe"]["experts"]["up"]["weight"][1, 2].T for x in (layers, steps)),
        "c": tuple(x["conv"]["kernel"].reshape(18, 4) for x in (params, u)),
    }
    for name, (p, got) in parts.items():
        want, _ = alone.update(p, alone.init(p), p)
        np.testing.assert_allclose(got, want, atol=1e-6, err_msg=name)
    rest, tables = jo.adamw(3e-3), jo.adamw(3e-3, weight_decay=0.0)
    for leaf, path, other in ((params["head"]["kernel"], u["head"]["kernel"], tables),
                              (layers["norm"]["scale"], steps["norm"]["scale"], rest)):  # fmt: skip
        np.testing.assert_allclose(path, other.update(leaf, other.init(leaf), leaf)[0], atol=1e-7)


def test_explain_shows_groups_and_goes_to_notebooks():
    params = values(MODEL)
    rules = (*groups(hidden=functools.partial(jo.muon, beta=0.9))[:2], jo.Group("vectors", jo.sgd(0.1), role="norm"))
    text = str(jo.route(*rules, stack_axes=STACKS).explain(params))
    lines = text.splitlines()
    assert repr(jo.explain(params, stack_axes=STACKS)).startswith("leaf  ")
    assert lines[0].split("  ")[0] == "leaf" and "learning rate" in lines[0]
    qkv = " ".join(next(line for line in lines if "qkv" in line).split())
    assert qkv == "layers/attention/qkv/kernel (2, 4, 12) qkv 6 of 4 x 4 hidden muon 0.02 0.1"
    assert next(line for line in lines if "norm" in line).split()[-2:] == ["vectors", "sgd"]
    assert "<code>conv/kernel</code>" in jo.explain(params, rules, stack_axes=STACKS)._repr_html_()


def test_paths_and_shapes_choose_too():
    params = values({"a/w": (2, 3), "b/w": (2, 3), "b/v": (3, 3)})
    opt = jo.route(
        jo.Group("one", jo.sgd, 1.0, path="^a/"),
        jo.Group("two", jo.sgd, 2.0, path="^b/", shape=(None, 3), role=("matrix", "head")),
        stack_axes=0,
    )  # fmt: skip
    u, _ = opt.update(params, opt.init(params), params)
    for module, rate in (("a", 1.0), ("b", 2.0)):
        for name, g in params[module].items():
            np.testing.assert_allclose(u[module][name], -rate * g)
    assert jo.Group("x", jo.sgd, shape=lambda shape: shape[0] > 2).takes(jo.roles_of(params)[1])


def test_optax_takes_it_and_it_takes_optax():
    params = values({"a/w": (2, 3), "b/b": (3,)})
    opt = jo.route(jo.Group("all", optax.sgd(0.5)))
    chained = optax.chain(opt, optax.scale(2.0))
    u, _ = chained.update(params, chained.init(params), params)
    np.testing.assert_allclose(u["a"]["w"], -params["a"]["w"])


TWO = {"a/w": (2, 3), "a/b": (3,)}


@pytest.mark.parametrize(
    ("rules", "shapes", "words"),
    [
        (lambda: (), None, "groups must be one or more"),
        (lambda: groups()[:1] * 2, None, "different strings"),
        (lambda: (jo.Group("a", jo.muon, 0.1, role="hidden"),), None, "the role of group 'a' must be one of"),
        (lambda: (jo.Group("a", jo.sgd(0.1), 0.1),), None, "takes no learning_rate"),
        (lambda: (jo.Group("a", jo.adagrad, 0.1, 0.1),), None, "adagrad, which takes no weight_decay"),
        (lambda: groups()[:2], TWO, r"a/b \(3,\) of the role bias: none"),
        (lambda: (*groups(), jo.Group("more", jo.sgd, 0.1, path="b$")), TWO, r"role bias: vectors and more"),
        (groups, {"layers/mlp/kernel": (3, 4, 4)}, r"of the role \?: none.*stack_axes"),
    ],
)
def test_what_fits_no_group_or_two_is_an_error(rules, shapes, words):
    with pytest.raises((jo.errors.TransformationError, ValueError), match=words):
        jo.route(*rules()).init(values(shapes))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: jo.route("hidden"), r"each group must be Group. Got a str: 'hidden'. Make it: Group\("),
        (lambda: jo.route(None), "each group must be Group"),
        (lambda: jo.route(list(groups())), "each group must be Group"),
        (lambda: jo.explain({}, "hidden"), "each group must be Group"),
        (lambda: jo.explain({}, [jo.sgd(0.1)]), "each group must be Group"),
        (lambda: jo.Group("a", jo.sgd, 0.1, path="("), r"Group\('a'\): path must be a regular expression"),
        (lambda: jo.Group("a", jo.sgd, 0.1, path=3), "path must be a regular expression"),
        (lambda: jo.Group("a", jo.sgd, 0.1)._replace(path="["), "path must be a regular expression"),
        (lambda: jo.route(jo.Group("a", jo.sgd)), "group 'a' has the method sgd, which needs learning_rate"),
        (lambda: jo.route(jo.Group("a", functools.partial(jo.muon, beta=0.9))), "muon, which needs learning_rate"),
        (lambda: jo.Group("a", jo.sgd, "0.1"), "learning_rate must be a number"),
        (lambda: jo.Group("a", jo.sgd, -0.1), "learning_rate must be a finite number >= 0"),
        (lambda: jo.Group("a", jo.adamw, 0.1, "x"), "weight_decay must be a number"),
        (lambda: jo.Group("a", "sgd", 0.1), "method must be a function"),
        (lambda: jo.Group("a", None), "method must be a function"),
        (lambda: jo.Group(3, jo.sgd, 0.1), "name must be a string"),
        (lambda: jo.Group("a", jo.sgd, 0.1, role=3), "role must be a string"),
        (lambda: jo.Group("a", jo.sgd, 0.1, shape=3), "shape must be a tuple"),
        (lambda: jo.Group("a", jo.sgd, 0.1, shape=("x", 2)), "shape must be a tuple"),
        (lambda: jo.route(*groups(), roles="x"), "roles must be a dict"),
        (lambda: jo.route(*groups(), roles={"(": "matrix"}), "each key of roles must be a regular expression"),
        (lambda: jo.route(*groups(), roles={"w": "hidden"}), "the role of 'w' must be one of"),
        (lambda: jo.route(*groups(), stack_axes="1"), "stack_axes must be an integer"),
    ],
)
def test_groups_are_refused_when_they_are_made(make, words):
    with pytest.raises((jo.errors.TransformationError, jo.errors.HyperparameterError), match=words):
        make()
    assert jo.Group("a", jo.sgd, 0.1, path="w$")._replace(name="b").name == "b"


def test_gradients_of_another_shape_are_refused():
    params = values({"a/w": (2, 3), "b/w": (3, 3)})
    opt = jo.route(*groups())
    with pytest.raises(jo.errors.TreeError, match=r"\['a'\]\['w'\]"):
        opt.update({"a": {"w": jnp.ones((3, 2))}, "b": {"w": jnp.ones((3, 3))}}, opt.init(params), params)
