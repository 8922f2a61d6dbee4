"""Rates by width: mup's factors leaf by leaf, what a scaled method does, and the check of activations."""

import functools
import json
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_ko as jo

RECORDED = json.loads((Path(__file__).parent / "references" / "mup-factors.json").read_text(encoding="utf-8"))
MODELS = [name for name in RECORDED if name != "source"]


def nested(leaves):
    """{"a.b": shape} as a tree of abstract arrays."""
    root = {}
    for path, shape in leaves.items():
        *above, last = path.split(".")
        node = root
        for key in above:
            node = node.setdefault(key, {})
        node[last] = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    return root


def inputs_first(leaves):
    """The layout of flax: kernels [..., in, out]; embeddings, vectors and recurrent weights as they are."""
    table = ("embedding", "wte", "wpe")
    changed = {}
    for path, shape in leaves.items():
        stem, _, last = path.rpartition(".")
        matrix = last == "weight" and len(shape) > 1 and stem not in table
        changed[f"{stem}.kernel" if matrix else path] = [*shape[2:], shape[1], shape[0]] if matrix else shape
    return changed


@pytest.mark.parametrize("layout", [dict, inputs_first])
@pytest.mark.parametrize("rules", ["adam", "sgd"])
@pytest.mark.parametrize("name", MODELS)
def test_rates_and_decays_are_those_of_mup(name, rules, layout):
    model = RECORDED[name]
    wide, base, delta = (None if model[x] is None else nested(layout(model[x])) for x in ("shapes", "base", "delta"))
    factors = jo.width_factors(wide, base, rules, delta_params=delta)
    assert len(factors) == len(model[rules])
    for one in factors:
        path = one.path.replace("/", ".")
        want = model[rules].get(path) or model[rules][path.replace("kernel", "weight")]
        assert [one.learning_rate, one.weight_decay] == pytest.approx(want, rel=1e-12), path


WIDE = {
    "embed": jnp.ones((5, 16)), "block_0": {"kernel": jnp.ones((16, 64)), "bias": jnp.ones(64)},
    "block_1": {"kernel": jnp.ones((64, 16))}, "head": {"kernel": jnp.ones((16, 5)), "bias": jnp.ones(5)},
}  # fmt: skip
SIZES = {16: 4, 64: 8}
BASE = jax.tree.map(lambda x: jax.ShapeDtypeStruct(tuple(SIZES.get(n, n) for n in x.shape), x.dtype), WIDE)
HIDDEN = {"embed": 1.0, "block_0": {"kernel": 1 / 4, "bias": 1.0}, "block_1": {"kernel": 1 / 8},
          "head": {"kernel": 1.0, "bias": 1.0}}  # fmt: skip


def grads(seed=0):
    keys = jo.tree.split_key_like(jax.random.key(seed), WIDE)
    return jax.tree.map(lambda p, k: jax.random.normal(k, p.shape), WIDE, keys)


GRADS = [grads(seed) for seed in range(3)]


def steps(tx, params=WIDE):
    with jax.numpy_dtype_promotion("standard"):  # for optax
        state, update = tx.init(params), jax.jit(tx.update)
        for g in GRADS:
            updates, state = update(g, state, params)
            params = jo.apply_updates(params, updates)
    return params


def groups(make, factors=HIDDEN):
    """optax, with one optimizer for each factor."""
    known = sorted(set(jax.tree.leaves(factors)))
    return optax.multi_transform({f: make(f) for f in known}, factors)


def close(a, b, rtol=1e-5):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=rtol, atol=1e-7), a, b)


@pytest.mark.parametrize(
    ("ours", "theirs", "rules"),
    [
        (jo.adamw(0.1, weight_decay=0.3), lambda f: optax.adamw(0.1 * f, weight_decay=0.3 / f), "adam"),
        (
            jo.chain(jo.add_decayed_weights(0.3), jo.adam(0.1)),
            lambda f: optax.chain(optax.add_decayed_weights(0.3 / f), optax.adam(0.1 * f)),
            "adam",
        ),
    ],
    ids=["decoupled", "in the gradient"],
)
def test_steps_are_those_of_groups_with_mups_rates_and_decays(ours, theirs, rules):
    close(steps(jo.width_scaled(ours, WIDE, BASE, rules)), steps(groups(theirs)))


def test_sgd_grows_with_vectors_and_keeps_its_decay():
    factors = {one.path: one.learning_rate for one in jo.width_factors(WIDE, BASE, "sgd")}
    assert factors == {
        "embed": 4, "block_0/kernel": 2, "block_0/bias": 8, "block_1/kernel": 0.5, "head/kernel": 4, "head/bias": 1,
    }  # fmt: skip
    tree = jax.tree.unflatten(jax.tree.structure(WIDE), [float(f) for f in
        (one.learning_rate for one in jo.width_factors(WIDE, BASE, "sgd"))])  # fmt: skip

    def theirs(f):
        return optax.chain(optax.add_decayed_weights(0.3 / f), optax.sgd(0.01 * f, 0.9))

    ours = jo.width_scaled(jo.chain(jo.add_decayed_weights(0.3), jo.sgd(0.01, 0.9)), WIDE, BASE, "sgd")
    close(steps(ours), steps(groups(theirs, tree)))


def test_decay_of_a_scaled_leaf_is_that_of_the_unscaled_rate():
    tx = jo.width_scaled(jo.adamw(0.1, weight_decay=0.5), WIDE, BASE)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, WIDE), tx.init(WIDE), WIDE)
    close(updates, jax.tree.map(lambda p: -0.1 * 0.5 * p, WIDE))


def test_eps_follows_the_gradients_when_asked_to():
    eps = {"embed": 1 / 4, "block_0": {"kernel": 1 / 8, "bias": 1 / 8}, "block_1": {"kernel": 1 / 4},
           "head": {"kernel": 1 / 4, "bias": 1.0}}  # fmt: skip
    both = jax.tree.map(lambda f, e: f"{f} {e}", HIDDEN, eps)
    made = {
        key: optax.adam(0.1 * float(key.split()[0]), eps=0.3 * float(key.split()[1])) for key in jax.tree.leaves(both)
    }
    tx = jo.width_scaled(jo.adam(0.1, eps=0.3), WIDE, BASE, scale_eps=True)
    close(steps(tx), steps(optax.multi_transform(made, both)))
    assert "eps" in tx.explain().columns


def test_the_same_width_is_the_same_method():
    same, plain = jo.width_scaled(jo.adamw(0.1), WIDE, WIDE), jo.adamw(0.1)
    jax.tree.map(np.testing.assert_array_equal, steps(same), steps(plain))


def test_base_may_be_a_function_and_params_may_come_later():
    late = jo.width_scaled(jo.adamw(0.1), None, lambda params: BASE)
    jax.tree.map(np.testing.assert_array_equal, steps(late), steps(jo.width_scaled(jo.adamw(0.1), WIDE, BASE)))
    assert str(late.explain(WIDE)) == str(jo.width_scaled(jo.adam(0.1), WIDE, BASE).explain())
    with pytest.raises(jo.errors.TreeError, match="params"):
        late.explain()


def test_averages_within_are_read_at_the_parameters():
    inner = jo.chain(jo.sgd(0.1), jo.average_params(0.5))
    tx = jo.width_scaled(inner, WIDE, BASE)
    apart = jo.chain(jo.width_scaled(jo.sgd(0.1), WIDE, BASE), jo.average_params(0.5))

    def run(opt, params):
        state, update = opt.init(params), jax.jit(opt.update)
        for g in GRADS:
            updates, state = update(g, state, params)
            params = jo.apply_updates(params, updates)
        return state, params

    close(tx.eval_params(*run(tx, WIDE)), jo.eval_params(*run(apart, WIDE)))


def test_muon_goes_by_the_ratio_of_the_sides():
    def of(rules, shape, base):
        (one,) = jo.width_factors({"w": jnp.ones(shape)}, {"w": jnp.ones(base)}, rules, roles={"w": "matrix"})
        return one.learning_rate

    assert of("muon", (64, 64), (16, 16)) == of("muon", (16, 64), (4, 8)) == 1  # its own sqrt(max(1, out / in)) does it
    assert of("muon", (64, 16), (16, 16)) == pytest.approx(0.5)
    assert of("muon_consistent_rms", (64, 64), (16, 16)) == pytest.approx(0.5)
    rates = {one.path: one.learning_rate for one in jo.width_factors(WIDE, BASE, "muon")}
    assert rates["embed"] == rates["head/kernel"] == rates["block_0/bias"] == 1


def test_heads_of_attention_are_one_side_and_layers_and_experts_are_no_width():
    def model(width, heads, layers, experts):
        return {"layers": {"attention": {
            "query": {"kernel": jnp.ones((layers, width, heads, 4))},
            "out": {"kernel": jnp.ones((layers, heads, 4, width))},
        }, "experts": {"kernel": jnp.ones((layers, experts, width, 2 * width))}}}  # fmt: skip

    found = jo.width_factors(model(64, 16, 3, 6), model(16, 4, 2, 2), stack_axes=1)
    assert [(one.kind, one.learning_rate) for one in found] == [("matrix", 1 / 4)] * 3


def test_explain_says_what_is_left_to_do():
    wide = {**WIDE, "block_0": {**WIDE["block_0"], "query": {"kernel": jnp.ones((16, 64))}}}
    base = {**BASE, "block_0": {**BASE["block_0"], "query": {"kernel": jnp.ones((4, 8))}}}
    table = jo.width_scaled(jo.adam(0.1), wide, base).explain()
    rows = {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.body}
    assert rows["head/kernel"]["to do: model"] == "output x 0.25"
    assert rows["block_0/kernel"]["to do: initial std"] == "x 0.5"
    assert rows["block_0/query/kernel"]["to do: model"] == "scores over d, not sqrt(d)"
    assert rows["block_1/kernel"]["learning rate"] == "x 0.125" and rows["block_1/kernel"]["weight decay"] == "x 8"


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jo.width_scaled(jo.adam(0.1), WIDE, BASE, "lamb"), jo.errors.HyperparameterError, "rules"),
        (lambda: jo.width_scaled(jo.adam(0.1), WIDE, {"embed": WIDE["embed"]}), jo.errors.TreeError, "base_params"),
        (lambda: jo.width_scaled(jo.lbfgs(), WIDE, BASE), jo.errors.TransformationError, "learning rate"),
        (lambda: jo.width_scaled(jo.adam, WIDE, BASE), jo.errors.TransformationError, "Call it"),
        (lambda: jo.width_factors({"w": jnp.ones((2, 2))}, {"w": jnp.ones(2)}), jo.errors.TreeError, "axes"),
        (
            lambda: jo.width_factors({"w": jnp.ones((2, 4, 8))}, {"w": jnp.ones((1, 2, 3))}),
            jo.errors.TreeError,
            "widths",
        ),
    ],
)
def test_what_is_wrong_is_said_when_made(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_another_tree_is_refused():
    tx = jo.width_scaled(jo.adam(0.1), WIDE, BASE)
    with pytest.raises(jo.errors.TreeError, match="params"):
        tx.init({"other": jnp.ones(3)})


# ---- activations ----------------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32)
BATCH = (X, np.argmax(X[:, :3], axis=1))


def net(width, key, base):
    """Parameters; base: of muP, None: of the standard parametrization. The head begins at 0."""
    a, b, c = jax.random.split(key, 3)
    return {
        "inputs": {"kernel": jax.random.normal(a, (8, width)) / 8**0.5},
        "block_0": {"kernel": jax.random.normal(b, (width, width)) / width**0.5},
        "head": {"kernel": jax.random.normal(c, (width, 3)) * (0.0 if base else width**-0.5)},
    }


ADAM = jo.adam(0.01)


def checked(base, opt=ADAM, rules="adam", widths=(64, 128, 256)):
    def make(width, key):
        params, own = net(width, key, base), opt
        if base:
            own = jo.width_scaled(opt, params, jax.eval_shape(lambda key: net(base, key, base), key), rules)

        def loss_fn(params, batch):
            x, y = batch
            h = jax.nn.relu(x @ params["inputs"]["kernel"])
            k = jax.nn.relu(h @ params["block_0"]["kernel"])
            logits = k @ params["head"]["kernel"] * (base / width if base else 1)
            return jnp.mean(jo.losses.softmax_cross_entropy_with_integer_labels(logits, y)), {
                "h": h,
                "k": k,
                "logits": logits,
            }

        return params, own, loss_fn

    return jo.coordinate_check(make, widths, BATCH, steps=3)


def test_a_perceptron_passes_under_mup():
    found = checked(64)
    assert found.passed, found
    assert all(abs(slope[-1]) < 0.1 for slope in found.slopes.values())
    assert all(abs(slope[-1]) < 0.25 for slope in found.change_slopes.values())
    assert "passed" in str(found).splitlines()[0] and len(found.table().body) == 3
    told = json.loads(json.dumps(found.as_dict()))
    assert told["passed"] is True and np.shape(told["sizes"]["h"]) == (3, 4) and np.shape(told["losses"]) == (3, 4)


def test_muon_with_steps_of_one_size_passes():
    matrix = jo.MuonDimensionNumbers()
    numbers = {"inputs": {"kernel": None}, "block_0": {"kernel": matrix}, "head": {"kernel": None}}
    opt = jo.muon(0.03, consistent_rms=0.2, rest=jo.adam(0.01), muon_weight_dimension_numbers=numbers)
    assert checked(64, opt, "muon_consistent_rms", (64, 256)).passed
    assert abs(checked(64, opt, "muon", (64, 256)).change_slopes["k"][-1]) > 0.25


def test_a_perceptron_fails_under_the_standard_parametrization():
    found = checked(None)
    assert not found.passed
    assert "grows" in found.faults()["logits"] and "NOT passed" in str(found)
    assert found.slopes["logits"][-1] > 0.3 and found.change_slopes["k"][-1] > 0.25


def linear(power, activations=lambda width, x: {"x": x}):
    def make(width, key):
        def loss_fn(w, x):
            y = w * x * width**power
            return jnp.sum(y**2), activations(width, y)

        return jnp.float32(1.0), jo.sgd(0.0), loss_fn

    return make


def test_a_power_of_the_width_is_the_slope():
    found = jo.coordinate_check(linear(0.5), (4, 16), jnp.ones(2), steps=1, seeds=1)
    assert found.slopes["x"] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert math.isnan(found.change_slopes["x"][-1]) and "zero" in found.faults()["x"]


@pytest.mark.parametrize(
    ("make", "widths", "error", "words"),
    [
        (linear(0), (8,), jo.errors.HyperparameterError, "two or more"),
        (linear(0), (16, 8), jo.errors.HyperparameterError, "narrow to wide"),
        (linear(0), (8.0, 16.0), jo.errors.HyperparameterTypeError, "integers"),
        (lambda width, key: jnp.ones(2), (8, 16), jo.errors.TransformationError, "make must return"),
        (linear(0, lambda width, x: {}), (8, 16), jo.errors.TransformationError, "activations"),
        (linear(0, lambda width, x: {str(width): x}), (8, 16), jo.errors.TreeError, "same activations"),
    ],
)
def test_a_check_that_cannot_run_says_why(make, widths, error, words):
    with pytest.raises(error, match=words):
        jo.coordinate_check(make, widths, jnp.ones(2), steps=1, seeds=1)


def test_what_the_page_says_of_the_best_rate_is_in_the_results():
    root = Path(__file__).parents[1]
    found = json.loads((root / "examples/benchmarks/results/width_transfer.json").read_text(encoding="utf-8"))
    assert found["coordinate_checks"]["muP"]["passed"] and not found["coordinate_checks"]["standard"]["passed"]
    best = {name: [] for name in found["shifts"]}
    for row in found["rows"]:
        losses = np.array(row["losses"])
        assert found["rates"][np.nanargmin(losses)] == row["best_rate"]
        best[row["parametrization"]].append(row["best_rate"])
    assert max(best["muP"]) <= 2 * min(best["muP"])
    page = (root / "docs/pages/howto/width.md").read_text(encoding="utf-8")
    falls = best["standard"][0] / best["standard"][-1]
    assert f"{falls:.0f} times lower at width 512 than at 64" in page and "the same at all four" in page
    assert len(set(best["muP"])) == 1


def test_the_same_names_are_in_the_loop():
    for name in ("width_scaled", "width_factors", "coordinate_check", "CoordinateCheck"):
        assert getattr(jo.loop, name) is getattr(jo, name)
