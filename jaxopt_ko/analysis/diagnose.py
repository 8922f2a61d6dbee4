"""What stands in an optimizer's way: curvature by products with the Hessian alone, gradient noise, lost updates.

H is the Hessian of fun(params, *args), n by n, in products H v by forward over reverse mode. Lanczos's three-term
recurrence (Paige 1972, doi:10.1093/imamat/10.3.373) makes of them a tridiagonal T with

H V = V T + beta_m v_{m+1} e_m'     V = [v_1 ... v_m] orthonormal

of which V is stored only where asked for: without it a few vectors are enough for a million parameters.
Every function is one compiled call for each `fun`: a new lambda is a new function.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args, check_leaf, check_objective
from jaxopt_ko.core.numerics import first_true, next_count, ratio, zero_count
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.transform import transform
from jaxopt_ko.drivers.compiled import drop_weak_types, jitted
from jaxopt_ko.errors import HyperparameterError, TreeError, describe, say
from jaxopt_ko.types import GradientTransformation, MessageEnum, Params, PyTree, Updates

Function = Callable[..., Any]  # fun(params, *args) -> one number
Product = Callable[[PyTree], PyTree]  # v -> H v

SMALL = 2048  # parameters up to which all steps are made, and the basis is kept, by default
STEPS = 256  # beyond
CHECKS = 32  # that a run is looked at, to end it early
BLOCK = 4096  # random numbers that are drawn at a time
ROUND_OFF = 4  # times eps |H|, that a singular value may be off by rounding
SPLIT = 15  # points between the ends, in one pass of the search for an eigenvalue
SHIFTS = (1.0, -1.5, 3.5)  # times eps |T|, of inverse iteration


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


class NoiseScale(NamedTuple):
    """The gradient noise of a batch; average the last two over steps before their ratio is taken."""

    scale: Array  # float[]         B_simple = S / |G|**2: batches much larger than this gain little
    noise: Array  # float[]         S, trace of the covariance of one example's gradient
    squared_norm: Array  # float[]  |G|**2 of the true gradient: unbiased, so that it may be negative


# ---- curvature ------------------------------------------------------------------------------------------


@options
def hessian_extremes(
    fun: Function,
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

    Ends once both residuals are <= tol |theta|, or after `steps`: n by default if n <= 2,048, else 256. Costs one
    product a step, and as many again for each vector, which is summed up in another run of the recurrence; five
    copies of the parameters beside the result. keep_basis: keep V, steps times n numbers, orthogonal; by default if
    n <= 2,048. The ends do not need it: without, T holds copies of eigenvalues found, and some steps are lost.

    Raises TreeError, when traced, if fun returns no real number. The smallest eigenvalue has the precision of H, eps
    |H|, and no better; in float32 it says little below 1e-6 of the largest. For the smallest in absolute value:
    `condition_number`.
    """
    run = _prepare("hessian_extremes", fun, params, args, steps, keep_basis)
    errors.check_number(run.name, "tol", tol, errors.POSITIVE)
    found: Extremes = _extremes(run, drop_weak_types(params), args, errors.check_key("hessian_extremes", key), tol)
    return found


@options
def condition_number(
    fun: Function,
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

    Ends once the errors are <= tol of their values, or after `steps`: n by default if n <= 2,048, else 256.
    keep_basis: keep V, steps times n numbers, orthogonal: then n steps are exact, whatever the spectrum, and the
    number is off by no more than rounding. Default if n <= 2,048. A step costs a product and four passes over V: all n
    cost more than the dense jax.hessian, which is as large as V; well-conditioned problems take far fewer.

    Without V five copies of the parameters are enough, beside what a gradient takes, but an eigenvalue close to 0 in
    the midst of others is found slowly: in 1 to 3 n steps for spectra spread evenly, in more than 10 n for one spread
    over four decades. Stopped before, number is a lower bound, and smallest_error not small against smallest.

    Raises TreeError, when traced, if fun returns no real number. Fails where 1 / number is no more than eps, rounding
    in H: in float32 the number is off by about 1e-7 number, relatively. Not for networks: they have 0 among their
    eigenvalues.
    """
    run = _prepare("condition_number", fun, params, args, steps, keep_basis)
    errors.check_number(run.name, "tol", tol, errors.POSITIVE)
    found: Condition = _condition(run, drop_weak_types(params), args, errors.check_key("condition_number", key), tol)
    return found


def hessian_trace(
    fun: Function,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    probes: int = 32,
    method: str = "hutchinson",
) -> Trace:
    """tr(H) = E[z'H z] for random signs z, the mean over `probes` of them, with its standard error.

    method="hutchinson" (1990, doi:10.1080/03610919008812866): the error falls as 1 / sqrt(probes).
    method="hutch++" (arXiv:2010.09649, algorithm 1): tr(Q'H Q) exactly, Q an orthonormal basis of H times a third of
    the probes, and the rest of the trace as above with a third; better where few eigenvalues are large. It stores Q,
    probes / 3 copies of the parameters.

    Raises HyperparameterError for less than 2 probes, 6 for hutch++. The standard error of few probes is itself rough.
    """
    name = "hessian_trace"
    errors.check_choice(name, "method", method, ["hutchinson", "hutch++"])
    errors.check_size(name, "probes", probes, 2 if method == "hutchinson" else 6)
    _prepare(name, fun, params, args, None, None)
    run = (fun, probes, method)
    found: Trace = _trace(run, drop_weak_types(params), args, errors.check_key(name, key))
    return found


@options
def spectral_density(
    fun: Function,
    params: Params,
    *,
    args: tuple[Any, ...] = (),
    key: Array | int,
    steps: int = 64,
    probes: int = 4,
    points: int = 256,
    width: float = 0.02,
) -> Spectrum:
    """The density of H's eigenvalues, by stochastic Lanczos quadrature. arXiv:1901.10159.

    T = U diag(nodes) U',  weights = U[0]**2    for each of `probes` random starts
    density(t) = mean over probes of sum_i weights_i N(t; nodes_i, s**2)

    s is `width` times the range of the nodes; 2 `steps` - 1 moments of each start's spectrum are exact. Where the
    basis is not kept (n > 2,048) nodes may come twice, and share their weight.

    Raises what `hessian_trace` does. Not for single small eigenvalues: one among n weighs 1 / n.
    """
    name = "spectral_density"
    for argument, value, least in (("probes", probes, 1), ("points", points, 2)):
        errors.check_size(name, argument, value, least)
    errors.check_number(name, "width", width, errors.POSITIVE)
    run = (_prepare(name, fun, params, args, steps, None), probes, points)
    found: Spectrum = _spectrum(run, drop_weak_types(params), args, errors.check_key(name, key), width)
    return found


@options
def critical_point(
    fun: Function,
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

    gtol and ctol are eps**(2/3) by default, of the coarsest dtype among the parameters. steps: as in
    `hessian_extremes`, which also says what it costs. Where a network's smallest curvatures, a cluster at 0, decide,
    the answer is DEGENERATE unless one is negative. At a point that is not critical, `escape` is still the direction
    of negative curvature, if there is one. Raises TreeError, when traced, if fun returns no real number.
    """
    name = "critical_point"
    run = _prepare(name, fun, params, args, steps, None)
    for argument, value in (("gtol", gtol), ("ctol", ctol)):
        if value is not None:
            errors.check_number(name, argument, value, errors.NONNEGATIVE)
    found: CriticalPoint = _critical(run, drop_weak_types(params), args, errors.check_key(name, key), gtol, ctol)
    return found


def gradient_noise_scale(fun: Function, params: Params, *, args: tuple[Any, ...], small: int = 1) -> NoiseScale:
    """The simple noise scale: the size of batch where the gradient's noise is as large as the gradient.

    |G|**2 = (B |g_B|**2 - b |g_b|**2) / (B - b)    S = (|g_b|**2 - |g_B|**2) / (1/b - 1/B)    B_simple = S / |G|**2
    McCandlish et al. 2018, arXiv:1812.06162, equation 2.9 and appendix A.1.

    fun(params, *args) -> float[batch], a loss for each example; args are trees of arrays with the batch, B examples,
    first. g_b is the gradient of `small` examples, b, and |g_b|**2 the mean over all B / b groups of them, one after
    the other: the cost is that of one gradient of the batch, in batches of b.

    Raises HyperparameterError if B is not a multiple of b, two at least. S and |G|**2 are unbiased, their ratio is
    not: where B is below the scale, average both over some steps. Not for losses that mix examples (batch norm).
    """
    name = "gradient_noise_scale"
    errors.check_function(name, "fun", fun)
    check_args(name, args)
    errors.check_size(name, "small", small)
    _check_batch(name, args, small)
    found: NoiseScale = _noise((fun, small), drop_weak_types(params), args)
    return found


def _check_batch(name: str, args: PyTree, small: int) -> None:
    """Arrays with the examples first, which divide into groups of `small`, two at least."""
    leaves = jax.tree.leaves(args)
    sizes = sorted({np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves})
    if len(sizes) != 1 or sizes[0] == 0:
        say(TreeError, name, "args must be arrays with the batch as first axis, of one size", f"sizes {sizes}",
            "Close over what is no batch: lambda params, x, y: fun(params, x, y, rate)")  # fmt: skip
    if sizes[0] % small or sizes[0] < 2 * small:
        say(HyperparameterError, name, "the batch must be a multiple of small, twice at least",
            f"a batch of {sizes[0]}, small={small}", "Leave some examples out")  # fmt: skip


# ---- how it is done -------------------------------------------------------------------------------------


class _Setting(NamedTuple):
    name: str
    fun: Function
    steps: int
    keep: bool  # is the basis kept?


class _Tridiagonal(NamedTuple):
    """T, and the row that leads out of it."""

    diagonal: Array  # float[steps]  alpha_j, 0 beyond rows
    beside: Array  # float[steps]    beta_j, between j and j + 1
    rows: Array  # int32[]           made so far
    closed: Array  # bool[]          the last beta is 0: nothing leads out


class _Run(NamedTuple):
    """Lanczos under way, at step j = T.rows."""

    before: PyTree  # v_{j-1}
    here: PyTree  # v_j
    T: _Tridiagonal
    over: Array  # bool[]
    seen: PyTree  # at the last look at T
    basis: Array  # float[steps, n], or float[0, n]


def _prepare(
    name: str, fun: Function, params: Params, args: tuple[Any, ...], steps: int | None, keep: bool | None
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


def _gradient(name: str, fun: Function, args: tuple[Any, ...]) -> Callable[[Params], Updates]:
    return jax.grad(lambda p: check_objective(name, fun(p, *args)))


def _product(name: str, fun: Function, params: Params, args: tuple[Any, ...]) -> Product:
    """v -> H v, for trees in float32 at least."""
    gradient = _gradient(name, fun, args)

    def product(v: PyTree) -> PyTree:
        tangent = jax.tree.map(lambda v, p: v.astype(p.dtype), v, params)
        return _wide(jax.jvp(gradient, (params,), (tangent,))[1])

    return product


def _wide(x: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.astype(tree.compute_dtype(x.dtype)), x)


def _arrays(params: Params) -> Params:
    return jax.tree.map(jnp.asarray, params)


def _dot(x: PyTree, y: PyTree) -> Array:
    terms = [jnp.sum(a * b) for a, b in zip(jax.tree.leaves(x), jax.tree.leaves(y), strict=True)]
    wide = tree.compute_dtype(*(t.dtype for t in terms))
    return sum((t.astype(wide) for t in terms), start=jnp.zeros((), wide))


def _norm(x: PyTree) -> Array:
    return tree.global_norm(x)


def _unit(x: PyTree) -> PyTree:
    length = _norm(x)
    return _sum((1 / jnp.where(length > 0, length, 1), x))


def _sum(*pairs: tuple[Array, PyTree]) -> PyTree:
    """The sum of factor times tree."""
    factors, trees = zip(*pairs, strict=True)

    def leaf(*xs: Array) -> Array:
        total: Array = functools.reduce(jnp.add, [f.astype(x.dtype) * x for f, x in zip(factors, xs, strict=True)])
        return total

    return jax.tree.map(leaf, *trees)


def _random(key: Array, like: PyTree, draw: Callable[..., Array]) -> PyTree:
    """A tree of random numbers, made in blocks: the bits of all at once take four times their room."""
    leaves, treedef = tree.flatten(like)

    def leaf(key: Array, x: Array) -> Array:
        dtype = tree.compute_dtype(x.dtype)
        if x.size <= BLOCK:
            return draw(key, x.shape, dtype)
        rows = -(-x.size // BLOCK)
        blank = jnp.full((rows, BLOCK), 0 * jax.random.uniform(key, (), dtype))  # not made before the key is
        block = lambda i, y: y.at[i].set(draw(jax.random.fold_in(key, i), (BLOCK,), dtype))  # noqa: E731
        drawn: Array = jax.lax.fori_loop(0, rows, block, blank)
        return drawn.reshape(-1)[: x.size].reshape(x.shape)

    return treedef.unflatten(map(leaf, jax.random.split(key, len(leaves)), leaves))


def _start(key: Array, like: PyTree, after: Array | None = None) -> PyTree:
    """v_1, a random direction: always the same, but made anew once the number `after` is known, and not kept till then.

    For what XLA knows, `after` might be NaN, and the direction another one.
    """
    zero = np.int32(0) if after is None else jnp.isnan(after).astype(jnp.int32)
    return _unit(_random(jax.random.fold_in(key, zero), like, jax.random.normal))


def _eps(params: Params) -> float:
    """Of the coarsest dtype among the parameters."""
    return max(float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(params))  # type: ignore[no-untyped-call]


# ---- Lanczos


def _advance(product: Product, run: _Run, alpha: Array | None = None) -> tuple[Array, PyTree]:
    """alpha_j, and beta_j v_{j+1} = H v_j - alpha_j v_j - beta_{j-1} v_{j-1}."""
    w = product(run.here)
    alpha = _dot(run.here, w) if alpha is None else alpha
    beta = jnp.where(run.T.rows > 0, run.T.beside[run.T.rows - 1], 0)
    return alpha, _sum((jnp.ones_like(beta), w), (-alpha, run.here), (-beta, run.before))


def _zero(x: PyTree) -> PyTree:
    """0, made no sooner than x: zeros known beforehand would be made at once, and kept."""
    return jax.tree.map(lambda x: 0 * x, x)


def _lanczos(
    product: Product, start: PyTree, steps: int, keep: bool, look: Callable[[_Tridiagonal], tuple[Any, PyTree]]
) -> tuple[_Tridiagonal, PyTree, Array]:
    """T from `start`, until it closes or all steps are made, or look(T) -> (done, seen) is done; seen; the basis."""
    n = sum(x.size for x in jax.tree.leaves(start))
    nil = jnp.zeros_like(_norm(start), shape=(steps,))
    eps = float(np.finfo(nil.dtype).eps)
    empty = _Tridiagonal(nil, nil, zero_count(), jnp.zeros((), bool))
    stride = max(CHECKS, steps // CHECKS)

    def clean(w: PyTree, basis: Array) -> PyTree:
        flat, unravel = tree.ravel(w)
        for _ in range(2):  # Gram and Schmidt's, twice: enough
            flat = flat - (basis @ flat) @ basis
        return unravel(flat)

    def step(run: _Run) -> _Run:
        T, basis = run.T, run.basis
        j = T.rows
        alpha, ahead = _advance(product, run)
        if keep:
            basis = basis.at[j].set(tree.ravel(run.here)[0])
            ahead = clean(ahead, basis)
        beta = _norm(ahead)
        diagonal = T.diagonal.at[j].set(alpha)
        size = jnp.maximum(jnp.max(jnp.abs(diagonal)), jnp.max(T.beside))
        closed = beta <= 8 * eps * size
        if keep:
            closed |= j + 1 == n
        beside = T.beside.at[j].set(jnp.where(closed, 0, beta))
        after = _sum((1 / jnp.where(beta > 0, beta, 1), ahead))
        return _Run(run.here, after, _Tridiagonal(diagonal, beside, next_count(j), closed), run.over, run.seen, basis)

    def stretch(run: _Run) -> _Run:
        end = jnp.minimum(run.T.rows + np.int32(stride), np.int32(steps))
        run = jax.lax.while_loop(lambda run: (run.T.rows < end) & ~run.T.closed, step, run)
        done, seen = look(run.T)
        return run._replace(over=run.T.closed | (run.T.rows >= steps) | done, seen=seen)

    blank = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(look, empty)[1])
    basis = jnp.zeros((steps if keep else 0, n), nil.dtype)
    first = _Run(_zero(start), start, empty, jnp.zeros((), bool), blank, basis)
    end = jax.lax.while_loop(lambda run: ~run.over, stretch, first)
    return end.T, end.seen, end.basis


def _vector(product: Product, start: PyTree, T: _Tridiagonal, y: Array, basis: Array) -> PyTree:
    """V y, of length 1: from the basis, or by the recurrence once more."""
    if basis.size:
        return _unit(tree.ravel(start)[1](y @ basis))

    def step(carry: tuple[_Run, PyTree]) -> tuple[_Run, PyTree]:
        run, total = carry
        j = run.T.rows
        total = _sum((jnp.ones_like(y[j]), total), (y[j], run.here))
        _, ahead = _advance(product, run, T.diagonal[j])
        beta = T.beside[j]
        after = _sum((1 / jnp.where(beta > 0, beta, 1), ahead))
        return _Run(run.here, after, run.T._replace(rows=next_count(j)), run.over, None, basis), total

    zero = _zero(start)
    first = _Run(zero, start, T._replace(rows=zero_count()), T.closed, None, basis)
    return _unit(jax.lax.while_loop(lambda c: c[0].T.rows < T.rows, step, (first, zero))[1])


# ---- the tridiagonal matrix


def _scaled(T: _Tridiagonal) -> tuple[_Tridiagonal, Array]:
    """T over its norm, or about that, and the norm."""
    before = jnp.roll(T.beside, 1).at[0].set(0)
    size = jnp.max(jnp.abs(T.diagonal) + T.beside + before)
    unit = jnp.where(size > 0, size, 1)
    return T._replace(diagonal=T.diagonal / unit, beside=T.beside / unit), size


def _below(T: _Tridiagonal, shifts: Array, rows: Array) -> tuple[Array, Array]:
    """How many eigenvalues of T's first rows are below each shift, by the signs of pivots; and the last pivots."""
    floor = 4 * float(np.finfo(T.diagonal.dtype).tiny)
    square = jnp.roll(T.beside, 1).at[0].set(0) ** 2

    def row(carry: tuple[Array, Array], x: tuple[Array, Array, Array]) -> tuple[tuple[Array, Array], None]:
        (pivot, below), (a, b2, used) = carry, x
        new = a - shifts - b2 / pivot
        new = jnp.where(jnp.abs(new) < floor, -floor, new)
        return (jnp.where(used, new, pivot), below + (used & (new < 0)).astype(jnp.int32)), None

    used = jnp.arange(T.diagonal.size, dtype=jnp.int32) < rows
    start = jnp.ones_like(shifts), jnp.zeros_like(shifts, dtype=jnp.int32)
    (pivot, below), _ = jax.lax.scan(row, start, (T.diagonal, square, used))
    return below, pivot


def _section(below: Callable[[Array], Array], low: Array, wanted: Array) -> Array:
    """For each row the least s in [low, 2] with below(s) >= wanted."""
    high = jnp.full_like(low, 2)
    between = jnp.arange(1, SPLIT + 1).astype(low.dtype) / (SPLIT + 1)
    passes = math.ceil(-math.log2(float(np.finfo(low.dtype).eps) / 8) / math.log2(SPLIT + 1))

    def narrow(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        points = low[:, None] + (high - low)[:, None] * between[None, :]
        enough = below(points.reshape(-1)).reshape(points.shape) >= wanted[:, None]
        edges = jnp.concatenate([low[:, None], points, high[:, None]], axis=1)
        first = jnp.sum(~enough, axis=1, dtype=jnp.int32)
        pick = jnp.take_along_axis(edges, jnp.stack([first, first + 1], axis=1), axis=1)
        return pick[:, 0], pick[:, 1]

    low, high = jax.lax.fori_loop(0, passes, narrow, (low, high))
    middle: Array = (low + high) / 2
    return middle


def _eigenvector(diagonal: Array, beside: Array, value: Array, start: Array) -> Array:
    """Of a tridiagonal matrix, by inverse iteration: among copies of an eigenvalue what `start` has of it.

    For a few shifts, as one may be an eigenvalue to the last bit; of what they give, the best.
    """
    lower, upper = jnp.roll(beside, 1).at[0].set(0), beside.at[-1].set(0)

    def attempt(shift: Array) -> tuple[Array, Array]:
        x = start
        for _ in range(2):
            (y,) = jax.lax.linalg.tridiagonal_solve(lower, diagonal - shift, upper, x[:, None]).T
            y = y / jnp.max(jnp.abs(y))
            x = y / jnp.sqrt(y @ y)
        image = (diagonal - value) * x + upper * jnp.roll(x, -1) + lower * jnp.roll(x, 1)
        return x, jnp.sum(image**2)

    eps = float(np.finfo(diagonal.dtype).eps)
    xs, errors_ = jax.vmap(attempt)(value + eps * jnp.asarray(SHIFTS, value.dtype))
    best: Array = xs[jnp.argmin(jnp.where(jnp.isfinite(errors_), errors_, jnp.inf))]
    return best


def _ends(T: _Tridiagonal) -> tuple[Array, list[Array], Array]:
    """float[2] the smallest and the largest eigenvalue of T, their vectors, and the residuals |beta_m y_m|."""
    T, size = _scaled(T)
    wanted = jnp.stack([jnp.ones_like(T.rows), T.rows])
    low = jnp.full_like(size, -2, shape=(2,))
    values = _section(lambda s: _below(T, s, T.rows)[0], low, wanted)
    inside = T.beside.at[T.rows - 1].set(0)
    first = jnp.zeros_like(T.diagonal).at[0].set(1)
    vectors = [_eigenvector(T.diagonal, inside, value, first) for value in values]
    out = T.beside[T.rows - 1]
    residuals = jnp.stack([jnp.abs(out * y[T.rows - 1]) for y in vectors])
    return size * values, vectors, size * residuals


def _least_singular(T: _Tridiagonal) -> tuple[Array, Array]:
    """The smallest singular value of [T_m; beta_m e_m'], m = rows - 1 unless T is closed, and its error.

    Those values, and their negatives, are the eigenvalues of the tridiagonal J, beside a 0:

    p = (u + v) / sqrt(2), q = (u - v) / sqrt(2):    J = | T              b e_m            |
    H V u = sigma V v,  H V v = sigma V u                | b e_m'    0   -b e_m'           |
    b = beta_m / sqrt(2)                                 |          -b e_m         -T      |
    """
    T, size = _scaled(T)
    rows = jnp.where(T.closed, T.rows, T.rows - 1)
    out = T.beside[rows - 1]

    def below(s: Array) -> Array:
        count, pivot = _below(T, jnp.concatenate([s, -s]), rows)
        (low, high), (right, left) = jnp.split(count, 2), jnp.split(pivot, 2)
        middle = -s - out**2 / 2 * (1 / right - 1 / left)
        return low + (rows - high) + (middle < 0).astype(jnp.int32)

    (sigma,) = _section(below, jnp.zeros_like(size, shape=(1,)), jnp.stack([rows + 2]))
    # J, with T rolled so that row m comes last
    many = T.diagonal.size
    index = jnp.arange(many, dtype=jnp.int32)
    roll = functools.partial(jnp.roll, shift=many - rows)
    alpha = roll(jnp.where(index < rows, T.diagonal, 0))
    beta = roll(jnp.where(index < rows - 1, T.beside, 0))[:-1]
    b = out / math.sqrt(2)
    diagonal = jnp.concatenate([alpha, jnp.zeros_like(b)[None], -alpha[::-1]])
    beside = jnp.concatenate([beta, b[None], -b[None], -beta[::-1], jnp.zeros_like(b)[None]])
    first = roll(jnp.where(index == 0, jnp.ones_like(T.diagonal), 0))
    z = _eigenvector(diagonal, beside, sigma, jnp.concatenate([first, jnp.zeros_like(b)[None], -first[::-1]]))
    u_m, u_out = (z[many - 1] + z[many + 1]) / math.sqrt(2), z[many]
    beyond = jnp.where(T.closed, 0, jnp.stack([T.diagonal[rows], T.beside[rows]]))
    error = jnp.hypot(out * u_m + beyond[0] * u_out, beyond[1] * u_out)
    return size * sigma, size * error


# ---- the functions


@jitted
def _extremes(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, tol: Any) -> Extremes:
    name, fun, steps, keep = run
    params = _arrays(params)
    product = _product(name, fun, params, args)

    def look(T: _Tridiagonal) -> tuple[Array, tuple[Array, list[Array]]]:
        values, ys, residuals = _ends(T)
        return jnp.all(residuals <= tol * jnp.abs(values)), (values, ys)

    T, (values, ys), basis = _lanczos(product, _start(key, params), steps, keep, look)
    after = values[0]
    found: list[tuple[Array, PyTree, Array]] = []
    for y in ys:  # one after the other, for the room of a vector
        x = _vector(product, _start(key, params, after), T, y, basis)
        image = product(x)
        value = after = _dot(x, image)
        residual = _norm(_sum((jnp.ones_like(value), image), (-value, x)))
        found.append((value, jax.tree.map(lambda x, p: x.astype(p.dtype), x, params), residual))
    (low, x_low, r_low), (high, x_high, r_high) = found
    return Extremes(low, high, x_low, x_high, r_low, r_high, T.rows)


@jitted
def _condition(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, tol: Any) -> Condition:
    name, fun, steps, keep = run
    params = _arrays(params)

    def look(T: _Tridiagonal) -> tuple[Array, tuple[Array, ...]]:
        values, _, residuals = _ends(T)
        far = jnp.abs(values)
        largest, error = jnp.max(far), residuals[jnp.argmax(far)]
        smallest, smallest_error = _least_singular(T)
        done = (error <= tol * largest) & (smallest_error <= tol * smallest)
        return done, (largest, error, smallest, smallest_error)

    T, seen, _ = _lanczos(_product(name, fun, params, args), _start(key, params), steps, keep, look)
    largest, largest_error, smallest, smallest_error = seen
    number = jnp.where(smallest > 0, largest / jnp.where(smallest > 0, smallest, 1), jnp.inf)
    rounding = ROUND_OFF * _eps(params) * largest
    return Condition(number, largest, smallest, largest_error + rounding, smallest_error + rounding, T.rows)


@jitted
def _critical(run: _Setting, params: Params, args: tuple[Any, ...], key: Array, gtol: Any, ctol: Any) -> CriticalPoint:
    params = _arrays(params)
    found: Extremes = _extremes(run, params, args, key, 1e-3)
    g = _wide(_gradient(run.name, run.fun, args)(params))
    default = _eps(params) ** (2 / 3)
    low, high, size = found.smallest, found.largest, _norm(g)
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
    slope = _dot(g, _wide(found.smallest_vector))
    sign = jnp.where(down, jnp.where(slope > 0, -1, 1), 0)
    escape = jax.tree.map(lambda x: sign.astype(x.dtype) * x, found.smallest_vector)
    return CriticalPoint(kind, escape, size, found)


@jitted
def _trace(run: tuple[Function, int, str], params: Params, args: tuple[Any, ...], key: Array) -> Trace:
    fun, probes, method = run
    params = _arrays(params)
    product = _product("hessian_trace", fun, params, args)

    def sign(key: Array) -> PyTree:
        return _random(key, params, jax.random.rademacher)

    def form(x: PyTree) -> Array:
        return _dot(x, product(x))

    def mean(terms: Array) -> tuple[Array, Array]:
        return jnp.mean(terms), jnp.std(terms, ddof=1) / math.sqrt(terms.size)

    if method == "hutchinson":
        return Trace(*mean(jax.lax.map(lambda k: form(sign(k)), jax.random.split(key, probes))))
    zero, unravel = tree.ravel(jax.tree.map(jnp.zeros_like, _wide(params)))
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


@jitted
def _spectrum(
    run: tuple[_Setting, int, int], params: Params, args: tuple[Any, ...], key: Array, width: Any
) -> Spectrum:
    (name, fun, steps, keep), probes, points = run
    params = _arrays(params)
    product = _product(name, fun, params, args)
    no = jnp.zeros((), bool)

    def one(key: Array) -> tuple[Array, Array]:
        T, *_ = _lanczos(product, _start(key, params), steps, keep, lambda _: (no, None))
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


@jitted
def _noise(run: tuple[Function, int], params: Params, args: tuple[Any, ...]) -> NoiseScale:
    fun, small = run
    params = _arrays(params)
    batch = jax.tree.leaves(args)[0].shape[0]
    groups = jax.tree.map(lambda x: x.reshape(batch // small, small, *x.shape[1:]), args)

    def loss(p: Params, group: tuple[Any, ...]) -> Array:
        losses = fun(p, *group)
        _check_losses("gradient_noise_scale", losses, small)
        return jnp.mean(losses)

    def add(carry: tuple[PyTree, Array], group: tuple[Any, ...]) -> tuple[tuple[PyTree, Array], None]:
        total, squares = carry
        g = _wide(jax.grad(loss)(params, group))
        return (jax.tree.map(jnp.add, total, g), squares + _dot(g, g)), None

    zero = jax.tree.map(tree.wide_like, params)
    (total, squares), _ = jax.lax.scan(add, (zero, _dot(zero, zero)), groups)
    many = batch // small
    big, little = _dot(total, total) / many**2, squares / many
    squared_norm = (batch * big - small * little) / (batch - small)
    noise = (little - big) / (1 / small - 1 / batch)
    return NoiseScale(noise / squared_norm, noise, squared_norm)


def _check_losses(name: str, losses: Any, examples: int) -> None:
    """One loss for each example."""
    if np.shape(losses) != (examples,):
        say(TreeError, name, f"fun must return one loss for each of the {examples} examples it is given",
            describe(losses), "Leave out the mean over the batch; for a function of one example, jax.vmap")  # fmt: skip


# ---- transformations that report ------------------------------------------------------------------------


class UpdateRatioState(NamedTuple):
    """State of `update_ratio`."""

    ratio: Array  # float[]                    |u| / |p| over all leaves, at the last update
    leaves: PyTree  # like params, float[] each  the same of each leaf


class LostUpdatesState(NamedTuple):
    """State of `lost_updates`."""

    fraction: Array  # float[]                   of the parameters with u != 0, those that stay, at the last update
    worst: Array  # float[]                      largest fraction so far
    leaves: PyTree  # like params, float[] each  fraction of each leaf


def update_ratio() -> GradientTransformation:
    """|u| / |p|: by which part of itself a step changes the parameters. Updates pass as they are.

    Goes last in a chain, where u is what is added. About 1e-3 is usual (Karpathy, CS231n notes); a leaf at 0 gives a
    ratio without meaning. Raises MissingArgumentError, when traced, without params.
    """

    def init(params: Params) -> UpdateRatioState:
        return UpdateRatioState(jnp.zeros(()), _scalars(params))

    def update(updates: Updates, state: UpdateRatioState, params: Params) -> tuple[Updates, UpdateRatioState]:
        def leaf(u: Updates, p: Params) -> Array:
            step = tree.global_norm(u)
            quotient: Array = ratio(step, tree.global_norm(p).astype(step.dtype))
            return quotient

        whole = leaf(updates, params).astype(state.ratio.dtype)
        return updates, UpdateRatioState(whole, _fill(leaf, updates, params, state.leaves))

    return transform("update_ratio", init, update, needs_params=True, state_type=UpdateRatioState)


def lost_updates() -> GradientTransformation:
    """The fraction of updates that rounding loses: u != 0, and yet p + u == p in p's dtype. Updates pass as they are.

    Goes last in a chain, where u is what is added. In bfloat16 all updates below |p| / 512 are lost, so that training
    stalls: keep the parameters in float32, or round at random (arXiv:1502.02551).
    Raises MissingArgumentError, when traced, without params.
    """

    def init(params: Params) -> LostUpdatesState:
        return LostUpdatesState(jnp.zeros(()), jnp.zeros(()), _scalars(params))

    def count(u: Array, p: Array) -> Array:
        """float32[2]: lost, moving"""
        u, p = jnp.asarray(u), jnp.asarray(p)
        moving = u != 0
        lost = moving & (apply_updates(p, u) == p)
        return jnp.stack([jnp.sum(x, dtype=jnp.float32) for x in (lost, moving)])

    def update(updates: Updates, state: LostUpdatesState, params: Params) -> tuple[Updates, LostUpdatesState]:
        pairs = zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True)
        lost, moving = sum((count(u, p) for u, p in pairs), start=jnp.zeros(2, jnp.float32))
        fraction = ratio(lost, moving).astype(state.fraction.dtype)
        leaves = _fill(lambda u, p: ratio(*count(u, p)), updates, params, state.leaves)
        return updates, LostUpdatesState(fraction, jnp.maximum(state.worst, fraction), leaves)

    return transform("lost_updates", init, update, needs_params=True, state_type=LostUpdatesState)


def _scalars(params: Params) -> PyTree:
    return jax.tree.map(lambda p: jnp.zeros(()), params)


def _fill(leaf: Callable[[Array, Array], Array], updates: Updates, params: Params, old: PyTree) -> PyTree:
    """leaf(u, p), or 0 where there is no update."""
    us, treedef = tree.flatten(updates, none_is_leaf=True)
    ps, olds = (tree.flatten(t, none_is_leaf=True)[0] for t in (params, old))
    new = [
        o if o is None else jnp.zeros_like(o) if u is None else leaf(u, p).astype(o.dtype)
        for u, p, o in zip(us, ps, olds, strict=True)
    ]
    return treedef.unflatten(new)
