"""Curvature by products with the Hessian alone: the ends of its spectrum, its condition, its trace and density.

H is the Hessian of fun(params, *args), n by n, in products H v by forward over reverse mode. Every function is one
compiled call for each `fun`: a new lambda is a new function.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.analysis.lanczos import combine, lanczos
from jaxopt_ko.analysis.tridiagonal import Tridiagonal, ends, least_singular
from jaxopt_ko.analysis.vectors import (
    ScalarFn,
    arrays,
    coarsest_eps,
    direction,
    gradient_of,
    hessian_product,
    random_tree,
    wide,
)
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args, check_leaf
from jaxopt_ko.core.numerics import first_true
from jaxopt_ko.core.signature import options
from jaxopt_ko.drivers.compiled import drop_weak_types, jitted
from jaxopt_ko.errors import TreeError, describe, say
from jaxopt_ko.types import MessageEnum, Params, PyTree

SMALL = 2048  # parameters up to which all steps are made, and the basis is kept, by default
STEPS = 256  # beyond
ROUND_OFF = 4  # times eps |H|, that a singular value may be off by rounding


class Extremes(NamedTuple):
    """The ends of the Hessian's spectrum."""

    smallest: Array  # float[]          the most negative eigenvalue
    largest: Array  # float[]
    smallest_vector: Params  # like params  its eigenvector, of length 1
    largest_vector: Params  # like params
    smallest_error: Array  # float[]    |H x - lambda x|: an eigenvalue is no further away than this
    largest_error: Array  # float[]
    steps: Array  # int32[]             of Lanczos


class Condition(NamedTuple):
    """The condition number, and what it is made of."""

    number: Array  # float[]          largest / smallest, infinite if that is 0
    largest: Array  # float[]         singular value of H, from below
    smallest: Array  # float[]        from above
    largest_error: Array  # float[]   a singular value is no further away than this
    smallest_error: Array  # float[]
    steps: Array  # int32[]           products with H


class Trace(NamedTuple):
    """An estimate of the Hessian's trace."""

    value: Array  # float[]
    error: Array  # float[]  its standard deviation, estimated


class Spectrum(NamedTuple):
    """The density of the Hessian's eigenvalues, which integrates to 1."""

    grid: Array  # float[points]
    density: Array  # float[points]         the nodes, each blurred to a Gaussian
    nodes: Array  # float[probes, steps]
    weights: Array  # float[probes, steps]  each probe's sum to 1


class Kind(MessageEnum):
    """The kinds of a point, with what they mean."""

    NOT_CRITICAL = 0, "Not a critical point: the gradient is not zero."
    MINIMUM = 1, "A strict local minimum: every curvature is positive."
    MAXIMUM = 2, "A strict local maximum: every curvature is negative."
    SADDLE = 3, "A saddle: curvatures of both signs, and the escape direction leads down."
    DEGENERATE = 4, "Undecided: a curvature is zero, as far as can be told; look at higher derivatives."


class CriticalPoint(NamedTuple):
    """What kind of point it is."""

    kind: Array  # int32[]           one of Kind
    escape: Params  # like params    eigenvector of the most negative eigenvalue, downhill; 0 if none is negative
    gradient_norm: Array  # float[]
    extremes: Extremes

    @property
    def sentence(self) -> str:
        """What the kind of one point means."""
        return Kind(int(self.kind)).sentence  # type: ignore[call-arg]


class _Setting(NamedTuple):
    name: str
    fun: ScalarFn
    steps: int
    keep: bool  # is the basis kept?


def _prepare(
    name: str, fun: ScalarFn, params: Params, args: tuple[Any, ...], steps: int | None, keep: bool | None
) -> _Setting:
    errors.check_function(name, "fun", fun)
    check_args(name, args)
    n = _check_some(name, params)
    kept = n <= SMALL if keep is None else bool(keep)
    many = (n if n <= SMALL else STEPS) if steps is None else errors.check_size(name, "steps", steps)
    return _Setting(name, fun, min(many, n) if kept else max(many, 2), kept)


def _check_some(name: str, params: PyTree) -> int:
    """Parameters to differentiate by: how many elements they have in all, one at least."""
    leaves = jax.tree.leaves(params)
    for index, leaf in enumerate(leaves):
        check_leaf(name, "params", params, index, leaf)
    n = sum(math.prod(np.shape(leaf)) for leaf in leaves)
    if n == 0:
        say(TreeError, name, "params must have an element", describe(params), "A function of nothing has no curvature")
    return n


@options
def hessian_extremes(
    fun: ScalarFn,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    steps: int | None = None,
    tol: float = 1e-3,
    keep_basis: bool | None = None,
) -> Extremes:
    """The smallest and the largest eigenvalue of H, with eigenvectors, by Lanczos.

    T y = theta y,  x = V y:  |H x - theta x| = beta_m |y_m|

    fun: (params, *args) -> float[]; H is its Hessian by params.
    params: the parameters, a tree of real floating arrays, n elements in all.
    args: what fun is given besides, trees of arrays.
    key: of the first vector, a PRNG key, typed or raw, or an integer seed.
    steps: at most, an int >= 1; None: n if n <= 2,048, else 256. Costs one product a step, and as many again for each
        vector, which is summed up in another run of the recurrence; five copies of the parameters beside the result.
    tol: it ends once both residuals are <= tol |theta|; > 0, 1e-3 by default: three digits.
    keep_basis: keep V, steps times n numbers, orthogonal; None: if n <= 2,048. The ends do not need it: without, T
        holds copies of eigenvalues found, and some steps are lost.

    Returns `Extremes`. Raises TreeError for params without an element, or, when traced, if fun returns no real number;
    HyperparameterError for steps or tol outside their domain. Source: Lanczos 1950; Golub & Van Loan, section 10.1. The
    smallest eigenvalue has the precision of H, eps |H|, and no better: in float32 it says little below 1e-6 of the
    largest. Not for the smallest in absolute value: `condition_number`.

    >>> found = jo.diagnose.hessian_extremes(lambda x: x[0] ** 2 + 5 * x[1] ** 2, jnp.ones(2), key=0)
    >>> round(float(found.largest), 4)
    10.0
    """
    run = _prepare("hessian_extremes", fun, params, args, steps, keep_basis)
    errors.check_number(run.name, "tol", tol, errors.POSITIVE)
    found: Extremes = _extremes(run, drop_weak_types(params), args, errors.check_key("hessian_extremes", key), tol)
    return found


@jitted
def _extremes(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, tol: Any) -> Extremes:
    name, fun, steps, keep = run
    params = arrays(params)
    product = hessian_product(name, fun, params, args)

    def look(T: Tridiagonal) -> tuple[Array, tuple[Array, list[Array]]]:
        values, ys, residuals = ends(T)
        return jnp.all(residuals <= tol * jnp.abs(values)), (values, ys)

    T, (values, ys), basis = lanczos(product, direction(key, params), steps, keep, look)
    after = values[0]
    found: list[tuple[Array, PyTree, Array]] = []
    for y in ys:  # one after the other, for the room of a vector
        x = combine(product, direction(key, params, after), T, y, basis)
        image = product(x)
        value = after = tree.vdot(x, image)
        residual = tree.global_norm(tree.add_scale(image, -value, x))
        found.append((value, tree.cast_like(x, params), residual))
    (low, x_low, r_low), (high, x_high, r_high) = found
    return Extremes(low, high, x_low, x_high, r_low, r_high, T.rows)


@options
def condition_number(
    fun: ScalarFn,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    steps: int | None = None,
    tol: float = 1e-3,
    keep_basis: bool | None = None,
) -> Condition:
    """The largest over the smallest singular value of H: max|lambda| / min|lambda|, H definite or not.

    smallest = min_y |H V y| / |y| = sigma_min([T; beta_m e_m'])    (never below that of H, and falling with m)
    error: of the eigenpair (x, u) of [0 H; H 0] that x = V y and u = H x / sigma make

    fun, params, args, key: as of `hessian_extremes`.
    steps: at most, an int >= 1; None: n if n <= 2,048, else 256.
    tol: it ends once the errors are <= tol of their values; > 0.
    keep_basis: keep V, steps times n numbers, orthogonal: then n steps are exact, whatever the spectrum, and the number
        is off by no more than rounding. None: if n <= 2,048. A step costs a product and four passes over V: all n cost
        more than the dense jax.hessian; well-conditioned problems take far fewer.

    Returns a `Condition`. Without V five copies of the parameters are enough, beside what a gradient takes, but an
    eigenvalue close to 0 in the midst of others is found slowly: in 1 to 3 n steps for spectra spread evenly, in more
    than 10 n for one spread over four decades. Stopped before, number is a lower bound, smallest_error not small.
    Raises what `hessian_extremes` raises. Fails where 1 / number is no more than eps, rounding in H: in float32 the
    number is off by about 1e-7 number, relatively. Not for networks: they have 0 among their eigenvalues.

    >>> found = jo.diagnose.condition_number(lambda x: x[0] ** 2 + 5 * x[1] ** 2, jnp.ones(2), key=0)
    >>> round(float(found.number), 3)
    5.0
    """
    run = _prepare("condition_number", fun, params, args, steps, keep_basis)
    errors.check_number(run.name, "tol", tol, errors.POSITIVE)
    found: Condition = _condition(run, drop_weak_types(params), args, errors.check_key("condition_number", key), tol)
    return found


@jitted
def _condition(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, tol: Any) -> Condition:
    name, fun, steps, keep = run
    params = arrays(params)

    def look(T: Tridiagonal) -> tuple[Array, tuple[Array, ...]]:
        values, _, residuals = ends(T)
        far = jnp.abs(values)
        largest, error = jnp.max(far), residuals[jnp.argmax(far)]
        smallest, smallest_error = least_singular(T)
        done = (error <= tol * largest) & (smallest_error <= tol * smallest)
        return done, (largest, error, smallest, smallest_error)

    T, seen, _ = lanczos(hessian_product(name, fun, params, args), direction(key, params), steps, keep, look)
    largest, largest_error, smallest, smallest_error = seen
    number = jnp.where(smallest > 0, largest / jnp.where(smallest > 0, smallest, 1), jnp.inf)
    rounding = ROUND_OFF * coarsest_eps(params) * largest
    return Condition(number, largest, smallest, largest_error + rounding, smallest_error + rounding, T.rows)


@options
def critical_point(
    fun: ScalarFn,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    steps: int | None = None,
    gtol: float | None = None,
    ctol: float | None = None,
) -> CriticalPoint:
    """Minimum, maximum, saddle, or none of them: by the gradient and the ends of H's spectrum.

    critical:            |g| <= gtol |lambda|_max max(|x|, 1): such steps of Newton's may be as short as gtol |x|
    lambda is not zero:  |lambda| > ctol |lambda|_max, and more than its error

    fun, params, args, key, steps: as of `hessian_extremes`, which also says what it costs.
    gtol: >= 0; None: eps**(2/3), of the coarsest dtype among the parameters.
    ctol: >= 0; None: the same.

    Returns a `CriticalPoint`; its sentence says the kind in words. Where a network's smallest curvatures, a cluster at
    0, decide, the answer is DEGENERATE unless one is negative. At a point that is not critical, `escape` is still the
    direction of negative curvature, if there is one. Raises what `hessian_extremes` raises. Not for corners of f.

    >>> point = jo.diagnose.critical_point(jo.landscapes.saddle, jnp.zeros(2), key=0)
    >>> point.sentence
    'A saddle: curvatures of both signs, and the escape direction leads down.'
    """
    name = "critical_point"
    run = _prepare(name, fun, params, args, steps, None)
    for argument, value in (("gtol", gtol), ("ctol", ctol)):
        if value is not None:
            errors.check_number(name, argument, value, errors.NONNEGATIVE)
    found: CriticalPoint = _critical(run, drop_weak_types(params), args, errors.check_key(name, key), gtol, ctol)
    return found


@jitted
def _critical(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, gtol: Any, ctol: Any) -> CriticalPoint:
    params = arrays(params)
    found: Extremes = _extremes(run, params, args, key, 1e-3)
    g = wide(gradient_of(run.name, run.fun, args)(params))
    default = coarsest_eps(params) ** (2 / 3)
    low, high, size = found.smallest, found.largest, tree.global_norm(g)
    most = jnp.maximum(jnp.abs(low), jnp.abs(high))
    length = jnp.maximum(tree.global_norm(params).astype(most.dtype), 1)
    flat = (default if ctol is None else ctol) * most
    flat_low, flat_high = jnp.maximum(flat, found.smallest_error), jnp.maximum(flat, found.largest_error)
    critical = size <= (default if gtol is None else gtol) * most * length
    down = low < -flat_low
    kind = first_true(
        [~critical, low > flat_low, high < -flat_high, down & (high > flat_high)],
        [Kind.NOT_CRITICAL, Kind.MINIMUM, Kind.MAXIMUM, Kind.SADDLE],
        Kind.DEGENERATE,
    )
    slope = tree.vdot(g, wide(found.smallest_vector))
    sign = jnp.where(down, jnp.where(slope > 0, -1, 1), 0)
    escape = jax.tree.map(lambda x: sign.astype(x.dtype) * x, found.smallest_vector)
    return CriticalPoint(kind, escape, size, found)


def hessian_trace(
    fun: ScalarFn,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    probes: int = 32,
    method: str = "hutchinson",
) -> Trace:
    """The trace of H by products with random signs, with its standard error.

    tr(H) = E[z'H z] for random signs z, the mean over `probes` of them

    fun, params, args, key: as of `hessian_extremes`.
    probes: products, an int >= 2, 6 for hutch++; the error falls as 1 / sqrt(probes).
    method: "hutchinson"; or "hutch++" (arXiv:2010.09649, algorithm 1): tr(Q'H Q) exactly, Q an orthonormal basis of H
        times a third of the probes, and the rest of the trace as above with a third; better where few eigenvalues are
        large. It stores Q, probes / 3 copies of the parameters.

    Returns a `Trace`, value and error. Raises HyperparameterError for too few probes or another method, and what
    `hessian_extremes` raises. Source: Hutchinson 1990, doi:10.1080/03610919008812866. Not for single digits: the
    standard error of few probes is itself rough.

    >>> trace = jo.diagnose.hessian_trace(lambda x: jnp.sum(x**2), jnp.ones(2), key=0)
    >>> float(trace.value)
    4.0
    """
    name = "hessian_trace"
    errors.check_choice(name, "method", method, ["hutchinson", "hutch++"])
    errors.check_size(name, "probes", probes, 2 if method == "hutchinson" else 6)
    _prepare(name, fun, params, args, None, None)
    run = (fun, probes, method)
    found: Trace = _trace(run, drop_weak_types(params), args, errors.check_key(name, key))
    return found


@jitted
def _trace(run: tuple[ScalarFn, int, str], params: Params, args: tuple[Any, ...], key: Array) -> Trace:
    fun, probes, method = run
    params = arrays(params)
    product = hessian_product("hessian_trace", fun, params, args)

    def sign(key: Array) -> PyTree:
        return random_tree(key, params, jax.random.rademacher)

    def form(x: PyTree) -> Array:
        return tree.vdot(x, product(x))

    def mean(terms: Array) -> tuple[Array, Array]:
        return jnp.mean(terms), jnp.std(terms, ddof=1) / math.sqrt(terms.size)

    if method == "hutchinson":
        return Trace(*mean(jax.lax.map(lambda k: form(sign(k)), jax.random.split(key, probes))))
    zero, unravel = tree.ravel(jax.tree.map(jnp.zeros_like, wide(params)))
    many = probes // 3
    keys = jax.random.split(key, 2 * many)
    images = jax.lax.map(lambda k: tree.ravel(product(sign(k)))[0], keys[: min(many, zero.size)])
    Q, _ = jnp.linalg.qr(images.T)
    exact = jnp.sum(jax.lax.map(lambda q: form(unravel(q)), Q.T))

    def rest(k: Array) -> Array:
        z = tree.ravel(sign(k))[0]
        return form(unravel(z - Q @ (z @ Q)))

    value, error = mean(jax.lax.map(rest, keys[many:]))
    return Trace(exact + value, error)


@options
def spectral_density(
    fun: ScalarFn,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    steps: int = 64,
    probes: int = 4,
    points: int = 256,
    width: float = 0.02,
) -> Spectrum:
    """The density of H's eigenvalues, by stochastic Lanczos quadrature.

    T = U diag(nodes) U',  weights = U[0]**2    for each of `probes` random starts
    density(t) = mean over probes of sum_i weights_i N(t; nodes_i, s**2)

    fun, params, args, key: as of `hessian_extremes`.
    steps: nodes of each start, an int >= 1, n at most; 2 steps - 1 moments of each start's spectrum are exact.
    probes: random starts, an int >= 1.
    points: of the grid, an int >= 2.
    width: s over the range of the nodes, > 0; 0.02 keeps peaks apart that are a twentieth of the range from each other.

    Returns a `Spectrum`. Where the basis is not kept (n > 2,048) nodes may come twice, and share their weight. Raises
    what `hessian_extremes` raises. Source: Ghorbani, Krishnan & Xiao 2019, arXiv:1901.10159. Not for single small
    eigenvalues: one among n weighs 1 / n.

    >>> spectrum = jo.diagnose.spectral_density(lambda x: x[0] ** 2 + 5 * x[1] ** 2, jnp.ones(2), key=0, points=8)
    >>> spectrum.density.shape
    (8,)
    """
    name = "spectral_density"
    for argument, value, least in (("probes", probes, 1), ("points", points, 2)):
        errors.check_size(name, argument, value, least)
    errors.check_number(name, "width", width, errors.POSITIVE)
    run = (_prepare(name, fun, params, args, steps, None), probes, points)
    found: Spectrum = _spectrum(run, drop_weak_types(params), args, errors.check_key(name, key), width)
    return found


@jitted
def _spectrum(
    run: tuple[_Setting, int, int], params: Params, args: tuple[Any, ...], key: Array, width: Any
) -> Spectrum:
    (name, fun, steps, keep), probes, points = run
    params = arrays(params)
    product = hessian_product(name, fun, params, args)
    no = jnp.zeros((), bool)

    def one(key: Array) -> tuple[Array, Array]:
        T, *_ = lanczos(product, direction(key, params), steps, keep, lambda _: (no, None))
        inside = T.beside.at[T.rows - 1].set(0)[:-1]
        nodes, U = jnp.linalg.eigh(jnp.diag(T.diagonal) + jnp.diag(inside, 1) + jnp.diag(inside, -1))
        return nodes, U[0] ** 2

    nodes, weights = jax.lax.map(one, jax.random.split(key, probes))
    some = weights > 0  # the others are rows that were not made
    low, high = (f(nodes, where=some, initial=i) for f, i in ((jnp.min, jnp.inf), (jnp.max, -jnp.inf)))
    least = float(np.finfo(nodes.dtype).eps)
    s = jnp.asarray(width, nodes.dtype) * jnp.maximum(high - low, least * jnp.maximum(jnp.abs(high), 1))
    grid = low - 4 * s + (high - low + 8 * s) * jnp.arange(points).astype(nodes.dtype) / (points - 1)

    def density(t: Array) -> Array:
        return jnp.sum(weights * jnp.exp(-(((t - nodes) / s) ** 2) / 2)) / (probes * math.sqrt(2 * math.pi) * s)

    return Spectrum(grid, jax.lax.map(density, grid), nodes, weights)
