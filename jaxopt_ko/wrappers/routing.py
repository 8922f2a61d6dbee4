"""Each leaf to the method for what it is: by role, path and shape, with a learning rate and a decay for each group."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.compose.groups import common_landing, partition
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import shape_mismatch, structure_mismatch
from jaxopt_ko.core.evaluation import eval_params
from jaxopt_ko.core.method import Method, Update, name_of, required, takes
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.stacking import MatrixAxes, leaf_of, matrices_of
from jaxopt_ko.core.tables import Table
from jaxopt_ko.core.tree_fields import is_any
from jaxopt_ko.errors import HyperparameterTypeError, TransformationError, TreeError, describe, say
from jaxopt_ko.optimizers.matrix.roles import ROLES, Leaf, check_roles, roles_of
from jaxopt_ko.types import (
    GradientTransformation,
    GradientTransformationExtraArgs,
    Hyper,
    Params,
    PyTree,
    State,
    Updates,
)
from jaxopt_ko.wrappers.checks import check_instance

Shape = tuple[int | None, ...]


class _Group(NamedTuple):
    """The fields of a `Group`, in the order in which it takes them."""

    name: str
    method: Callable[..., GradientTransformation] | GradientTransformation  # muon, partial(muon, beta=0.9), sgd(0.1)
    learning_rate: Hyper | None = None  # for a method that is a function, as weight_decay is
    weight_decay: Hyper | None = None
    role: str | Sequence[str] = ()  # one of ROLES, or several
    path: str | None = None  # a regular expression, found somewhere in "blocks/0/attention/query/kernel"
    shape: Shape | Callable[[tuple[int, ...]], bool] | None = None  # (None, 512): None is any size


class Group(_Group):
    """The leaves of one method: those that fit role, path and shape, where these are given.

    Group("hidden", partial(muon, beta=0.9), 0.02, 0.1, role="matrix"). method: a function that makes a transformation
    of the learning rate and, if one is given, the weight decay; or a finished transformation without either. role: one
    of ROLES or several; path: a regular expression, found somewhere in "blocks/0/attention/query/kernel"; shape: a
    tuple, None for any size, or a function of the shape.

    Raises, when made, HyperparameterError for another kind of argument, TransformationError for a method that cannot be
    made of what is given.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Group:  # noqa: D102
        self = super().__new__(cls, *args, **kwargs)
        _check_group("Group", self.name, self.method, self.role, self.shape)
        name = f"Group({self.name!r})"
        for role in self.roles:
            errors.check_choice("Group", f"the role of group {self.name!r}", role, tuple(ROLES))
        if self.path is not None:
            errors.check_pattern(name, self.path, "path")
        given = self.given
        for argument, value in given.items():
            errors.check_hyper(name, argument, value, errors.NONNEGATIVE)
        if self.factory is None:
            errors.check_pair(name, "method", self.method, lands=True)
            if given:
                _not_for_finished(name, "it", tuple(given))
            return self
        if stray := [argument for argument in given if not takes(self.factory, argument)]:
            _not_taken(name, "it", _method(self), stray)
        return self

    @classmethod
    def _make(cls, iterable: Iterable[Any]) -> Group:  # type: ignore[override]
        return cls(*iterable)  # so that _replace is looked at, too

    @property
    def given(self) -> dict[str, Hyper]:
        """What is set for its method."""
        words = {"learning_rate": self.learning_rate, "weight_decay": self.weight_decay}
        return {name: value for name, value in words.items() if value is not None}

    @property
    def roles(self) -> tuple[str, ...]:
        """Those it takes, all if none."""
        return (self.role,) if isinstance(self.role, str) else tuple(self.role)

    def takes(self, leaf: Leaf) -> bool:
        """Does it want this leaf?"""
        if callable(self.shape):
            fits = self.shape(leaf.shape)
        else:
            fits = self.shape is None or (
                len(self.shape) == len(leaf.shape)
                and all(a in (None, b) for a, b in zip(self.shape, leaf.shape, strict=True))
            )
        return (
            bool(fits)
            and (not self.roles or leaf.role in self.roles)
            and (self.path is None or re.search(self.path, leaf.path) is not None)
        )

    @property
    def factory(self) -> Callable[..., GradientTransformation] | None:
        """The method, unless it is a transformation already."""
        return None if isinstance(self.method, tuple) or hasattr(self.method, "init") else self.method

    @property
    def of_stacks(self) -> bool:
        """Is it a function that wants to know of stacks? Then its leaves are shown to it as [N, m, n] or [N, …]."""
        return self.factory is not None and takes(self.factory, "stack_axes")


def _check_group(name: str, argument: Any, method: Any, role: Any, shape: Any) -> None:
    """What a group of leaves is called, what makes its transformation, and which leaves it takes."""
    if not isinstance(argument, str) or not argument:
        say(HyperparameterTypeError, name, "name must be a string, and not an empty one", describe(argument))
    pair = callable(getattr(method, "init", None)) or (isinstance(method, tuple) and len(method) == 2)
    if not pair and not callable(method):
        say(TransformationError, name, "method must be a function that makes a transformation, or a transformation",
            describe(method), "Give muon, functools.partial(muon, beta=0.9), or sgd(0.1)")  # fmt: skip
    if not isinstance(role, str) and not (
        isinstance(role, Sequence | set | frozenset) and all(isinstance(one, str) for one in role)
    ):
        say(HyperparameterTypeError, name, "role must be a string or several of them", describe(role),
            'Give role="matrix" or role=("norm", "bias")')  # fmt: skip
    sizes = shape if isinstance(shape, tuple | list) else None
    if shape is None or callable(shape):
        return
    if sizes is None or not all(
        n is None or (isinstance(n, int | np.integer) and not isinstance(n, bool) and n >= 0) for n in sizes
    ):
        say(HyperparameterTypeError, name, "shape must be a tuple of sizes, None for any, or a function of a shape",
            describe(shape), "Give shape=(None, 512), or shape=lambda shape: len(shape) == 2")  # fmt: skip


def _not_for_finished(name: str, where: str, names: Sequence[str]) -> NoReturn:
    """Settings for a transformation that has its own."""
    say(TransformationError, name, f"{where} has a finished transformation, which takes no {' or '.join(names)}",
        do="Give the function that makes it: muon, or functools.partial(muon, beta=0.9)")  # fmt: skip


def _not_taken(name: str, where: str, method: str, names: Sequence[str]) -> NoReturn:
    """Settings that the function has no argument for."""
    say(TransformationError, name, f"{where} has the method {method}, which takes no {' or '.join(names)}")


# A tree to JAX; what it was made of has been looked at.
jax.tree_util.register_pytree_node(Group, lambda group: (group, None), lambda _, parts: tuple.__new__(Group, parts))


class Routed(GradientTransformationExtraArgs):
    """A transformation that can say which leaf goes where."""

    def __new__(  # noqa: D102
        cls, init: Any, update: Any, explain: Callable[[Params], Table], eval_params: Callable[[State, Params], Params]
    ) -> Routed:
        self = super().__new__(cls, init, update)
        self.explain, self.eval_params = explain, eval_params
        return self

    explain: Callable[[Params], Table]
    eval_params: Callable[[State, Params], Params]  # jaxopt_ko.eval_params, for leaves that are shown as stacks, too


jax.tree_util.register_pytree_node(
    Routed,
    lambda routed: ((*routed, routed.explain, routed.eval_params), None),
    lambda _, parts: Routed(*parts),
)


@options
def route(*groups: Group, roles: Mapping[str, str | MatrixAxes] | None = None, stack_axes: PyTree = 0) -> Routed:
    """Every leaf to the one group that takes it: a partition by role, path and shape.

    u = the step of the one group whose role, path and shape fit the leaf

    groups: `Group`s, one at least, of different names: each says which leaves it takes and how they are trained.
    roles: a dict, regular expression of a path -> role or `MatrixAxes`, where the guess of `roles_of` is wrong; None:
        all are guessed. Look at the table of `explain` before you trust it.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them, as for a scan over
        layers.

    Returns a transformation with two functions more: opt.explain(params), a table of what goes where, and
    opt.eval_params(state, params). State: that of `partition`. A method that takes stack_axes sees matrices as [N, m,
    n]: kernels of convolutions and of heads joined, query, key and value apart, experts and layers stacked, whatever
    axis comes first. Others see the leaves as they are. Averages that such methods keep are of what they see.

    Raises HyperparameterError, TransformationError when made; TreeError, when traced, for a leaf of no group or of two.
    Not for groups that no rule tells apart: give `partition` the labels.

    >>> hidden = jo.Group("hidden", jo.muon, 0.02, 0.1, role=("matrix", "qkv", "experts", "convolution"))
    >>> tables = jo.Group("tables", jo.adamw, 3e-3, 0.0, role=("embedding", "head"))
    >>> vectors = jo.Group("vectors", jo.adamw, 3e-3, role=("norm", "bias"))
    >>> opt = jo.route(hidden, tables, vectors)
    """
    name = "route"
    _check_groups(name, groups, Group)
    check_roles(name, roles)
    pairs: dict[Hashable, GradientTransformation] = {group.name: _made(name, group) for group in groups}
    stacked = tuple(group.name for group in groups if group.of_stacks)

    def read(full: PyTree) -> tuple[list[Leaf], list[str]]:
        """The leaves and the groups that take them."""
        leaves = roles_of(full, roles, stack_axes=stack_axes)
        owners = [[group.name for group in groups if group.takes(leaf)] for leaf in leaves]
        wrong = [(*leaf[:3], names) for leaf, names in zip(leaves, owners, strict=True) if len(names) != 1]
        if wrong:
            _astray(name, wrong)
        return leaves, [owner for (owner,) in owners]

    def dealt(full: PyTree) -> tuple[GradientTransformation, list[Leaf | None]]:
        """The partition, and the leaves of which it sees stacks."""
        leaves, owners = read(full)
        labels = tree.structure(full).unflatten(owners)
        return partition(pairs, labels), [
            leaf if owner in stacked else None for leaf, owner in zip(leaves, owners, strict=True)
        ]

    def init(params: Params, **problem: Any) -> State:
        if is_any(params):
            return partition(pairs, {}).init(params, **problem)
        members, shown = dealt(params)
        return members.init(_mapped(_view, params, params, shown), **problem)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        like = updates if params is None else params
        members, shown = dealt(like)
        _check(name, updates, like)
        show = functools.partial(_mapped, _view, like=like, shown=shown)
        steps, new = members.update(show(updates), state, None if params is None else show(params), **extra)
        return placement.all_placed_as(_mapped(_back, steps, like, shown), updates), new

    def evaluated(state: State, params: Params) -> Params:
        _, shown = dealt(params)
        return _mapped(_back, eval_params(state, _mapped(_view, params, params, shown)), params, shown)

    def table(params: Params) -> Table:
        return _table(*read(params), groups)

    method = Method(f"route({', '.join(group.name for group in groups)})", lands=common_landing(pairs.values()))
    return Routed(init, Update(update, method), table, evaluated)


def _check_groups(name: str, groups: Sequence[Any], kind: type) -> None:
    """Groups of leaves: one at least, of different names."""
    for group in groups:
        check_instance(name, "each group", group, kind, f'{kind.__name__}("hidden", muon, 0.02, role="matrix")')
    names = [group.name for group in groups]
    if not names or len(set(names)) != len(names):
        say(TransformationError, name, "groups must be one or more, with different strings as names", f"{names}",
            f'Write {name}(Group("hidden", ...), Group("rest", ...))')  # fmt: skip


def _astray(name: str, leaves: Sequence[tuple[str, tuple[int, ...], str | None, Sequence[str]]]) -> NoReturn:
    """Leaves that no group takes, or several: (path, shape, role, groups) each."""
    told = [
        f"{path} {shape} of the role {role or '?'}: {' and '.join(names) or 'none'}"
        for path, shape, role, names in leaves
    ]
    more = f"; {len(told) - 8} more" if len(told) > 8 else ""
    say(TreeError, name, "each leaf must be taken by one group", "; ".join(told[:8]) + more,
        "explain(params, groups) shows all. Give a group the role, path or shape, or say what the leaf is: "
        "roles={path: role}, and which axes are stacks: stack_axes")  # fmt: skip


@options
def explain(
    params: Params,
    groups: Sequence[Group] = (),
    *,
    roles: Mapping[str, str | MatrixAxes] | None = None,
    stack_axes: PyTree = 0,
) -> Table:
    """A table of every leaf: shape, role, how it is read as matrices, and its group, with what is set for it.

    params: the parameters, a tree of floating arrays; abstract ones will do.
    groups: `Group`s as of `route`, of different names; none: the table ends with the matrices.
    roles: a dict, regular expression of a path -> role or `MatrixAxes`, where the guess is wrong; None: all are
        guessed.
    stack_axes: how many leading axes count leaves of one shape, an integer or a tree of them.

    Returns a `Table`, to be printed or shown in a notebook. A leaf of no group, or of several, shows them all: `route`
    would refuse it.

    Raises HyperparameterTypeError, TransformationError for groups that are none. Not for the state's bytes:
    `quantized(tx).explain`, `explain_shardings`.

    >>> params = {"layer": {"kernel": jnp.ones((4, 2)), "bias": jnp.ones(2)}}
    >>> table = jo.explain(params, [jo.Group("matrices", jo.muon, 0.02, role="matrix")])
    """
    if groups:
        _check_groups("explain", groups, Group)
    leaves = roles_of(params, roles, stack_axes=stack_axes)
    return _table(leaves, [", ".join(g.name for g in groups if g.takes(leaf)) for leaf in leaves], groups)


def _table(leaves: Sequence[Leaf], owners: Sequence[str], groups: Sequence[Group]) -> Table:
    columns = ["leaf", "shape", "role", "matrices"]
    rows = [[leaf.path, str(leaf.shape), leaf.role or "?", _reading(leaf)] for leaf in leaves]
    if groups:
        columns += ["group", "method", "learning rate", "weight decay"]
        settings = {g.name: [_method(g), _spelled(g.learning_rate), _spelled(g.weight_decay)] for g in groups}
        rows = [[*row, owner, *settings.get(owner, [""] * 3)] for row, owner in zip(rows, owners, strict=True)]
    return Table(tuple(columns), tuple(columns), tuple(map(tuple, rows)))


def _reading(leaf: Leaf) -> str:
    if leaf.axes is None:
        return ""
    N, m, n = leaf.axes.shape(leaf.shape)
    return f"{m} x {n}" if N == 1 else f"{N} of {m} x {n}"


def _method(group: Group) -> str:
    if group.factory is None:
        return name_of(errors.check_pair("route", group.name, group.method, lands=True))
    made = group.method.func if isinstance(group.method, functools.partial) else group.method
    return str(getattr(made, "__name__", made))


def _spelled(hyper: Hyper | None) -> str:
    if hyper is None:
        return ""
    return "schedule" if callable(hyper) else f"{float(hyper):g}"


def _made(name: str, group: Group) -> GradientTransformation:
    """The group's transformation."""
    where = f"group {group.name!r}"
    if group.factory is None:
        return errors.check_pair(name, where, group.method, lands=True)
    stacks = {"stack_axes": 1} if group.of_stacks else {}
    if missing := [argument for argument in required(group.factory) if argument not in group.given]:
        _not_given(name, where, _method(group), missing)
    return errors.check_pair(name, where, group.factory(**group.given, **stacks), lands=True)


def _not_given(name: str, where: str, method: str, names: Sequence[str]) -> NoReturn:
    """A function that has further arguments without a default."""
    say(TransformationError, name, f"{where} has the method {method}, which needs {' and '.join(names)}", "none",
        "Write Group(name, method, learning_rate, weight_decay), or functools.partial(method, …)")  # fmt: skip


def _check(name: str, updates: Updates, like: PyTree) -> None:
    """Gradients must be like the parameters, but may be None."""
    leaves, treedef = tree.flatten(updates, none_is_leaf=True)
    places, structure = tree.flatten(like, none_is_leaf=True)
    if treedef != structure:
        structure_mismatch(name, "gradients", updates, "params", like)
    for index, (g, p) in enumerate(zip(leaves, places, strict=True)):
        if g is not None and np.shape(g) != np.shape(p):
            path = errors.path_of(like, index, none_is_leaf=True)
            shape_mismatch(name, "gradients", path, g, "params", np.shape(p))


def _mapped(function: Callable[[Any, Leaf], Any], full: PyTree, like: PyTree, shown: Sequence[Leaf | None]) -> PyTree:
    """function(leaf, what it is) for the leaves that are shown otherwise than they are."""
    leaves, treedef = tree.flatten(full, none_is_leaf=True)
    known = iter(shown)
    kinds = [None if p is None else next(known) for p in tree.flatten(like, none_is_leaf=True)[0]]
    return treedef.unflatten(
        [x if x is None or kind is None else function(x, kind) for x, kind in zip(leaves, kinds, strict=True)]
    )


def _view(x: Any, leaf: Leaf) -> Any:
    """[N, m, n] of a leaf of matrices, [N, …] of another."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return jax.eval_shape(functools.partial(_view, leaf=leaf), x)
    x = jnp.asarray(x)
    return x.reshape(-1, *x.shape[leaf.stacks :]) if leaf.axes is None else matrices_of(x, leaf.axes)


def _back(x: Any, leaf: Leaf) -> Any:
    return x.reshape(leaf.shape) if leaf.axes is None else leaf_of(x, leaf.shape, leaf.axes)
