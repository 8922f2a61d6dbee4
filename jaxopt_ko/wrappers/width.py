"""Learning rates that hold for every width: tune a narrow model, train the wide one. Maximal update parametrization.

Yang & Hu et al. 2022, arXiv:2203.03466, Tables 3 and 8; per leaf as their package mup 1.0.0. Muon's rule: the spectral
condition, Yang, Simon & Bernstein 2023, arXiv:2310.17813. Adam's eps: Dey et al. 2025, arXiv:2505.01618, equation 40.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import structure_mismatch
from jaxopt_ko.core.evaluation import eval_params
from jaxopt_ko.core.method import Method, Update, method_of, name_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.core.tables import Table
from jaxopt_ko.core.tree_fields import is_any
from jaxopt_ko.errors import TransformationError, TreeError, say
from jaxopt_ko.optimizers.matrix.roles import MATRICES, Leaf, check_roles, roles_of
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, PyTree, State, Updates

RULES = ("adam", "sgd", "muon", "muon_consistent_rms")
Base = PyTree | Callable[[Params], PyTree]


class WidthFactor(NamedTuple):
    """What a leaf is multiplied by, against the base model."""

    path: str  # "blocks/0/attention/query/kernel"
    shape: tuple[int, ...]
    base_shape: tuple[int, ...]
    role: str | None  # of `roles_of`
    kind: str  # "matrix": both sides grow; "input", "output", "vector": one; "scalar": none
    width: float  # of the side that is summed over, or else of the one that grows: so many times the base model's
    learning_rate: float  # the method's is multiplied by it
    weight_decay: float  # and its weight decay by 1 / learning_rate, so that their product is the base model's
    eps: float  # Adam's eps, if it is to follow the gradients
    init_std: float  # the initialization's standard deviation, against the base model's
    multiplier: float  # what the model multiplies this leaf's product by: the logits, by 1 / width


@options
def width_factors(
    params: Params,
    base_params: PyTree,
    rules: str = "adam",
    *,
    delta_params: PyTree = None,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    stack_axes: PyTree = 0,
) -> list[WidthFactor]:
    """What each leaf's learning rate, decay, eps and initialization are multiplied by when a model grows wider.

    m_in, m_out = how many times wider than in the base model a leaf's two sides are

                 both grow      inputs grow    outputs grow, vectors    neither
    adam         1 / m_in       1              1                        1
    sgd          m_out / m_in   m_in           m_out                    1
    muon         sqrt(min(1, out / in)) against the base model's, for its matrices; else as adam
    initial std  m_in**-1/2     1              1                        1
    multiplier   1              1 / m_in       1                        1

    params: the wide model's parameters, or their shapes.
    base_params: the narrow model's, a tree of the same structure; shapes will do: jax.eval_shape(init, key).
    rules: "adam", for what divides gradients by their size; "sgd", with or without momentum; "muon", for its matrices
        (roles matrix, qkv, experts, convolution), "adam" for the rest; "muon_consistent_rms", if its steps have Liu's
        scale in the place of Jordan's: sqrt(m_out / (m_in max(m_in, m_out))) on square matrices.
    delta_params: shapes of a third model, which differs from the base model in every width; None: params do. A size
        that is the same in both is no width: its matrices are inputs or outputs.
    roles: a dict, regular expression of a path -> role or `MatrixAxes`, where the guess of `roles_of` is wrong: the
        role says which axes are summed over. None: all are guessed.
    stack_axes: how many leading axes count layers of one shape, an integer or a tree of them: depth is no width.

    Returns a list of WidthFactor(path, shape, base_shape, role, kind, width, learning_rate, weight_decay, eps,
    init_std, multiplier), one for each leaf in the tree's order.
    Raises HyperparameterError for other rules; TreeError for a base of another structure, or with other axes, or for a
        leaf with three widths that no role reads as a matrix.
    Source: Yang & Hu et al. 2022, arXiv:2203.03466, Table 8; mup 1.0.0 has the same factors.
    Not for depth: Dey et al. 2025, arXiv:2505.01618, keep all rates and multiply residual branches by 1 / depth.

    >>> wide, narrow = ({"w": jax.ShapeDtypeStruct((n, n), "float32")} for n in (256, 64))
    >>> factors = jo.width_factors(wide, narrow, roles={"w": "matrix"})
    >>> factors[0].kind, factors[0].learning_rate
    ('matrix', 0.25)
    """
    name = "width_factors"
    _check_rules(name, rules)
    check_roles(name, roles)
    return _factors(name, params, base_params, delta_params, rules, roles, stack_axes)


class WidthScaled(GradientTransformationExtraArgs):
    """A transformation that can say what it does to which leaf, and what is left to the model."""

    def __new__(  # noqa: D102
        cls, init: Any, update: Any, explain: Callable[..., Table], eval_params: Callable[[State, Params], Params]
    ) -> WidthScaled:
        self = super().__new__(cls, init, update)
        self.explain, self.eval_params = explain, eval_params
        return self

    explain: Callable[..., Table]  # (params=None) -> the table
    eval_params: Callable[[State, Params], Params]  # jaxopt_ko.eval_params, for averages that tx keeps of p / f


jax.tree_util.register_pytree_node(
    WidthScaled,
    lambda scaled: ((*scaled, scaled.explain, scaled.eval_params), None),
    lambda _, parts: WidthScaled(*parts),
)


@options
def width_scaled(
    tx: GradientTransformation,
    params: Params,
    base_params: Base,
    rules: str = "adam",
    *,
    delta_params: PyTree = None,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    stack_axes: PyTree = 0,
    scale_eps: bool = False,
) -> WidthScaled:
    """A method tuned on a narrow model, for a wider one: its learning rate times the `width_factors` of each leaf.

    u = f s(g, p / f),   s the step of tx, f the leaf's factor

    tx: an optimizer, with the learning rate that was best for the narrow model.
    params: the wide model's parameters, or their shapes; None: those that init and update get.
    base_params: the narrow model's, a tree of the same structure; shapes will do: jax.eval_shape(init, key). Or a
        function of params that makes them.
    rules: "adam", for what divides gradients by their size; "sgd", with or without momentum; "muon", for its matrices,
        "adam" for its rest; "muon_consistent_rms": see `width_factors`.
    delta_params: shapes of a third model, which differs from the base model in every width; None: params do.
    roles: a dict, regular expression of a path -> role or `MatrixAxes`, where the guess of `roles_of` is wrong; None:
        all are guessed.
    stack_axes: how many leading axes count layers of one shape, an integer or a tree of them.
    scale_eps: divide Adam's eps by the width, too, as the gradients fall with it: tx sees them times the width. Put
        clipping by a norm before this transformation then, not into tx. False, as in mup: 1e-8 is small enough but for
        the widest models.

    Weight decay: tx reads its parameters as p / f, so the decay lr lambda p keeps the rate of tx, unscaled, whether
    tx adds lambda p behind its rule (`adamw`, `muon`) or to its gradients (`sgd` behind `add_decayed_weights`): mup
    divides its weight decay by the factor likewise. What tx divides by the length of the parameters (`lamb`, `lars`)
    is as it was, which is right for these.

    Returns a transformation with two functions more: opt.explain(), a table of the factors, and of what is not done
    here: the initialization's standard deviation, the multiplier 1 / width before the logits (of an embedding that is
    the head, too), attention's scores divided by the size of a head and not by its root. Without these a rate does not
    transfer; `coordinate_check` tells. State: that of tx; parameters within it (averages) are p / f, and
    opt.eval_params(state, params) is the average of p.

    Raises HyperparameterError for other rules; TransformationError if tx is no transformation, or a solver, whose line
    search would read other parameters; TreeError for a base of another structure.
    Source: Yang & Hu et al. 2022, arXiv:2203.03466, Tables 3 and 8. Not around `schedule_free`, `sam` or `lookahead`,
    which evaluate elsewhere than at the parameters: put it into them.

    >>> wide, narrow = ({"w": jnp.ones((n, n)), "head": jnp.ones((n, 3))} for n in (256, 64))
    >>> opt = jo.width_scaled(jo.adamw(1e-3), wide, narrow, roles={"w": "matrix"})
    >>> state = opt.init(wide)
    >>> table = opt.explain()
    """
    name = "width_scaled"
    _check_rules(name, rules)
    check_roles(name, roles)
    pair = as_transformation(name, "tx", tx)
    if method_of(pair).solver:
        _a_solver(name, name_of(pair))
    function = base_params if jax.tree_util.all_leaves([base_params]) and callable(base_params) else None

    def factors_of(full: PyTree) -> list[WidthFactor]:
        base = base_params if function is None else function(full)
        return _factors(name, full, base, delta_params, rules, roles, stack_axes)

    told = None if params is None else factors_of(params)

    def scales(full: PyTree) -> tuple[list[float], list[float]]:
        """(f, 1 / eps's factor) of each leaf of params, or of gradients, where leaves may be None."""
        found = factors_of(full) if told is None else told
        if len(found) != tree.structure(full).num_leaves:
            structure_mismatch(name, "params or gradients", full, "params that the transformation was made for", params)
        return [one.learning_rate for one in found], [1 / one.eps if scale_eps else 1.0 for one in found]

    def init(full: Params, **problem: Any) -> State:
        if is_any(full):
            return pair.init(full, **problem)
        rates, _ = scales(full)
        return pair.init(_times(full, [1 / f for f in rates]), **problem)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        rates, gradients = scales(updates if params is None else params)
        divided = None if params is None else _times(params, [1 / f for f in rates])
        steps, new = pair.update(_times(updates, gradients, params), state, divided, **extra)
        return _times(steps, rates, params), new

    def table(params: Params = None) -> Table:
        if params is None and told is None:
            say(TreeError, f"{name}.explain", "params must be given, as the transformation was made without", "None",
                "Write opt.explain(params)")  # fmt: skip
        return _table(told if told is not None and params is None else factors_of(params), scale_eps)

    def evaluated(state: State, params: Params) -> Params:
        rates, _ = scales(params)
        return _times(eval_params(state, _times(params, [1 / f for f in rates])), rates)

    return WidthScaled(init, Update(update, Method(f"{name}({name_of(pair)})")), table, evaluated)


def _check_rules(name: str, rules: Any) -> None:
    errors.check_choice(name, "rules", rules, RULES)


def _a_solver(name: str, solver: str) -> NoReturn:
    say(TransformationError, name, f"tx must have a learning rate, and {solver} chooses its steps by values of a loss",
        do="Give an optimizer: adamw, sgd, muon")  # fmt: skip


def _times(full: PyTree, factors: Sequence[float], like: PyTree = None) -> PyTree:
    """Each leaf times its factor; 1 leaves it as it is. A leaf of `like` may be None in `full`."""
    leaves, treedef = tree.flatten(full, none_is_leaf=True)
    places = leaves if like is None else tree.flatten(like, none_is_leaf=True)[0]
    if len(places) != len(leaves):
        structure_mismatch("width_scaled", "gradients", full, "params", like)
    rest = iter(factors)
    own = [1.0 if p is None else next(rest) for p in places]
    return treedef.unflatten([x if x is None or f == 1 else _product(x, f) for x, f in zip(leaves, own, strict=True)])


def _product(x: Any, factor: float) -> Any:
    if isinstance(x, jax.ShapeDtypeStruct) or not jnp.issubdtype(tree.dtype_of(x), np.inexact):
        return x
    return x * factor


# ---- the factors ----------------------------------------------------------------------------------------


def _factors(
    name: str,
    params: Params,
    base: PyTree,
    delta: PyTree,
    rules: str,
    roles: Mapping[str, str | MatrixAxes] | None,
    stack_axes: PyTree,
) -> list[WidthFactor]:
    leaves = roles_of(params, roles, stack_axes=stack_axes)
    shapes = _shapes(name, "base_params", base, params)
    others = shapes if delta is None else _shapes(name, "delta_params", delta, params)
    return [
        _factor(name, leaf, own, leaf.shape if delta is None else other, rules)
        for leaf, own, other in zip(leaves, shapes, others, strict=True)
    ]


def _shapes(name: str, argument: str, other: PyTree, params: Params) -> list[tuple[int, ...]]:
    """The shapes of a tree like params."""
    if tree.structure(other) != tree.structure(params):
        structure_mismatch(name, argument, other, "params", params)
    return [tuple(np.shape(leaf)) for leaf in jax.tree.leaves(other)]


def _factor(name: str, leaf: Leaf, base: tuple[int, ...], delta: tuple[int, ...], rules: str) -> WidthFactor:
    if not len(leaf.shape) == len(base) == len(delta):
        say(TreeError, name, f"{leaf.path} must have as many axes in the base model", f"{leaf.shape} and {base}",
            "Make both by one function of the width")  # fmt: skip
    wide = [axis for axis in range(leaf.stacks, len(base)) if base[axis] != delta[axis]]
    inner, outer = _two_sides(name, leaf, wide)
    grown = [n / m if m else 1.0 for n, m in zip(leaf.shape, base, strict=True)]
    m_in, m_out = (math.prod(grown[axis] for axis in side if axis in wide) for side in (inner, outer))
    grows_in, grows_out = (any(axis in wide for axis in side) for side in (inner, outer))
    if grows_in and grows_out:
        kind, width = "matrix", m_in
    elif grows_in:
        kind, width = "output", m_in
    elif grows_out:
        kind, width = "input" if inner else "vector", m_out
    else:
        kind, width = "scalar", 1.0
    rate = _rate(leaf, base, kind, m_in, m_out, rules)
    eps = 1 / (m_in if kind == "output" else m_out)
    std, multiplier = m_in**-0.5 if kind == "matrix" else 1.0, 1 / m_in if kind == "output" else 1.0
    return WidthFactor(leaf.path, leaf.shape, base, leaf.role, kind, width, rate, 1 / rate, eps, std, multiplier)


def _rate(leaf: Leaf, base: tuple[int, ...], kind: str, m_in: float, m_out: float, rules: str) -> float:
    """Of the learning rate, against the base model's."""
    if rules == "sgd":
        return {"matrix": m_out / m_in, "output": m_in, "scalar": 1.0}.get(kind, m_out)
    if rules != "adam" and leaf.role in MATRICES and leaf.axes is not None:
        return _orthogonal(leaf.axes, leaf.shape, rules) / _orthogonal(leaf.axes, base, rules)
    return 1 / m_in if kind == "matrix" else 1.0


def _orthogonal(axes: MatrixAxes, shape: tuple[int, ...], rules: str) -> float:
    """sqrt(out / in), the spectral norm that a step wants, over the one that Muon gives it."""
    inputs, outputs = (max(side, 1) for side in axes.shape(shape)[1:])
    given = max(1.0, outputs / inputs) if rules == "muon" else max(inputs, outputs)
    return math.sqrt(outputs / inputs / given)


def _two_sides(name: str, leaf: Leaf, wide: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Axes that are summed over, and those of what comes out; a vector has outputs alone."""
    if leaf.axes is not None:
        return leaf.axes.rows, leaf.axes.columns
    own = tuple(range(leaf.stacks, len(leaf.shape)))
    if (leaf.role in ("norm", "bias") and len(wide) < 2) or len(own) < 2:
        return (), own
    if len(own) > 2 and len(wide) > 2:
        say(TreeError, name, f"the leaf {leaf.path} must have two widths at most", f"{leaf.shape}",
            "Say how it is a matrix, roles={path: MatrixAxes(rows, columns)}, or what is a stack")  # fmt: skip
    first, *rest = own
    if len(own) > 2 and len(wide) == 2:
        first, *rest = wide
    output_first = re.fullmatch(r"(\w*_)?weight(_\w+)?", leaf.path.rpartition("/")[2]) is not None
    if len(wide) < 2 and leaf.role == "embedding":
        output_first = False  # a table [tokens, width], whatever it is called
    return (tuple(rest), (first,)) if output_first else ((first,), tuple(rest))


# ---- what is said of them -------------------------------------------------------------------------------


def _table(factors: Sequence[WidthFactor], scale_eps: bool) -> Table:
    columns = ["leaf", "shape", "base", "role", "kind", "learning rate", "weight decay"]
    columns += ["eps"] * scale_eps + ["to do: initial std", "to do: model"]
    rows = []
    for one in factors:
        done = [one.learning_rate, one.weight_decay, *([one.eps] if scale_eps else [])]
        rows.append(
            (
                *(one.path, str(one.shape), str(one.base_shape), one.role or "?", one.kind),
                *(f"x {value:.4g}" for value in done),
                "" if one.init_std == 1 else f"x {one.init_std:.4g}",
                _of_the_model(one),
            )
        )
    return Table(tuple(columns), tuple(columns), tuple(rows))


_QUERY = re.compile(r"(^|[/_])(q|query|wq|q_proj|qkv|c_attn|in_proj|query_key_value)([/_]|$)", re.IGNORECASE)


def _of_the_model(one: WidthFactor) -> str:
    """What the model has to do with a leaf's product."""
    if one.multiplier != 1:
        return f"output x {one.multiplier:.4g}"
    if one.kind == "matrix" and (one.role == "qkv" or _QUERY.search(one.path)):
        return "scores over d, not sqrt(d)"
    if one.kind == "input" and one.role == "embedding" and one.width != 1:
        return f"output x {1 / one.width:.4g} if it is the head, too"
    return ""
