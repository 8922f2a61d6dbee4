"""The least-squares problem a solver is given, as functions of one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_leaf, is_complex_leaf
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.numerics import is_complex
from jaxopt_ko.errors import TreeError, describe, describe_structure, path_of, say
from jaxopt_ko.solvers.problem.bounds import box, step_into
from jaxopt_ko.solvers.problem.objective import check_aux
from jaxopt_ko.solvers.problem.robust_losses import Rho, robust
from jaxopt_ko.types import Params, PyTree, Updates

Box = tuple[Array, Array]  # lower float[n], upper float[n]


class Residuals(NamedTuple):
    """r: R^n -> R^m and the f that is made of it, at hand as functions of vectors."""

    x: Array  # float[n]  the parameters, moved into the box
    box: Box | None  # None without bounds
    unravel: Callable[[Array], Params]  # a vector as parameters
    home: Updates  # the step from the parameters to x, zero if they are in the box
    inside: Array  # bool[]  are they?
    move: Callable[[Array], tuple[Updates, Array]]  # p -> the step from the parameters to x + p, where it leads
    residual: Callable[[Array], tuple[Array, PyTree]]  # r(x) float[m], aux
    linearize: Callable[[Array], tuple[Array, PyTree, Callable[[], Array]]]  # r, aux, J float[m,n] when called for
    cost: Callable[[Array], Array]  # r -> f, float[]
    correct: Callable[[Array, Array], tuple[Array, Array]]  # r, J -> r~, J~ of the loss


def residuals(
    name: str,
    params: Params,
    residual_fn: Callable[..., Any] | None = None,
    *,
    jacobian_fn: Callable[..., Any] | None = None,
    loss: str | Rho = "linear",
    loss_scale: Any = 1.0,
    bounds: tuple[PyTree, PyTree] | None = None,
    has_aux: bool = False,
    **extra_args: Any,
) -> Residuals:
    """`residual_fn(params, **extra_args)` as Residuals; of `extra_args` both functions get those that they take.

    Fewer residuals than parameters are filled up with zeros.
    Raises MissingArgumentError without residual_fn; TreeError for residuals that are one number, or no floating
    arrays, for a Jacobian of another shape, and what `robust` and `box` raise.
    """
    if residual_fn is None:
        errors.missing_argument(name, "residual_fn", "Pass residual_fn=..., a function of the parameters")
    x, unravel = tree.ravel(params)
    call = filter_kwargs(errors.check_function(name, "residual_fn", residual_fn), 1)
    lower_upper = None if bounds is None else box(name, params, bounds)
    f = robust(name, loss, loss_scale, x.dtype)

    def returned(p: Params) -> tuple[PyTree, PyTree]:
        result = call(p, **extra_args)
        r, aux = check_aux(name, result) if has_aux else (result, None)
        _check_residuals(name, r, linear=loss == "linear")
        return r, aux

    def residual(x: Array) -> tuple[Array, PyTree]:
        r, aux = returned(unravel(x))
        return _filled(tree.ravel(r)[0].astype(x.dtype), x.size), aux

    def linearize(x: Array) -> tuple[Array, PyTree, Callable[[], Array]]:
        r, push, aux = jax.linearize(residual, x, has_aux=True)
        return r, aux, lambda: jax.vmap(push, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype))

    if jacobian_fn is not None and any(is_complex(tree.dtype_of(leaf)) for leaf in jax.tree.leaves(params)):
        _complex_jacobian(name)

    def with_given(x: Array) -> tuple[Array, PyTree, Callable[[], Array]]:
        given = filter_kwargs(errors.check_function(name, "jacobian_fn", jacobian_fn), 1)
        r, aux = returned(unravel(x))

        def matrix() -> Array:
            J = _dense(name, given(unravel(x), **extra_args), r, params).astype(x.dtype)
            return _filled(J, x.size)

        return _filled(tree.ravel(r)[0].astype(x.dtype), x.size), aux, matrix

    start = x
    if lower_upper is not None:
        x = jnp.clip(x, *lower_upper)

    def move(p: Array) -> tuple[Updates, Array]:
        if lower_upper is None:
            step = unravel(p)
            return step, tree.ravel(apply_updates(params, step))[0]
        lower, upper = lower_upper
        to = jnp.where(p <= lower - x, lower, jnp.where(p >= upper - x, upper, x + p))
        return step_into(unravel, params, start, to, lower, upper)

    return Residuals(
        x, lower_upper, unravel, unravel(x - start), jnp.all(x == start), move, residual,
        linearize if jacobian_fn is None else with_given, f.cost, f.correct,
    )  # fmt: skip


def _filled(rows: Array, n: int) -> Array:
    """With zeros behind them where there are fewer than n: to a step they say nothing, so it is the shortest."""
    more = max(0, n - rows.shape[0])
    return jnp.pad(rows, ((0, more),) + ((0, 0),) * (rows.ndim - 1)) if more else rows


def _complex_jacobian(name: str) -> NoReturn:
    """A derivative by complex parameters, where what is needed is one by their real and imaginary parts."""
    say(TreeError, name, "jacobian_fn must be None where parameters are complex", "a function",
        "Leave it out: the derivative by real and imaginary parts is taken of residual_fn")  # fmt: skip


def _check_residuals(name: str, residuals: PyTree, linear: bool) -> None:
    """Residuals of a least-squares problem: floating arrays.

    linear: complex ones may be among them, two numbers each; a robust loss would depend on where their phase begins.
    """
    leaves = jax.tree.leaves(residuals)
    for index, leaf in enumerate(leaves):
        dtype, parts = getattr(leaf, "dtype", None), is_complex_leaf(leaf)
        if isinstance(leaf, float) or (dtype is not None and jnp.issubdtype(dtype, jnp.floating)) or (parts and linear):
            continue
        say(TreeError, name, f"the residuals leaf {path_of(residuals, index)} must be a real floating-point array",
            describe(leaf),
            "Complex residuals are for loss='linear': return abs(r), or the real and the imaginary parts as two leaves"
            if parts else
            "Make the data or the residuals floating, for example with y.astype(float)")  # fmt: skip
    if len(leaves) == 1 and np.shape(leaves[0]) == ():
        say(TreeError, name, "residual_fn must return the residuals, not one number", describe(leaves[0]),
            "Return the vector whose squares are summed; for a scalar objective use a minimizer")  # fmt: skip


def _dense(name: str, jacobian: PyTree, r: PyTree, params: Params) -> Array:
    """float[m,n] of that matrix itself, or of a tree like r of trees like params, as jax.jacobian makes it.

    The rows of a complex leaf of r are those of its real parts, then those of its imaginary parts.
    """
    (rows, outer), (columns, inner) = tree.flatten(r), tree.flatten(params)
    m, n = tree.real_size(r), tree.real_size(params)
    if hasattr(jacobian, "shape") and np.shape(jacobian) == (m, n):
        check_leaf(name, "Jacobian", jacobian, 0, jacobian)
        return jnp.asarray(jacobian)
    try:
        blocks = [inner.flatten_up_to(part) for part in outer.flatten_up_to(jacobian)]
    except (ValueError, TypeError):
        _jacobian_structure(name, jacobian, m, n)
    for a, part in zip(rows, blocks, strict=True):
        for b, block in zip(columns, part, strict=True):
            _check_block(name, block, (*np.shape(a), *np.shape(b)), m, n, is_complex_leaf(a))
    wide = tree.compute_dtype(*(jnp.real(jnp.asarray(block)).dtype for part in blocks for block in part))

    def strip(part: list[Any], size: int) -> Array:
        return jnp.concatenate([block.astype(wide).reshape(size, -1) for block in part], axis=1)

    strips = []
    for a, part in zip(rows, blocks, strict=True):
        arrays = [jnp.asarray(block) for block in part]
        strips.append(strip([jnp.real(block) for block in arrays], np.size(a)))
        if is_complex_leaf(a):
            strips.append(strip([jnp.imag(block) for block in arrays], np.size(a)))
    return jnp.concatenate(strips, axis=0)


def _jacobian_structure(name: str, jacobian: Any, m: int, n: int) -> NoReturn:
    """A user's Jacobian that is neither a matrix nor a tree of trees."""
    structure = jax.tree.structure(jacobian)
    got = describe(jacobian) if jax.tree_util.treedef_is_leaf(structure) else describe_structure(structure)
    say(TreeError, name, f"jacobian_fn must return the matrix float[{m},{n}] of all residuals by all parameters, or "
        "what jax.jacobian(residual_fn) does", got,
        "A tree like the residuals, with a tree like the parameters for each of its leaves")  # fmt: skip


def _check_block(name: str, block: Any, shape: tuple[int, ...], m: int, n: int, parts: bool) -> None:
    """One leaf of residuals by one leaf of parameters; parts: of complex residuals."""
    dtype = getattr(block, "dtype", None)
    kind, numbers = (jnp.inexact, "numbers") if parts else (jnp.floating, "real floating-point numbers")
    if np.shape(block) != shape or not (dtype is None or jnp.issubdtype(dtype, kind)):
        say(TreeError, name, f"jacobian_fn must return {numbers} in the shape {shape}, residuals by "
            f"parameters, or the matrix float[{m},{n}] of all", describe(block),
            "Rows belong to the residuals: transpose it, or compare jax.jacobian(residual_fn)(params)")  # fmt: skip
