"""The derivatives of a solution, by the implicit function theorem on the equations that it solves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core import tree
from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.drivers.compiled import frozen
from jaxopt_ko.errors import HyperparameterError, say
from jaxopt_ko.linalg.least_norm import condition as condition_of
from jaxopt_ko.linalg.least_norm import shortest
from jaxopt_ko.solvers.problem.bounds import box
from jaxopt_ko.types import Params, PyTree, Solution

BLURRED = 0.25  # 1/eps to this power: a condition from which on what a run left may hide that H is singular
FLAT_BEND = 10.0  # times eps: a bend that is that part of the steepest is none


Equation = Callable[[Array, Any], Array]  # x, args -> E, of vectors
Inverse = Callable[[Array], Array]  # b -> H^-1 b
SparseInverse = Callable[[Equation, Array, Any, Array], Inverse]  # E, x, args, bool[n] what is held firmly


class Held(NamedTuple):
    """Elements of a solution that go where its data go, such as bounds; of the solution as one vector."""

    which: Array  # bool[n]
    at: Callable[[Any], Array] | None  # args -> float[n], where they are held; None if nothing moves them
    firmly: Array  # bool[n]  the equations move none of these any further


def implicit(
    condition: Callable[[Params, Any], Params],
    value_fn: Callable[[Params, Any], PyTree],
    solution: tuple[Params, PyTree],
    args: Any,
    held: Held | None = None,
    symmetric_cg: bool = False,
    sparse: SparseInverse | None = None,
) -> tuple[Params, PyTree]:
    """The solution and what value_fn makes of it, with the derivatives by `args` that E(x, args) = 0 gives them.

    E: condition
    dx = d held - H+ (H d held + dE/dargs d args)    H = dE/dx, without rows and columns of what is held firmly

    H+ takes of many dx the shortest (`shortest`): where H is singular, along which a model does not change at all, say,
    x stays; d value is value_fn's own. Forward and reverse mode, and again. The linear system is solved densely, by
    conjugate residuals on products with a symmetric derivative, or by what `sparse` makes.
    """
    end, value = solution
    x, unravel = tree.ravel(end)
    at = None if held is None else held.at

    def equation(x: Array, args: Any) -> Array:
        return tree.ravel(condition(unravel(x), args))[0]

    @jax.custom_jvp
    def solved(x: Array, value: PyTree, marks: Array, args: Any) -> tuple[Array, PyTree]:
        return x, value

    @solved.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        (x, value, marks, args), (*_, d_args) = primals, tangents
        x, value = solved(x, value, marks, args)  # what follows may be differentiated again
        (which, firmly), eye = marks == 1, jnp.eye(x.size, dtype=x.dtype)
        d_held = jnp.zeros_like(x)
        if at is not None:
            d_held = jnp.where(which, jax.jvp(at, (args,), (d_args,))[1], 0)

        def of_free(v: Array) -> Array:
            return jnp.where(firmly, 0, v)

        def matrix(x: Array) -> Array:
            H = jax.jacfwd(equation)(x, args)
            return jnp.where(firmly[:, None] | firmly[None, :], eye, H)

        def by_products(x: Array, args: Any) -> Callable[[Array], Array]:
            _, H = jax.linearize(lambda z: equation(z, args), x)
            return lambda b: _conjugate_residuals(lambda v: jnp.where(firmly, v, H(of_free(v))), b)

        there, fixed = frozen((x, args))
        off = lambda x: of_free(equation(x, fixed))  # noqa: E731
        if symmetric_cg:
            near = x + _nearer(off, by_products(there, fixed), there, jnp.ones((), bool))
            inverse = by_products(near, args)
        elif sparse is not None:
            near = x + _nearer(off, sparse(equation, there, fixed, firmly), there, jnp.ones((), bool))
            inverse = sparse(equation, near, args, firmly)
        else:
            H = frozen(matrix(there))
            blurred = ~(condition_of(H) < max(x.size, float(np.finfo(x.dtype).eps) ** -BLURRED))
            near = x + _nearer(off, shortest(H), there, blurred)
            inverse = shortest(matrix(near))
        _, d_equation = jax.jvp(equation, (near, args), (d_held, d_args))
        dx = d_held - inverse(of_free(d_equation))
        _, d_value = jax.jvp(lambda z, a: value_fn(unravel(z), a), (x, args), (dx, d_args))
        return (x, value), (dx, jax.tree.map(lambda d, v: d.astype(v.dtype), d_value, value))

    none = jnp.zeros(x.shape, bool)
    marks = jnp.stack([none, none] if held is None else [held.which, held.firmly]).astype(x.dtype)
    x, value = solved(x, value, marks, args)
    return unravel(x), value


def no_symmetric_system(name: str, what: str) -> NoReturn:
    """Conjugate residuals are for symmetric systems."""
    say(HyperparameterError, name, 'derivative="implicit-cg" is for symmetric systems', what,
        'Use "implicit", whose system is dense, or "unrolled"')  # fmt: skip


def _nearer(off: Callable[[Array], Array], inverse: Callable[[Array], Array], x: Array, wanted: Array) -> Array:
    """The step from x to where |off| is least, as far as rounding lets `inverse`, that of its derivative, go.

    A run ends with some |off| left, and H has an error of its size: it hides that H is singular.
    """

    def go(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step, left, size, _ = carry
        new = step - inverse(left)
        left_new = off(x + new)
        size_new = jnp.max(jnp.abs(left_new), initial=0.0)
        falls = size_new < 0.5 * size
        step, left, size = jax.tree.map(lambda a, b: jnp.where(falls, a, b), (new, left_new, size_new), carry[:3])
        return step, left, size, falls

    left = off(x)
    start = (jnp.zeros_like(x), left, jnp.max(jnp.abs(left), initial=0.0), wanted)
    return frozen(jax.lax.while_loop(lambda carry: carry[3], go, start)[0])  # type: ignore[no-any-return]


def _conjugate_residuals(product: Callable[[Array], Array], b: Array) -> Array:
    """H+ b for a symmetric positive semidefinite H, by its products (Stiefel 1955, doi:10.1007/BF02564277).

    |b - H x| is least over Krylov's spaces. Where H is singular what is left of b in the end is its share that no H x
    makes, and only along that x is longer than it has to be.
    """

    def cr(product: Callable[[Array], Array], b: Array) -> Array:
        eps, size = float(np.finfo(b.dtype).eps), b @ b

        def flat(rr: Array, rHr: Array, steepest: Array) -> Array:
            return rHr <= FLAT_BEND * eps * steepest * rr

        def go(carry: Any) -> Any:
            x, r, p, Hp, rHr, steepest, count = carry
            a = ratio(rHr, Hp @ Hp)
            x, r = x + a * p, r - a * Hp
            Hr = product(r)
            new = r @ Hr
            beta = ratio(new, rHr)
            return x, r, r + beta * p, Hr + beta * Hp, new, jnp.maximum(steepest, ratio(new, r @ r)), count + 1

        def goes_on(carry: Any) -> Array:
            _, r, _, _, rHr, steepest, count = carry
            rr = r @ r
            on: Array = (rr > eps * eps * size) & ~flat(rr, rHr, steepest) & (count < 10 * b.size)
            return on

        Hb = product(b)
        bend = b @ Hb
        start = (jnp.zeros_like(b), b, b, Hb, bend, ratio(bend, size), jnp.zeros((), jnp.int32))
        x, r, _, _, rHr, steepest, _ = jax.lax.while_loop(goes_on, go, start)
        rr = r @ r
        beyond = (rr > eps * size) & flat(rr, rHr, eps**-0.5 * steepest)
        return x - jnp.where(beyond, ratio(x @ r, rr), 0) * r

    x: Array = jax.lax.custom_linear_solve(product, b, solve=cr, symmetric=True)
    return x


class Limits(NamedTuple):
    """The bounds, and which of them hold a solution."""

    bounds: Any
    by_lower: Array  # bool[n]
    by_upper: Array  # bool[n]
    share: Array  # float[n]  of the lower bound in where an element is: 1, 0, or 1/2 if it cannot be told which holds


def at_bounds(name: str, solution: Solution, bounds: Any) -> tuple[Held | None, Limits | None]:
    """Which parameters of a solution are held by their bounds, and these as data: the last of implicit's args.

    A bound holds what is at it or, where there are multipliers, what has one larger than the room that is left.
    """
    if bounds is None:
        return None, None
    end = frozen(solution.params)
    x, _ = tree.ravel(end)
    like = jax.tree.map(lambda leaf: tree.abstract(np.shape(leaf), tree.dtype_of(leaf)), end)
    lower, upper = box(name, like, frozen(bounds))
    if solution.multipliers is None:
        by_lower, by_upper = x <= lower, x >= upper
    else:
        _, _, low, high = frozen(solution.multipliers)
        by_lower, by_upper = tree.ravel(low)[0] > x - lower, tree.ravel(high)[0] > upper - x
    which = by_lower | by_upper | (lower >= upper)
    share = jnp.where(by_lower == by_upper, jnp.asarray(0.5, x.dtype), by_lower.astype(x.dtype))

    def at(given: Any) -> Array:
        bounds, _, _, share = given[-1]
        lower, upper = box(name, like, bounds)
        return jnp.where(share > 0, share * lower, 0) + jnp.where(share < 1, (1 - share) * upper, 0)

    return Held(which, at, which), Limits(bounds, by_lower, by_upper, share)
