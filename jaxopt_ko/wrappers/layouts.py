"""Parameters shown to the inner transformation in another layout: as one vector, or with complex numbers split."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.compose.extra_args import as_transformation
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import shape_mismatch
from jaxopt_ko.core.hyperparameters import as_state
from jaxopt_ko.core.method import Method, make_transformation, method_of, name_of
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.types import (
    GradientTransformation,
    Params,
    PyTree,
    SplitRealAndImaginaryArrays,
    State,
    Updates,
)


class SplitRealAndImaginaryState(NamedTuple):
    """State of `split_real_and_imaginary`."""

    inner_state: State  # of the inner transformation, over pairs


def flatten(inner: GradientTransformation) -> GradientTransformation:
    """A transformation on all leaves as one vector.

    u = unravel(the step of inner for ravel(g) at ravel(p))

    inner: the transformation, for vectors float32[n] at least.

    State: that of inner, of one vector. It is for many small leaves, at the cost of two copies.

    Raises TransformationError if inner is none; TreeError, when traced, if its step has another shape than the vector.
    Source: optax's flatten. Not needed for compile time: leaves of one shape share their program without it. Not for
    methods of matrices, nor on a mesh: norms of leaves become norms of all, and sharded leaves are gathered.

    >>> tx = jo.flatten(jo.adam(1e-3))
    >>> jo.tree.get(tx.init({"w": jnp.ones((2, 2)), "b": jnp.ones(2)}), "mu").shape
    (6,)
    """
    pair = as_transformation("flatten", "inner", inner)
    name = f"flatten({name_of(pair)})"

    def init(params: Params, **problem: Any) -> State:
        abstract = any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(params))
        made = jax.eval_shape(lambda p: tree.ravel_leaves(p)[0], params) if abstract else tree.ravel_leaves(params)[0]
        return pair.init(made, **problem)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        vector, unravel = tree.ravel_leaves(updates)
        if params is not None and tree.alike(updates, params):  # else who reads them says what is wrong
            params = tree.ravel_leaves(params)[0]
        steps, new = pair.update(vector, state, params, **extra)
        if np.shape(steps) != vector.shape:
            shape_mismatch(name, "updates", "(root)", steps, "vector of all leaves", vector.shape)
        return unravel(steps), new

    return transform(name, init, update)


@options
def split_real_and_imaginary(inner: GradientTransformation) -> GradientTransformation:
    """A transformation on complex leaves as pairs of real ones; real leaves pass to it as they are.

    inner sees (Re g, Im g) and (Re p, Im p);   u = u_re + i u_im

    inner: a transformation for real numbers alone, soap say.

    State: that of inner, of pairs. jax.grad of a real function gives the conjugate of the direction of ascent:
    conjugate it before update. Extra arguments that are functions of the parameters (value_fn, obj_fn, residual_fn,
    grad_fn, constraints) or trees like them (grad) are given for complex parameters, too, and shown to inner as they
    are for pairs.

    Raises TransformationError if inner is none, and what inner raises. Source: optax's split_real_and_imaginary. Not
    needed for methods that take complex numbers themselves, as Adam does here: there a number has one second moment,
    here two.

    >>> tx = jo.split_real_and_imaginary(jo.soap(1e-3))
    >>> state = tx.init(jnp.ones((2, 2), jnp.complex64))
    """
    pair = as_transformation("split_real_and_imaginary", "inner", inner, lands=True)
    name = f"split_real_and_imaginary({name_of(pair)})"

    def init(params: Params, **problem: Any) -> SplitRealAndImaginaryState:
        return SplitRealAndImaginaryState(pair.init(_split(params), **_for_pairs(problem)))

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        state = as_state(name, state, SplitRealAndImaginaryState)
        steps, new = pair.update(_split(updates), state.inner_state, _split(params), **_for_pairs(extra))
        return _joined(steps), SplitRealAndImaginaryState(new)

    return make_transformation(Method(name, lands=method_of(pair).lands), init, update)


FUNCTIONS = ("value_fn", "obj_fn", "residual_fn", "grad_fn", "equality", "inequality")
TREES = ("grad", "bounds")


def _for_pairs(extra_args: Mapping[str, Any]) -> dict[str, Any]:
    """Extra arguments, as they are where parameters are pairs."""

    def of_pairs(key: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(params: Params, *args: Any, **kwargs: Any) -> Any:
            result = function(_joined(params), *args, **kwargs)
            return _split(result) if key == "grad_fn" else result

        return call

    made = {key: of_pairs(key, word) for key, word in extra_args.items() if key in FUNCTIONS and callable(word)}
    return {**extra_args, **made, **{key: _split(word) for key, word in extra_args.items() if key in TREES}}


def _split(full: PyTree) -> PyTree:
    def one(x: Any) -> Any:
        dtype = getattr(x, "dtype", np.dtype(type(x)) if isinstance(x, complex) else None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.complexfloating):
            return x
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.eval_shape(one, x)
        return SplitRealAndImaginaryArrays(jnp.real(x), jnp.imag(x))

    return jax.tree.map(one, full)


def _joined(full: PyTree) -> PyTree:
    def is_pair(x: Any) -> bool:
        return isinstance(x, SplitRealAndImaginaryArrays)

    return jax.tree.map(lambda x: jax.lax.complex(*x) if is_pair(x) else x, full, is_leaf=is_pair)
