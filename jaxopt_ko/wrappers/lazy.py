"""Rows that were not looked up stay as they are: sparse updates of embeddings, as torch's SparseAdam makes them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.method import name_of, recipe
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.core.tree_fields import map_params
from jaxopt_ko.errors import HyperparameterTypeError, describe, say
from jaxopt_ko.optimizers.adam import scale_by_adam
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree, State, Updates


@options
def lazy_rows(inner: GradientTransformation, rows: PyTree = 1) -> GradientTransformation:
    """The steps of a transformation in rows that have a gradient; other rows, and what is remembered of them, stay.

    u_i = the step of inner in a row i of which an element of g_i is not 0;   else 0, and m_i, v_i, … stay as they were

    What is remembered of a leaf as a whole, a count or a factored row, goes on with each step: bias corrections are
    those of the count, as in torch and TensorFlow.

    inner: the transformation, ours or optax's.
    rows: how many leading axes of a leaf count its rows: 1 for tables [rows, size], 0 for leaves that are not looked up
        and step as a whole. An integer, which may be more than a leaf has axes, or a tree of integers.

    State: that of inner, and nothing more.
    Raises TransformationError, when made, if inner is none; HyperparameterError for rows that are none; TreeError, when
        traced, for a leaf with fewer axes than a tree says.
    Source: torch.optim.SparseAdam; LazyAdam of TensorFlow Addons.
    Not for speed: the gradient is a whole array, and every row is computed.

    >>> tx, table = jo.lazy_rows(jo.sgd(0.5, momentum=0.9)), jnp.ones((2, 2))
    >>> _, state = tx.update(jnp.ones((2, 2)), tx.init(table), table)
    >>> updates, state = tx.update(jnp.array([[2.0, 0.0], [0.0, 0.0]]), state, table)
    >>> jnp.any(updates != 0, axis=1).tolist()
    [True, False]
    """
    pair = as_transformation("lazy_rows", "inner", inner)
    for count in jax.tree.leaves(rows):
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            wrong = "rows must be an integer >= 0, or a tree of such"
            say(HyperparameterTypeError, "lazy_rows", wrong, describe(count), "Give 1 for tables [rows, size]")
    name = f"lazy_rows({name_of(pair)})"

    def init(params: Params, **problem: Any) -> State:
        if not isinstance(rows, int):
            tree.stacks(name, rows, params)
        return pair.init(params, **problem)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        counts = [rows] * len(leaves) if isinstance(rows, int) else tree.stacks(name, rows, updates, none_is_leaf=True)
        seen = [_seen(g, count) for g, count in zip(leaves, counts, strict=True)]
        u, new = pair.update(updates, state, params, **extra)
        check_same_trees(name_of(pair), "updates", u, "gradients", updates)
        steps = tree.in_order(name, "updates", u, updates, treedef)
        kept = [_of_seen(keep, x, 0 if x is None else jnp.zeros_like(x)) for keep, x in zip(seen, steps, strict=True)]
        whole = map_params(
            pair, lambda m, keep: m if tree.is_left_out(m) else keep, state, treedef.unflatten(seen),
            transform_non_params=lambda _: True, is_leaf=tree.is_left_out,
        )  # fmt: skip
        return treedef.unflatten(kept), jax.tree.map(_of_seen, whole, new, state)

    return transform(name, init, update, any_leaf=True)


def _seen(g: Any, rows: int) -> Any:
    """bool[rows, 1, …]: which rows have a gradient; True where all have."""
    if g is None or not rows or not tree.is_floating(g):
        return True
    return jnp.any(jnp.asarray(g) != 0, tuple(range(min(rows, jnp.ndim(g)), jnp.ndim(g))), keepdims=True)


def _of_seen(seen: Any, new: Any, old: Any) -> Any:
    """The new rows where they were seen, old ones elsewhere; what has not the shape of its leaf is new."""
    if seen is True or new is None:
        return new
    fits = jnp.ndim(new) == seen.ndim and all(a in (1, b) for a, b in zip(seen.shape, jnp.shape(new), strict=True))
    return jnp.where(seen, new, old) if fits else new


@recipe
def lazy_adam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    rows: PyTree = 1,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """`lazy_rows` around AdamW: for tables of which a batch looks up a few rows.

    m_i, v_i and p_i as in `adamw` in rows whose gradient is not all zero; other rows stay as they are, and do not decay

    Adam itself moves every row at every step, by what it remembers of it. Carried by PyTorch as SparseAdam, and by
    TensorFlow Addons.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients of a row.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares of a row.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, rows that are looked up shrink by this times the learning rate.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    rows: how many leading axes of a leaf count its rows, an integer or a tree of them, as of `lazy_rows`.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0. TreeError, when traced, for a leaf with fewer axes than a tree of rows says.
    Source: torch.optim.SparseAdam, whose steps it takes; the rule, Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1.
    Not for other layers, where a gradient of 0 says something: partition({"table": lazy_adam(…), "rest": adam(…)}, …).

    >>> opt = jo.lazy_adam(1e-3)
    >>> state = opt.init({"tokens": jnp.ones((5, 2))})
    """
    rule = scale_by_adam(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return lazy_rows(chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate)), rows)
