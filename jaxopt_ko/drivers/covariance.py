"""How well the parameters of a fit are known: their covariance, standard errors, and bands around what they predict.

cov(x) = s**2 (J'WJ)^-1      s**2 = 2 f / (m - n)      W = rho'(z) + 2 z rho''(z), 1 without a robust loss
Seber & Wild 1989, Nonlinear Regression, section 5.1; White 1980, Econometrica 48, equation 10 for the sandwich.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args, check_leaves, check_start
from jaxopt_ko.core.numerics import or_one, safe_sqrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import closure_convert, drop_weak_types, jitted, of_arrays
from jaxopt_ko.drivers.least_squares import Fit
from jaxopt_ko.drivers.run import Data
from jaxopt_ko.errors import HyperparameterError, TransformationError, describe, say
from jaxopt_ko.solvers.problem.residuals import residuals
from jaxopt_ko.solvers.problem.robust_losses import LOSSES, check_loss
from jaxopt_ko.types import Params, PyTree, Solution

KINDS = ("curvature", "sandwich")
MANY = 1000.0  # degrees of freedom from which on Student's t is expanded about the normal distribution


class Covariance(NamedTuple):
    """How well parameters are known: what `covariance` returns."""

    matrix: Array  # float[n,n]  of the parameters in the order of jax.tree.leaves; inf where one is not determined
    standard_errors: PyTree  # like params, the roots of its diagonal
    freedom: Array  # float[]    m less the number of parameters that were fitted; inf where the errors' size is known
    variance: Array  # float[]   s**2, by which the square of root is multiplied; 1 where it is not estimated
    fixed: PyTree  # like params, bool: is it at a bound, and taken as known?
    undetermined: PyTree  # like params, bool: can it change without any change of the residuals?
    root: Array  # float[n,k]    matrix = variance root root', where all parameters are determined
    null: Array  # float[n,n]    the directions that change no residual, one to a column, among columns of zeros

    @property
    def correlation(self) -> Array:
        """float[n,n]: the matrix over the standard errors of both; NaN where one of them is 0 or infinite."""
        deviation = safe_sqrt(jnp.diagonal(self.matrix))
        return self.matrix / deviation[:, None] / deviation[None, :]

    def __repr__(self) -> str:
        """The standard errors and what they rest on; the fields have the rest."""
        return f"Covariance(standard_errors={self.standard_errors}, variance={self.variance}, freedom={self.freedom})"


class ConfidenceBand(NamedTuple):
    """A prediction and how well it is known: what `confidence_band` returns; trees like what the function returns."""

    value: PyTree  # at the parameters
    lower: PyTree  # value less the quantile times the standard error
    upper: PyTree  # value and that
    standard_error: PyTree


@options
def covariance(
    residual_fn: Callable[..., PyTree],
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    bounds: tuple[PyTree, PyTree] | None = None,
    jacobian_fn: Callable[..., PyTree] | None = None,
    loss: str | Callable[[Array], Array] = "linear",
    loss_scale: Any = 1.0,
    has_aux: bool = False,
    absolute: bool = False,
    kind: str = "curvature",
) -> Covariance:
    """The covariance of the parameters that `least_squares` found, and their standard errors, by the linear model.

    cov = s**2 (J'WJ)^-1   s**2 = 2 f / (m - n)   W = rho'(z) + 2 z rho''(z), z = (r / loss_scale)**2; 1 if linear

    residual_fn: the one that was fitted, (params, *args) -> pytree of the m residuals, or (residuals, aux) with
        has_aux.
    params: the Solution of the fit, or its params, a tree of floating arrays: n numbers in all.
    args: what the functions are given after the parameters: a tuple of trees.
    bounds: those of the fit, (lower, upper). A parameter at one of its bounds is taken as fixed: its own standard error
        is 0, the others' are those of a fit without it, and it does not count in n.
    jacobian_fn: (params, *args) -> what jax.jacobian(residual_fn) would return, or the matrix float[m,n]; None: it is
        derived.
    loss: that of the fit: "linear", "huber", "soft_l1", "cauchy", "arctan" or a function rho(z).
    loss_scale: that of the fit, in the residuals' units, > 0.
    has_aux: does the function return a pair, the residuals and aux?
    absolute: are the residuals in units of their known errors, s**2 = 1? Else one size of all errors is estimated.
    kind: "curvature" is the formula above, SciPy's, for errors of one size. "sandwich" is m / (m - n) times
        (J'WJ)^-1 (sum psi**2 J_i'J_i) (J'WJ)^-1 with psi = rho'(z) r: for errors of sizes that differ, and what to
        take with a robust loss, whose f is no variance; it wants many more residuals than parameters.

    Returns a `Covariance`. What no residual depends on is infinite: where J has not full rank after its columns
    were scaled to one length, to max(m, n) eps, the rows and columns of the parameters that can change without a change
    of the residuals are inf; the others are those of the pseudo-inverse, and its rank takes the place of n. With
    m <= n and not absolute all that is not fixed is inf. Of a complex parameter the standard error is a complex number,
    of the real and of the imaginary part; in the matrix all real parts of a leaf come first. Pure: jitted inside, it
    may be vmapped. It needs m n numbers for J.

    Raises HyperparameterError for another kind or loss, or absolute with "sandwich"; when traced, TreeError for
    residuals and bounds that `least_squares` refuses. Source: Seber & Wild 1989, section 5.1. Not for parameters that
    are known so badly that the residuals bend within an error bar: fit resampled data instead.

    >>> t, y = jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([1.1, 2.9, 5.1, 6.9])
    >>> residual = lambda p: p[0] + p[1] * t - y
    >>> line = jo.least_squares(residual, jnp.zeros(2))
    >>> [round(float(e), 3) for e in jo.covariance(residual, line).standard_errors]
    [0.106, 0.057]
    """
    name = "covariance"
    errors.check_function(name, "residual_fn", residual_fn)
    params = params.params if isinstance(params, Solution) else params
    check_loss(name, loss, LOSSES)
    errors.check_number(name, "loss_scale", loss_scale, errors.POSITIVE)
    check_start(name, params)
    check_leaves(name, "params", params, real=False)
    check_args(name, args)
    check_kind(name, absolute, kind)
    setting = Setting(name, Fit(residual_fn, jacobian_fn, loss, has_aux), absolute, kind)
    found: Covariance = statistics(setting, drop_weak_types(params), Data(args, bounds, loss_scale))
    return found


def check_kind(name: str, absolute: bool, kind: str) -> None:
    """What is known of the errors, and by which formula."""
    errors.check_choice(name, "kind", kind, KINDS)
    if absolute and kind == "sandwich":
        say(HyperparameterError, name, "kind='sandwich' finds the sizes of the errors from the residuals",
            "known ones, absolute", "Leave one of them out")  # fmt: skip


class Setting(NamedTuple):
    """What covariances are compiled for."""

    name: str
    problem: Any  # a `Fit`, or what has one as its `fit`
    absolute: bool
    kind: str


@jitted
def statistics(setting: Setting, params: Params, data: Data) -> Covariance:
    """How well `params` are known, which the problem's data were fitted by."""
    problem = setting.problem
    functions, args = of_arrays(problem.functions, data.args)
    functions, args = closure_convert(functions, params, args)
    problem = problem._replace(**functions)
    fun, jacobian_fn, loss, has_aux, _ = problem if isinstance(problem, Fit) else problem.fit
    given = None if jacobian_fn is None else lambda p: jacobian_fn(p, *args)
    made = residuals(
        setting.name, params, lambda p: fun(p, *args), jacobian_fn=given, loss=loss, loss_scale=data.loss_scale,
        bounds=data.bounds, has_aux=has_aux,
    )  # fmt: skip
    r, _, jacobian = made.linearize(made.x)
    first, bend = _slopes(setting.name, loss, data.loss_scale, r)
    fixed = jnp.zeros(made.x.shape, bool)
    if made.box is not None:
        fixed = (made.x <= made.box[0]) | (made.x >= made.box[1])
    J = jnp.where(fixed[None, :], 0, jacobian())
    result = jax.eval_shape(lambda: fun(params, *args))
    m = tree.real_size(result[0] if has_aux else result)
    root, null, rank = _inverse_root(jnp.sqrt(bend)[:, None] * J, fixed)
    left = (m - rank).astype(r.dtype)
    variance = jnp.ones((), r.dtype)
    if setting.kind == "sandwich":
        root = jnp.linalg.qr(((first * r)[:, None] * J @ root) @ root.T, mode="r").T
        root, variance = jnp.sqrt(m / jnp.maximum(left, 1)) * root, jnp.where(left > 0, 1, jnp.inf).astype(r.dtype)
    elif not setting.absolute:
        variance = jnp.where(left > 0, 2 * made.cost(r) / jnp.maximum(left, 1), jnp.inf)
    unknown = jnp.any(null != 0, axis=1) | (jnp.isinf(variance) & ~fixed)
    matrix = jnp.where(jnp.isinf(variance), 1, variance) * (root @ root.T)
    matrix = jnp.where(unknown[:, None] | unknown[None, :], jnp.inf, matrix)
    matrix = jnp.where(fixed[:, None] | fixed[None, :], 0, matrix)

    def which(mask: Array) -> PyTree:
        return jax.tree.map(lambda leaf: leaf != 0, made.unravel(mask.astype(r.dtype)))

    return Covariance(
        matrix, made.unravel(jnp.sqrt(jnp.diagonal(matrix))),
        jnp.full_like(left, jnp.inf) if setting.absolute else left, variance, which(fixed), which(unknown), root, null,
    )  # fmt: skip


def _slopes(name: str, loss: Any, loss_scale: Any, r: Array) -> tuple[Array, Array]:
    """float[m] each: rho'(z), and rho'(z) + 2 z rho''(z), eps at least where it is that or less, as in SciPy."""
    if loss == "linear":
        return jnp.ones_like(r), jnp.ones_like(r)
    rho = check_loss(name, loss, LOSSES)

    def slope(z: Array) -> Array:
        return jax.jvp(rho, (z,), (jnp.ones_like(z),))[1]  # type: ignore[no-any-return]

    z = (r / jnp.asarray(loss_scale).astype(r.dtype)) ** 2
    first, second = jax.jvp(slope, (z,), (jnp.ones_like(z),))
    return first, jnp.maximum(first + 2 * z * second, float(np.finfo(r.dtype).eps))


def _inverse_root(A: Array, fixed: Array) -> tuple[Array, Array, Array]:
    """C float[n,n] with C C' = (A'A)^+ in the units in which A's columns have one length; null, and the rank of A."""
    (m, n), eps = A.shape, float(np.finfo(A.dtype).eps)
    D = or_one(jnp.linalg.norm(A, axis=0))
    _, s, Vt = jnp.linalg.svd(A / D[None, :], full_matrices=m < n)
    s = jnp.pad(s, (0, n - s.size))
    zero = (s <= max(m, n) * eps * jnp.max(s, initial=0.0))[None, :]
    V = Vt.T
    root = jnp.where(zero, 0, V / jnp.where(zero, 1, s[None, :])) / D[:, None]
    null = jnp.where(zero & (jnp.abs(V) > eps**0.5) & ~fixed[:, None], V / D[:, None], 0)
    return root, null, jnp.sum(~zero)


@options
def confidence_band(
    fun: Callable[..., PyTree],
    params: Params,
    covariance: Covariance,
    *,
    args: tuple[Any, ...] = (),
    level: Any = 0.95,
) -> ConfidenceBand:
    """The interval that holds a function's true value with the probability `level`, by the delta method.

    fun(x) +- t sqrt(g' cov g),   g = d fun / dx,   t: P(|T| <= t) = level, T of Student's distribution

    fun: (params, *args) -> pytree of real floating arrays: a curve on a grid, or any number made of the parameters.
    params: where the fit ended: its Solution or params.
    covariance: what `covariance` returned for them.
    args: what the function is given after the parameters: a tuple of trees.
    level: the probability at each point, in (0, 1); 0.95 is the custom.

    Returns a `ConfidenceBand`, its width 0 where nothing depends on a parameter that was fitted, infinite where one
    counts that is not determined. T has m - n degrees of freedom; where the errors were known (absolute) it is normal.
    It is the interval of each point for itself, and of the mean: a new measurement scatters around it. Pure: jitted
    inside, and it may be vmapped.

    Raises TransformationError if covariance is none; HyperparameterError for another level; TreeError for what is no
    real array. Source: Seber & Wild 1989, section 5.1; Abramowitz & Stegun 1964, 26.7.5 and 26.5.27, for t. Not where
    the function bends within the errors of the parameters: resample.

    >>> t, y = jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([1.1, 2.9, 5.1, 6.9])
    >>> line = lambda p, t: p[0] + p[1] * t
    >>> fit = jo.least_squares(lambda p: line(p, t) - y, jnp.zeros(2))
    >>> known = jo.covariance(lambda p: line(p, t) - y, fit)
    >>> band = jo.confidence_band(line, fit, known, args=(jnp.array([1.5]),))
    >>> round(float(band.value[0]), 3), round(float(band.upper[0] - band.value[0]), 3)
    (4.0, 0.272)
    """
    name = "confidence_band"
    errors.check_function(name, "fun", fun)
    if not isinstance(covariance, Covariance):
        say(TransformationError, name, "covariance must be a Covariance", describe(covariance),
            "Give what covariance(residual_fn, solution) returns")  # fmt: skip
    params = params.params if isinstance(params, Solution) else params
    check_start(name, params)
    check_args(name, args)
    return band(name, fun, params, covariance, args, level)


def band(
    name: str, fun: Callable[..., PyTree], params: Params, known: Covariance, args: tuple[Any, ...], level: Any
) -> ConfidenceBand:
    """The same, of arguments that were checked but for the level."""
    errors.check_number(name, "level", level, errors.OPEN_FRACTION)
    found: ConfidenceBand = _band((name, fun), drop_weak_types(params), tuple(known), args, level)
    return found


@jitted
def _band(
    setting: tuple[str, Callable[..., PyTree]], params: Params, known: tuple[Any, ...], args: tuple[Any, ...],
    level: Any,
) -> ConfidenceBand:  # fmt: skip
    (name, fun), known_ = setting, Covariance(*known)
    functions, args = of_arrays({"fun": fun}, args)
    x, unravel = tree.ravel(params)

    def returned(x: Array) -> PyTree:
        value = functions["fun"](unravel(x), *args)  # type: ignore[misc]
        check_leaves(name, "value", value)
        return value

    value = returned(x)
    flat, as_tree = tree.ravel(value)
    _, push = jax.linearize(lambda x: tree.ravel(returned(x))[0].astype(x.dtype), x)
    G = jax.vmap(push, out_axes=-1)(jnp.eye(x.size, dtype=x.dtype))
    length = safe_sqrt(jnp.sum((G @ known_.root) ** 2, axis=1))
    spread = jnp.where(length > 0, jnp.sqrt(known_.variance) * length, 0)
    share = float(np.finfo(x.dtype).eps) ** 0.5 * (jnp.abs(G) @ jnp.abs(known_.null))
    spread = jnp.where(jnp.any(jnp.abs(G @ known_.null) > share, axis=1), jnp.inf, spread)
    half = student_quantile(jnp.asarray(level).astype(x.dtype), known_.freedom.astype(x.dtype)) * spread
    lower, upper, error = (as_tree(side.astype(flat.dtype)) for side in (flat - half, flat + half, spread))
    return ConfidenceBand(value, lower, upper, error)


def student_quantile(level: Array, freedom: Array) -> Array:
    """t with P(|T| <= t) = level, T of Student's distribution with `freedom` degrees; float[] each.

    I_y(1/2, nu/2) = level, y = t**2 / (nu + t**2)    Abramowitz & Stegun 1964, 26.5.27, by bisection of log t
    z + (z**3 + z) / (4 nu) + …, z the normal quantile   26.7.5, for more than 1000 degrees and for infinitely many
    """
    nu = jnp.clip(freedom, 1.0, MANY)

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = 0.5 * (low + high)
        square = jnp.exp(2 * middle)
        less = jax.scipy.special.betainc(jnp.full_like(nu, 0.5), nu / 2, square / (nu + square)) < level
        return jnp.where(less, middle, low), jnp.where(less, high, middle)

    ends = (jnp.full_like(nu, -20.0), jnp.full_like(nu, 36.0))
    few = jnp.exp(sum(jax.lax.fori_loop(0, 60, halve, ends)) / 2)
    z, n = jax.scipy.special.ndtri((1 + level) / 2), jnp.maximum(freedom, MANY)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return jnp.where(freedom > MANY, z + sum(term / n**k for k, term in enumerate(terms, start=1)), few)
