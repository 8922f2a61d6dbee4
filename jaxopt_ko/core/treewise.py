"""Transformations from a rule for all leaves at once, written as one for vectors: inner products, norms, estimates.

`treewise` is to whole trees what `leafwise` is to single arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_room, not_a_bool, shape_mismatch
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leaf_rule import Memory, initial_scalar, widen_scalar
from jaxopt_ko.core.numerics import inner, joint_length, scalar_dtype, zero_count
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import Domain
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, State, Updates

VectorStep = Any  # what a rule returns: the step, a Vector, then the new memory if there is one
Start = float | Callable[["Vector"], jax.Array]  # of a scalar in the state, from the parameters


class Vector:
    """All leaves of a tree taken as one vector, in float32 at least; scalars and other such vectors go with it."""

    def __init__(self, parts: Sequence[jax.Array], decaying: Vector | None = None) -> None:
        self.parts = tuple(parts)
        self.decaying = self if decaying is None else decaying  # of parameters: 0 where a mask says that none decay

    def _with(self, other: Any, operation: Callable[[Any, Any], Any]) -> Vector:
        if isinstance(other, Vector):
            return Vector([operation(x, y) for x, y in zip(self.parts, other.parts, strict=True)])
        return Vector([operation(x, other.astype(x.dtype) if hasattr(other, "astype") else other) for x in self.parts])

    def __add__(self, other: Any) -> Vector:
        return self._with(other, lambda x, y: x + y)

    def __sub__(self, other: Any) -> Vector:
        return self._with(other, lambda x, y: x - y)

    def __mul__(self, other: Any) -> Vector:
        return self._with(other, lambda x, y: x * y)

    def __truediv__(self, other: Any) -> Vector:
        return self._with(other, lambda x, y: x / y)

    def __rsub__(self, other: Any) -> Vector:
        return self._with(other, lambda x, y: y - x)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Vector:
        return Vector([-x for x in self.parts])

    def map(self, function: Callable[..., jax.Array], *others: Vector) -> Vector:
        """function(x, …) of every element."""
        return Vector([function(*xs) for xs in zip(self.parts, *(other.parts for other in others), strict=True)])

    def dot(self, other: Vector) -> jax.Array:
        """float[]: the inner product, real."""
        terms = [jnp.sum(inner(x, y)).astype(scalar_dtype()) for x, y in zip(self.parts, other.parts, strict=True)]
        return sum(terms, start=jnp.zeros((), scalar_dtype()))

    def norm(self) -> jax.Array:
        """float[]: the Euclidean length."""
        return joint_length(self.parts).astype(scalar_dtype())

    def sum_abs(self) -> jax.Array:
        """float[]: the sum of |x|."""
        terms = [jnp.sum(jnp.abs(x)).astype(scalar_dtype()) for x in self.parts]
        return sum(terms, start=jnp.zeros((), scalar_dtype()))


def treewise(
    name: str,
    state_type: type,
    *,
    rule: Callable[..., Any],
    init: Callable[[Any], Memory] = lambda p: (),
    hypers: Mapping[str, tuple[Hyper, Domain]] | None = None,
    scalars: Mapping[str, Start] | None = None,
    value: bool = False,
    needs_params: bool = True,
    dtypes: Mapping[str, DType | None] | None = None,
    debiased: Sequence[str] = (),
    counts: bool = False,
    squares: Sequence[str] = (),
    real: bool = False,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """A transformation from a rule for all leaves at once.

    state_type: a NamedTuple whose fields are `count`, if it counts, the scalars, and the trees that init makes the
        leaves of.
    init(p) -> memory of one leaf, a tuple in the order of the trees' fields.
    rule(g, p, *memory, h) -> (step, *memory): all fields of the state but `count`, in their order, each a Vector or a
        scalar. `p` is None unless `needs_params`.
    scalars: field -> its start, a number, a truth value or a function of the parameters; in float32 at least.
    value: h.value is the loss; MissingArgumentError where update is not given one.
    hypers, dtypes, debiased, counts, squares, real: as of `leafwise`.
    mask: which leaves `p.decaying` has, zeros elsewhere: a tree of booleans, a prefix of one, or a function of params.
    """
    for key, dtype in (dtypes or {}).items():
        errors.check_dtype(name, key, dtype)
    numbers = dict(scalars or {})
    fields = [key for key in state_type._fields if key != "count"]  # type: ignore[attr-defined]
    counted = len(fields) < len(state_type._fields)  # type: ignore[attr-defined]
    in_leaves = [key for key in fields if key not in numbers]

    def initial(params: Params) -> State:
        leaves, treedef = tree.flatten(params)
        memory = [init(leaf) for leaf in leaves]
        made = _first_scalars(numbers, params)
        trees = {key: treedef.unflatten([own[i] for own in memory]) for i, key in enumerate(in_leaves)}
        return state_type(**({"count": zero_count()} if counted else {}), **made, **trees)

    def update(
        updates: Updates, state: State, params: Params = None, *, h: Scalars, **extra: Any
    ) -> tuple[Updates, State]:
        h = h.also(**_loss(name, **extra)) if value else h
        leaves, treedef = tree.flatten(updates, none_is_leaf=True)
        present = [i for i, g in enumerate(leaves) if g is not None]
        columns = {key: tree.in_order(name, "state", getattr(state, key), updates, treedef) for key in in_leaves}
        _check_shapes(name, updates, present, leaves, columns)
        wide = [tree.compute_dtype(*(tree.dtype_of(c[i]) for c in (leaves, *columns.values()))) for i in present]

        def vector(column: Sequence[Any]) -> Vector:
            return Vector([jnp.asarray(column[i]).astype(dtype) for i, dtype in zip(present, wide, strict=True)])

        p = vector(tree.in_order(name, "params", params, updates, treedef)) if needs_params else None
        _check_params_room(name, updates, present, leaves, p)
        if p is not None and mask is not None:
            flags = _flags(name, mask, params)
            kept = zip(p.parts, present, strict=True)
            p.decaying = Vector([x if flags[i] else jnp.zeros_like(x) for x, i in kept])

        def stored(column: Sequence[Any], now: Vector) -> list[Any]:
            parts = dict(zip(present, now.parts, strict=True))
            return [parts[i].astype(tree.dtype_of(x)) if i in parts else x for i, x in enumerate(column)]

        memory: dict[str, Any] = {key: widen_scalar(jnp.real(getattr(state, key))) for key in numbers}
        memory |= {key: vector(column) for key, column in columns.items()}
        memory |= {key: memory[key].map(jnp.real) for key in squares}
        result = rule(vector(leaves), p, *(memory[key] for key in fields), h)
        u, *new = result if isinstance(result, tuple) else (result,)
        now = dict(zip(fields, new, strict=True))
        made = {key: jnp.asarray(now[key]).astype(getattr(state, key).dtype) for key in numbers}
        for key in in_leaves:
            if now[key] is not memory[key]:
                _check_memory_room(name, key, present, columns[key], now[key])
                columns[key] = stored(columns[key], now[key])
        trees = {key: treedef.unflatten(column) for key, column in columns.items()}
        after = state_type(**({"count": h.t} if counted else {}), **made, **trees)
        return treedef.unflatten(stored(leaves, u)), after

    return transform(
        name, initial, update, needs_params=needs_params, state_type=state_type, hypers=hypers or {},
        debiased=debiased, counts=counts, real=real,
    )  # fmt: skip


def _first_scalars(starts: Mapping[str, Start], params: Params) -> dict[str, jax.Array]:
    """The scalars of a state before the first step, truth values or numbers, in float32 at least."""
    everything, own = Vector([tree.wide_copy(leaf) for leaf in jax.tree.leaves(params)]), tree.scalar_dtype_like(params)
    made = {}
    for key, start in starts.items():
        x = start(everything) if callable(start) else start
        first = initial_scalar(x) if isinstance(x, bool) else widen_scalar(jnp.asarray(x))
        made[key] = first if first.dtype == bool else first.astype(own)
    return made


def _check_params_room(
    name: str, updates: Updates, present: Sequence[int], leaves: Sequence[Any], p: Vector | None
) -> None:
    """No parameter is real where its gradient is complex."""
    for i, x in zip(present, p.parts, strict=True) if p is not None else ():
        check_room(name, f"the params leaf {errors.path_of(updates, i, none_is_leaf=True)}", x, leaves[i])


def _check_memory_room(name: str, key: str, present: Sequence[int], column: Sequence[Any], now: Vector) -> None:
    """No field of the state is real where what it is to hold is complex."""
    for i, part in zip(present, now.parts, strict=True):
        check_room(name, f"the state's {key}", column[i], part)


def _flags(name: str, mask: MaskOrFn, params: Params) -> list[bool]:
    """What a mask says of each leaf, None leaves too."""
    said, parts, treedef = tree.flatten_by_prefix(name, "mask", mask, params)
    for i, (flag, part) in enumerate(zip(said, parts, strict=True)):
        if part is not None and not isinstance(flag, bool | np.bool_):
            not_a_bool(name, "mask", errors.path_of(treedef.unflatten(said), i, none_is_leaf=True), flag)
    both = zip(said, parts, strict=True)
    return [bool(flag) for flag, part in both for _ in tree.flatten(part, none_is_leaf=True)[0]]


def _loss(name: str, value: Any = None, **_: Any) -> dict[str, jax.Array]:
    """The loss that `update` was given, as the rule's `value`."""
    if value is None:
        errors.missing_argument(name, "value", "Call update(updates, state, params, value=loss)")
    return {"value": jnp.asarray(value).astype(scalar_dtype())}


def _check_shapes(
    name: str, updates: Updates, present: Sequence[int], leaves: Sequence[Any], columns: Mapping[str, Sequence[Any]]
) -> None:
    """Each field of the state has an array like each gradient that is there."""
    for key, column in columns.items():
        for i in present:
            if np.shape(column[i]) != np.shape(leaves[i]):
                path = errors.path_of(updates, i, none_is_leaf=True)
                shape_mismatch(name, "gradients", path, leaves[i], f"state ({key})", np.shape(column[i]))
