"""Optimizers for programs that ask for optax's own classes."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

import jax

from jaxopt_ko import errors
from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core.method import Update, method_of
from jaxopt_ko.errors import say
from jaxopt_ko.solvers.quasi_newton import made_vectors
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, PyTree, State, Updates


def to_optax(tx: GradientTransformation) -> Any:
    """A transformation in optax's own classes, for code that asks `isinstance`: numpyro's SVI, ferminet, praxis.

    tx: a transformation, an (init, update) pair, ours or optax's.

    Returns an `optax.GradientTransformationExtraArgs`, or an `optax.GradientTransformation` where tx is a user's pair
    that takes no extra arguments. Its states are of optax's classes, too, wherever optax has one of that name with
    these fields, and may be of either library when they come in: the layouts are the same. Nothing else is changed.

    Raises TransformationError if tx is no transformation; ImportError if optax, which nothing else here needs, is not
    installed. Not needed for optax's own chain and train loops, which take any pair.

    >>> import importlib.util
    >>> if importlib.util.find_spec("optax"):
    ...     svi_optimizer = jo.to_optax(jo.adam(1e-3))
    """
    tx = errors.check_pair("to_optax", "tx", tx, lands=True)
    try:
        optax = importlib.import_module("optax")
    except ImportError:
        _not_installed("to_optax", "optax", "whose classes these are")
    if type(tx).__module__.partition(".")[0] == "optax" and isinstance(tx, optax.GradientTransformation):
        return tx
    inner, theirs = as_transformation("to_optax", "tx", tx, lands=True), (optax, optax.contrib)
    ours = (importlib.import_module("jaxopt_ko"),)

    def init(params: Params, **problem: Any) -> State:
        return _in_classes_of(theirs, inner.init(params, **problem))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        updates, new = inner.update(updates, _in_classes_of(ours, state), params, **extra)
        return updates, _in_classes_of(theirs, new)

    def strict(updates: Updates, state: State, params: Params = None) -> tuple[Updates, State]:
        return update(updates, state, params)

    def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
        return function if method_of(inner).lands is None else Update(function, method_of(inner))

    if isinstance(tx, GradientTransformation) and not isinstance(tx, GradientTransformationExtraArgs):
        return optax.GradientTransformation(init, recorded(strict))
    return optax.GradientTransformationExtraArgs(init, recorded(update))


def _not_installed(name: str, package: str, why: str) -> NoReturn:
    """The one package that this function needs is not installed."""
    say(ImportError, name, f"it needs {package}, {why}, and it is not installed", None, f"pip install {package}")


def lbfgs_from_optax(state: State) -> State:
    """The state of optax's `lbfgs` or `scale_by_lbfgs`, or one that holds such a state, as ours: trees become vectors.

    state: NamedTuples of optax's, as it makes them or as a file brings them back.

    Returns the same state with our classes. Raises StateError where none is of L-BFGS. Not for any other state of
    optax's, which needs no conversion.

    >>> import importlib.util
    >>> if importlib.util.find_spec("optax"):
    ...     import optax
    ...     state = jo.lbfgs_from_optax(optax.scale_by_lbfgs().init(jnp.ones(2)))
    """
    return _in_classes_of((importlib.import_module("jaxopt_ko"),), made_vectors(state))


def _in_classes_of(libraries: Sequence[ModuleType], tree: PyTree) -> PyTree:
    """The state with each NamedTuple in the class of the same name and fields that one of these modules has."""

    def other(node: Any) -> Any:
        kind = type(node)
        if kind.__module__.partition(".")[0] in ("jaxopt_ko", "optax") and hasattr(kind, "_fields"):
            for library in libraries:
                found = vars(library).get(kind.__name__)
                if found is not kind and getattr(found, "_fields", None) == kind._fields:
                    return found
        return None

    def renamed(node: Any) -> Any:
        kind = other(node)
        return node if kind is None else kind(*(_in_classes_of(libraries, child) for child in node))

    return jax.tree.map(renamed, tree, is_leaf=lambda node: other(node) is not None)
