"""From a rule for one array to a transformation.

Leafwise rules in a row become one jitted function per distinct leaf, so that a thousand leaves of one shape are traced
and lowered once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.aligned_leaves import AlignedLeaves
from jaxopt_ko.core.checks import check_leaves, check_params, check_stack_axes, check_state_tuple
from jaxopt_ko.core.hyperparameters import HyperparameterReader, checked
from jaxopt_ko.core.leaf_function import leaf_function
from jaxopt_ko.core.leaf_rule import LeafRule, Memory, Step
from jaxopt_ko.core.method import Method, Update
from jaxopt_ko.core.numerics import scalar_dtype, unfolded
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import Domain
from jaxopt_ko.types import (
    DType,
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    Params,
    PyTree,
    State,
    Updates,
)

__all__ = ["LeafUpdate", "Memory", "Step", "leafwise"]

FEW = 16  # leaves whose kernels take each scalar as an operand of its own


class LeafUpdate(Update):
    """The update of leafwise rules in a row: one jitted call for each leaf.

    Its state is that of its one rule, or a tuple of its parts' states; parts nest as chains do.
    """

    def __init__(self, method: Method, parts: Sequence[LeafUpdate], rule: LeafRule | None = None) -> None:
        self.method, self.parts, self.rule = method, tuple(parts), rule
        self.rules: tuple[LeafRule, ...] = tuple(q for part in parts for q in part.rules)
        if rule is not None:
            self.rules = (rule,)
        self.beside = bool(self.rules) and all(q.beside for q in self.rules)
        self._expected: dict[Any, Any] = {}  # (rule, shape, stack) -> the shapes of what such a leaf remembers

    def with_record(self, method: Method) -> LeafUpdate:
        """The same rules with another record."""
        return LeafUpdate(method, self.parts, self.rule)

    @functools.cached_property
    def leaf(self) -> Callable[..., Any]:
        """All rules on one leaf, compiled."""
        keyed = tuple((q.name, q.keyed, tuple(field in q.squares for field in q.fields)) for q in self.rules)
        return leaf_function(keyed)  # type: ignore[no-any-return]

    def __call__(self, updates: Updates, state: State, params: Params = None, **_: Any) -> tuple[Updates, State]:
        """One step of every rule in turn."""
        states = self._split(state)
        if not self.rules:
            return updates, state
        for rule in self.rules:
            if rule.needs_params:
                check_params(rule.name, updates, params)
        opened = [rule.open(own) for rule, own in zip(self.rules, states, strict=True)]
        owned = zip(self.rules, opened, strict=True)
        fields = [getattr(inner, field) for rule, (_, _, inner) in owned for field in rule.fields]
        given, needs_params = updates, any(q.needs_params for q in self.rules)
        if self.beside and fields:
            updates, params = (None if x is None else tree.left_out_as(x, fields[0]) for x in (updates, params))
        for rule in self.rules:
            if rule.real:
                check_leaves(rule.name, "gradients", updates)
        aligned = AlignedLeaves(self.method.name, updates, params, fields, needs_params)
        traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves((updates, state)))
        begun = [rule.begin(updates, *own, traced) for rule, own in zip(self.rules, opened, strict=True)]
        names = tuple(one.names for one in begun)
        varying = [one.shared[key] for one in begun for key, value in one.names if value is None]
        table: Any = tuple(value.astype(scalar_dtype()) for value in varying) or None
        if varying:  # of many leaves: one operand of each leaf's call, and of each kernel, instead of one per scalar
            table = unfolded(table) if traced and len(aligned.g) <= FEW else _table(*table)
        stacks = [tree.stacks(q.name, q.stack_axes, updates, aligned.sparse) for q in self.rules]
        exact = tuple(one.exact for one in begun)
        aligned.run(functools.partial(self.leaf, table, exact, names=names), needs_params, stacks, self._stranger)
        columns = iter(aligned.columns())
        u = tree.put_back(aligned.updates(), given) if self.beside else aligned.updates()
        return u, self._join(one.end(columns) for one in begun)

    def _stranger(self, g: Any, memory: Memory, stacks: Sequence[int]) -> tuple[str, Memory] | None:
        """The rule whose memory was made for another leaf, and that memory."""
        shape, rest = np.shape(g), memory
        if all(getattr(m, "shape", None) == shape for m in memory):
            return None
        for index, (rule, stack) in enumerate(zip(self.rules, stacks, strict=True)):
            mine, rest = rest[: rule.width], rest[rule.width :]
            key = index, shape, stack
            if key not in self._expected:
                leaf = tree.abstract(shape, tree.dtype_of(g))
                self._expected[key] = _shapes(jax.eval_shape(lambda q=rule, k=stack, leaf=leaf: q.memory(leaf, k)))
            if _shapes(mine) != self._expected[key]:
                return rule.name, mine
        return None

    def _split(self, state: State) -> list[State]:
        """The states of the rules, in order."""
        if self.rule is not None:
            return [state]
        states = check_state_tuple(self.method.name, state, [part.method.name for part in self.parts])
        return [s for part, own in zip(self.parts, states, strict=True) for s in part._split(own)]

    def _join(self, states: Iterator[State]) -> State:
        return next(states) if self.rule is not None else tuple(part._join(states) for part in self.parts)


jax.tree_util.register_pytree_node(
    LeafUpdate,
    lambda update: ((update.method, update.parts, update.rule), None),
    lambda _, parts: LeafUpdate(*parts),
)


def _shapes(memory: Memory) -> tuple[Any, list[tuple[int, ...]]]:
    leaves, treedef = jax.tree.flatten(memory)
    return treedef, [np.shape(leaf) for leaf in leaves]


@jax.jit
def _table(*scalars: jax.Array) -> jax.Array:
    table: jax.Array = unfolded(jnp.stack(scalars))
    return table


@options
def leafwise(
    name: str,
    state_type: type,
    *,
    rule: Callable[..., Any],
    init: Callable[[Any], Memory] = lambda p: (),
    hypers: Mapping[str, tuple[Hyper, Domain]] | None = None,
    shared: Callable[..., Mapping[str, jax.Array]] | None = None,
    reduce: Callable[..., Mapping[str, jax.Array]] | None = None,
    scalars: Mapping[str, float] | None = None,
    dtypes: Mapping[str, DType | None] | None = None,
    needs_params: bool = False,
    stack_axes: PyTree = 0,
    own: str | None = "count",
    debiased: Sequence[str] = (),
    counts: bool = False,
    alone: type | None = None,
    beside: bool = False,
    squares: Sequence[str] = (),
    real: bool = False,
) -> GradientTransformation:
    """A transformation from a rule for one array.

    name: who speaks, in error messages.
    state_type: a NamedTuple whose fields are, beside the count `own` if it has one, the `scalars` and then one tree for
        each array of memory. EmptyState for a rule without memory.
    rule: rule(g, p, *memory, h) -> (step, *memory), in float32 at least; stored in the memory's own dtypes. `p` is None
        unless `needs_params`. A rule that closes over arrays is compiled for itself alone: what varies comes through
        hypers.
    init: init(p) -> memory of one leaf, a tuple in the order of the fields: arrays of any shape, or nests of them.
    hypers: name -> (number, array or schedule; its domain), checked now and handed on as h.name at each step.
    shared: shared(t, h) -> more scalars for h, made once a step; t = 1, 2, … is its number, None if nothing counts.
        h.gathered gives what bias correction divides by.
    reduce: reduce(updates, h) -> more scalars that depend on all leaves together, a norm say.
    scalars: state that is one number for all leaves, with its start, a float, an int or a bool; `shared` gets it as
        it is and returns its new value by name.
        Numbers that the leaves share are in the rule's dtype; integers, truth values and PRNG keys stay what they are.
    dtypes: arguments that name the dtype of some memory, to be checked now.
    needs_params: must params be given?
    stack_axes: how many leading axes of a leaf count leaves of one shape, as for a scan over layers: an integer, or
        integers in a prefix of the params' tree. init and rule see one of those leaves.
    own: the field of the state that counts its steps, if it has it.
    debiased: hypers that are decays of means which are divided by the weight that they have gathered.
    counts: does the rule need the number of the step, whatever its state has?
    alone: the class of a state with a count alone, where a schedule is all that there is to keep.
    beside: leaves that cannot be trained, integers and PRNG keys, are left out: it stands beside an optimizer, which
        says whether it minds.
    squares: the fields that hold lengths or squares: real numbers, which the rule gets as such, also where they are
        kept in a complex leaf's dtype.
    real: complex leaves are refused. Else a rule gets them as they are: real and complex numbers may meet in it, and
        `numerics.inner` and `abs_sq` are the products to square with.

    Returns a GradientTransformation; its state is what init makes of each leaf, and the count and scalars.
    Raises, when made: HyperparameterError. When traced: what `transform` says.
    Not for rules that need all leaves as one vector (`core.treewise.treewise`) or stacks of matrices
    (`core.matrixwise.matrixwise`).

    >>> rule = lambda g, p, h: (h.factor * g,)
    >>> opt = jo.leafwise("times", jo.EmptyState, rule=rule, hypers={"factor": (2.0, jo.errors.FINITE)})
    >>> opt.update(jnp.array([1.0, 3.0]), opt.init(jnp.zeros(2)))[0].tolist()
    [2.0, 6.0]
    """
    for key, dtype in (dtypes or {}).items():
        errors.check_dtype(name, key, dtype)
    check_stack_axes(name, stack_axes)
    counted = own if own is not None and own in state_type._fields else None  # type: ignore[attr-defined]
    reader = HyperparameterReader(name, checked(name, hypers), counted, debiased, 0, counts, alone)
    whole = (scalars or {}, shared, reduce, needs_params, stack_axes, beside, tuple(squares), real)
    leaf_rule = LeafRule(name, state_type, init, rule, reader, *whole)

    def init_state(params: Params, **_: Any) -> State:
        return leaf_rule.init_state(params)

    return GradientTransformationExtraArgs(init_state, LeafUpdate(Method(name), (), leaf_rule))
