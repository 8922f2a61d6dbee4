"""`curve_fit`: the parameters of a curve through measured points, and how well they are known."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial
from jax.tree_util import tree_flatten_with_path as flatten_with_path

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import drop_weak_types
from jaxopt_ko.drivers.covariance import (
    ConfidenceBand,
    Covariance,
    Setting,
    band,
    check_kind,
    statistics,
    student_quantile,
)
from jaxopt_ko.drivers.least_squares import DEFAULT_FIT, Fit
from jaxopt_ko.drivers.reports import Report
from jaxopt_ko.drivers.run import Data, RunStart, run
from jaxopt_ko.errors import HyperparameterError, TransformationError, TreeError, describe, say
from jaxopt_ko.solvers.problem.robust_losses import LOSSES, check_loss
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree, Solution

ROWS = 30  # parameters that a fit shows of itself, at most


class CurveFit(NamedTuple):
    """What `curve_fit` returns."""

    params: Params  # like p0, the best found
    standard_errors: PyTree  # like params
    covariance: Array  # float[n,n]  of the parameters in the order of jax.tree.leaves
    solution: Solution  # of the sum of squares: status, value, evaluations
    statistics: Covariance  # what `covariance` returns: degrees of freedom, variance, what is fixed or undetermined
    model: Any  # (params, x) -> f(x, *params)

    def predict(self, x: Any) -> PyTree:
        """The curve: f(x, *params)."""
        return self.model(self.params, x)

    def band(self, x: Any, level: Any = 0.95) -> ConfidenceBand:
        """The curve at x, and the interval that holds its true value with the probability level: `confidence_band`."""
        return band("curve_fit", self.model.func, self.params, self.statistics, (x,), level)

    def interval(self, level: Any = 0.95) -> tuple[Params, Params]:
        """Lower and upper ends, like params, of the interval that holds each parameter with the probability level."""
        errors.check_number("curve_fit", "level", level, errors.OPEN_FRACTION)
        freedom = self.statistics.freedom
        times = student_quantile(jnp.asarray(level).astype(freedom.dtype), freedom)

        def end(sign: float) -> Params:
            return jax.tree.map(
                lambda p, e: p + (sign * times).astype(e.dtype) * jnp.where(e == 0, 0, e),
                self.params, self.standard_errors,
            )  # fmt: skip

        return end(-1.0), end(1.0)

    def __repr__(self) -> str:
        """How the run ended, a row for each parameter with its standard error, and the size of an error."""
        try:
            rows = self._rows()
        except Exception:  # it is traced, of many fits, or deleted
            return f"CurveFit({self.solution!r}, params={self.params}, standard_errors={self.standard_errors})"
        return "\n  ".join([f"CurveFit({self.solution.status!r}", *rows]) + ")"

    def _rows(self) -> list[str]:
        names = self.model.func.names(self.params)
        values, deviations = (
            [number for leaf in jax.tree.leaves(side) for number in np.ravel(np.asarray(leaf))]
            for side in (self.params, self.standard_errors)
        )
        width = max(map(len, names[:ROWS]))
        rows = [
            f"{name:{width}} = {value:.7g} ± {deviation:.2g}"
            for name, value, deviation in zip(names[:ROWS], values, deviations, strict=False)
        ]
        more = [f"and {len(names) - ROWS} more"] if len(names) > ROWS else []
        freedom, variance = float(self.statistics.freedom), float(self.statistics.variance)
        left = f"{freedom:g} degrees of freedom"
        size = left if variance == 1 else f"s = {variance**0.5:.4g}, {left}"
        size = "errors as given by sigma" if np.isinf(freedom) else size
        return [*rows, *more, size]


@options
def curve_fit(
    f: Callable[..., PyTree],
    x: Any,
    y: PyTree,
    p0: Params | None = None,
    sigma: PyTree = None,
    absolute_sigma: bool = False,
    *,
    bounds: tuple[PyTree, PyTree] | None = None,
    loss: str | Callable[[Array], Array] = "linear",
    loss_scale: Any = 1.0,
    kind: str = "curvature",
    method: GradientTransformation = DEFAULT_FIT,
    tol: Hyper | None = None,
    max_steps: int | None = None,
    verbose: bool = False,
    callback: Callable[[Report], Any] | None = None,
    max_seconds: float | None = None,
) -> CurveFit:
    """The curve of a family that comes closest to measured points, with the standard errors of its parameters.

    min sum ((f(x, *params) - y) / sigma)**2 / 2,   or by a robust loss of what is squared

    f: the family, called as SciPy's curve_fit does: f(x, a, k, c), the parameters by their places where p0 is a vector,
        a list or a tuple, and by their names, f(x, a=…, k=…, c=…), where it is a dict. Each may be a tree itself.
        It returns what is like y, by JAX's functions.
    x: where was measured: whatever f takes, not moved.
    y: what was measured: an array of numbers, complex ones too, or a tree of arrays: m numbers in all.
    p0: the start: numbers in a vector, list or tuple, a tuple of trees, a dict, or one number; None: 1 for each
        parameter that f names.
    sigma: the standard errors of y: one number > 0, a tree like y, or of a vector y the covariance float[m,m] of its
        errors; None: they have one size.
    absolute_sigma: is sigma in y's units? Else only its proportions count, and the size is estimated from how closely
        the curve fits.
    bounds: (lower, upper), each None, a number or a tree like p0; f is never evaluated outside. A parameter that ends
        at a bound is taken as fixed.
    loss: "linear", or, so that outliers count less, "huber", "soft_l1", "cauchy", "arctan" or a function rho(z).
    loss_scale: the size of (f - y) / sigma from which on a point is an outlier, > 0.
    kind: "curvature", SciPy's formula, or "sandwich", for errors whose sizes sigma does not know, and to be taken with
        a robust loss: see `covariance`.
    method: levenberg_marquardt() unless another is given, see `least_squares`.
    tol: in the place of the method's own gtol and xtol, >= 0; None: those.
    max_steps: updates, an int >= 0, traced too; None: 10,000.
    verbose: print a row for every update.
    callback: called with a `Report` of every update, see `least_squares`. None: nobody.
    max_seconds: the fit ends when they are over, see `least_squares`. None: no limit.

    Returns a `CurveFit`: params and standard_errors like p0, covariance, solution, predict(x), band(x), interval();
    printed it is a table. Errors are by the linear model at the solution, see `covariance` for what is inf or 0. Pure:
    jitted inside, so that a second call with the same f and data of the same shape compiles nothing; it may be
    vmapped over x, y, p0 and sigma, and params may be differentiated by them.

    Raises TransformationError if f does not take x and the parameters of p0; TreeError, when traced, if what it returns
    is not like y, or sigma is not; HyperparameterError for a sigma that is not positive. A run that fails says so in
    `solution.status`. Source: see `least_squares` and `covariance`. Not for errors in x, nor for sums that are not of
    squares: `minimize`.

    >>> t = jnp.array([0.0, 1.0, 2.0, 3.0])
    >>> fit = jo.curve_fit(lambda t, a, b: a + b * t, t, jnp.array([1.1, 2.9, 5.1, 6.9]))
    >>> fit
    CurveFit(Status(...)
      a = 1.06 ± 0.11
      b = 1.96 ± 0.057
      s = 0.1265, 2 degrees of freedom)
    >>> [round(float(edge[0]), 2) for edge in fit.band(jnp.array([4.0]))[:3]]
    [8.9, 8.23, 9.57]
    """
    name = "curve_fit"
    errors.check_function(name, "f", f)
    check_loss(name, loss, LOSSES)
    errors.check_number(name, "loss_scale", loss_scale, errors.POSITIVE)
    check_kind(name, absolute_sigma, kind)
    p0 = _start(name, f, p0)
    how = "name" if isinstance(p0, Mapping) else "place" if isinstance(p0, tuple | list) or np.ndim(p0) else "one"
    _check_call(name, f, p0, how)
    x, y = (np.asarray(side) if isinstance(side, list) else side for side in (x, y))
    y = jax.tree.map(_floating, y)
    sigma, whiten = _errors_of(name, sigma, y)
    problem = Curve(f, how, whiten, loss)
    data = Data((x, y, sigma), _bounds(bounds, p0), loss_scale)
    limits: dict[str, Any] = {
        "tol": tol, "max_steps": max_steps, "callback": callback, "max_seconds": max_seconds,
    }  # fmt: skip
    solution = run(problem, method, p0, data, **limits, verbose=verbose, derivative="implicit")
    setting = Setting(name, problem, absolute_sigma, kind)
    known: Covariance = statistics(setting, drop_weak_types(solution.params), data)
    model = Partial(Model(f, how))  # type: ignore[no-untyped-call]
    return CurveFit(solution.params, known.standard_errors, known.matrix, solution, known, model)


@dataclasses.dataclass(frozen=True)
class Model:
    """A family of curves as a function of (params, x)."""

    function: Callable[..., Any]
    how: str  # its parameters come by "name", by "place" or as "one"

    def __call__(self, params: Params, x: Any) -> PyTree:
        """The curve."""
        if self.how == "name":
            return self.function(x, **params)
        return self.function(x, *params) if self.how == "place" else self.function(x, params)

    def names(self, params: Params) -> list[str]:
        """What each number among the parameters is called."""
        if self.how == "name":
            paths = [(str(key.key), path, leaf) for (key, *path), leaf in flatten_with_path(params)[0]]
        else:
            parts = list(params) if self.how == "place" else [params]
            names = _names_of(self.function, len(parts))
            paths = [(names[key.idx], path, leaf) for (key, *path), leaf in flatten_with_path(parts)[0]]
        return [
            stem + jax.tree_util.keystr(tuple(path)) + (f"[{', '.join(map(str, index))}]" if index else "")
            for stem, path, leaf in paths
            for index in np.ndindex(np.shape(leaf))
        ]


def _names_of(f: Callable[..., Any], n: int) -> list[str]:
    """The names of f's n parameters behind x, numbers where it has none."""
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        names = [p.name for p in inspect.signature(f).parameters.values() if p.kind in places][1:]
    except (TypeError, ValueError):
        names = []
    return [names[i] if i < len(names) else f"p{i}" for i in range(n)]


def _start(name: str, f: Callable[..., Any], p0: Any) -> Params:
    """p0 as a tree of floating arrays: a list or tuple of plain numbers as a vector."""
    if p0 is None:
        return _ones(name, f)
    plain = isinstance(p0, list) or type(p0) is tuple
    if plain and len(p0) and all(isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in p0):
        p0 = np.asarray(p0)
    if not isinstance(p0, Mapping | tuple | list) and not (
        hasattr(p0, "shape") or isinstance(p0, int | float | complex)
    ):
        say(TreeError, name, "p0 must be numbers in a vector, a list or a tuple, a tuple of trees, or a dict",
            describe(p0), "To hand one tree over whole as f(x, tree), give (tree,)")  # fmt: skip
    return jax.tree.map(_floating, p0)


def _ones(name: str, f: Callable[..., Any]) -> Any:
    """A start where none is given: 1 for each parameter that f names."""
    try:
        named = [p for p in inspect.signature(f).parameters.values() if p.default is p.empty]
        known = all(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in named)
    except (TypeError, ValueError):
        named, known = [], False
    if not known or len(named) < 2:
        say(TransformationError, name, "f does not say how many parameters it has", describe(f), "Give p0")
    return np.ones(len(named) - 1)


def _floating(leaf: Any) -> Any:
    """Numbers that were written without a point as floating ones."""
    if isinstance(leaf, int) and not isinstance(leaf, bool):
        return float(leaf)
    whole = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.integer)
    return leaf.astype(jax.dtypes.canonicalize_dtype(np.float64)) if whole else leaf


def _check_call(name: str, f: Callable[..., Any], p0: Any, how: str) -> None:
    """Can f be called with these?"""
    if how == "place" and hasattr(p0, "shape") and np.ndim(p0) != 1:
        say(TreeError, name, "p0 must be a vector if it is an array", describe(p0),
            "To hand an array over whole as f(x, array), give (array,)")  # fmt: skip
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return
    keywords = dict(p0) if how == "name" else {}
    places = [None] * (len(p0) if how == "place" else 0 if how == "name" else 1)
    try:
        signature.bind(None, *places, **keywords)
    except TypeError:
        called = ", ".join(f"{key}=…" for key in keywords) if how == "name" else f"{len(places)} parameters"
        say(TransformationError, name, f"f must take x and each parameter of p0 by itself: f(x, {called})",
            f"f{signature}", "If yours takes all of them at once, f(x, params), give p0 as the tuple (p0,), or write "
            "lambda x, *p: f(x, p)")  # fmt: skip


def _errors_of(name: str, sigma: Any, y: PyTree) -> tuple[Any, str]:
    """sigma as arrays, or the Cholesky factor of a covariance, and what is made with it."""
    if sigma is None:
        return None, ""
    sigma = np.asarray(sigma) if isinstance(sigma, list) else sigma
    leaves = jax.tree.leaves(y)
    m = np.shape(leaves[0])[0] if len(leaves) == 1 and np.ndim(leaves[0]) == 1 else None
    if m is not None and np.shape(sigma) == (m, m) and hasattr(sigma, "dtype"):
        factor = jnp.linalg.cholesky(jnp.asarray(_floating(sigma)))
        if not isinstance(factor, jax.core.Tracer) and not bool(jnp.all(jnp.isfinite(factor))):
            say(HyperparameterError, name, "sigma must be positive definite if it is a matrix", describe(sigma),
                "Give the covariance of the errors of y, or their standard errors as a vector")  # fmt: skip
        return factor, "matrix"
    if np.shape(sigma) == () and not isinstance(sigma, Mapping):
        sigma = jax.tree.map(lambda _: sigma, y)
    if not tree.alike(sigma, y) and not (
        tree.structure(sigma) == tree.structure(y) and all(np.shape(s) == () for s in jax.tree.leaves(sigma))
    ):
        say(TreeError, name, "sigma must be one number, or like y", f"{describe(sigma)} for {describe(y)}",
            "Give a standard error for each number of y, or of a vector y the covariance float[m,m]")  # fmt: skip
    sigma = jax.tree.map(_floating, sigma)
    for index, leaf in enumerate(jax.tree.leaves(sigma)):
        if not isinstance(leaf, jax.core.Tracer) and not np.all(np.asarray(leaf) > 0):
            say(HyperparameterError, name, "sigma must be positive",
                f"{np.min(np.asarray(leaf))} in the leaf {errors.path_of(sigma, index)}",
                "Leave points out that are not to count")  # fmt: skip
    return sigma, "sizes"


def _bounds(bounds: Any, p0: Any) -> Any:
    """Bounds of a vector may be lists."""
    if not isinstance(bounds, tuple | list) or len(bounds) != 2 or np.ndim(p0) != 1 or isinstance(p0, tuple | list):
        return bounds
    ends = (-np.inf, np.inf)
    return tuple(
        np.asarray([end if v is None else v for v in side], float) if isinstance(side, tuple | list) else side
        for side, end in zip(bounds, ends, strict=True)
    )


class Curve(NamedTuple):
    """The problem of `curve_fit`; its args are x, y and the errors of y."""

    model: Callable[..., Any]  # f, and in a run the residuals (params, *args)
    how: str  # as in `Model`
    whiten: str  # by "sizes", by the factor of a "matrix", or not
    loss: Any

    @property
    def name(self) -> str:
        """The driver's."""
        return "curve_fit"

    @property
    def functions(self) -> dict[str, Callable[..., Any] | None]:
        """Of (params, *args)."""
        return {"model": self.residuals}

    @property
    def fit(self) -> Fit:
        """The problem of `least_squares`, once the model is that of the residuals."""
        return Fit(self.model, None, self.loss, False)

    def residuals(self, params: Params, x: Any, y: PyTree, sigma: Any) -> PyTree:
        """(f(x, *params) - y) / sigma, like y."""
        made = Model(self.model, self.how)(params, x)
        if not tree.alike(made, y):
            say(TreeError, "curve_fit", "f must return what is like y", f"{describe(made)} for {describe(y)}",
                "Check its shape: broadcasting would make many differences of one point")  # fmt: skip

        def less(a: Any, b: Any) -> Array:
            a, b = jnp.asarray(a), jnp.asarray(b)
            wide = jnp.promote_types(a.dtype, b.dtype)
            difference: Array = a.astype(wide) - b.astype(wide)
            return difference

        left = jax.tree.map(less, made, y)
        if self.whiten == "sizes":
            return jax.tree.map(lambda r, s: r / jnp.asarray(s).astype(r.dtype), left, sigma)
        if self.whiten == "matrix":
            return jax.tree.map(lambda r: jax.scipy.linalg.solve_triangular(sigma.astype(r.dtype), r, lower=True), left)
        return left

    def start(self, method: GradientTransformation, params: Params, data: Data, tol: Any) -> RunStart:
        """As of `least_squares`."""
        return self.fit.start(method, params, data, tol)

    def judge(self, solution: Solution, start: Params, data: Data, tol: Any) -> Solution:
        """As the method says."""
        return solution

    def differentiate(
        self, solution: Solution, method: GradientTransformation, data: Data, symmetric_cg: bool
    ) -> Solution:
        """By gradient of the cost = 0."""
        return self.fit.differentiate(solution, method, data, symmetric_cg)
