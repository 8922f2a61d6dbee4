"""What all solvers share: the first `Info`, tolerances and counts; is a step good, and is a run over?

The tests of min f(x) are in the problem's own units; none is relative to |f| alone.

Converged   g is small beside the largest g so far, or small while a minimum is known to be near;
            f cannot tell the steps from none, and they are short, too; or x cannot
Unbounded   f is -inf at a trial, or falls along steps that have become long without getting flatter
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.core.numerics import first_true, next_count, norm, or_one, value_at, zero_count
from jaxopt_ko.errors import Domain, check_hyper
from jaxopt_ko.types import Code, Evaluations, Hyper, Info, State, Status

S = TypeVar("S", bound=State)

FAR = 1e10  # times max|g| max(1, |x|) of the start: f that has fallen by more, and does not get flatter, has no minimum
STRAIGHT = 0.01  # of the slope: a step along which it falls by less does not get flatter
LONG = 0.1  # of |x|: shorter steps do not show whether f gets flatter
IDLE = 3  # steps in a row that f cannot tell from none


def eps_of(x: Array) -> float:
    """The distance from 1 to the next number of x's dtype."""
    return float(np.finfo(x.dtype).eps)


# ---- states of all solvers ------------------------------------------------------------------------------


def first_info(
    value: Array, optimality: Array, status: Status, function: Any = 0, gradient: Any = 0, product: Any = 0
) -> Info:
    """Before the first update; the last three count the evaluations that init made."""
    made = Evaluations(*(jnp.asarray(count, jnp.int32) for count in (function, gradient, product)))
    return Info(value, optimality, jnp.zeros_like(value), jnp.zeros((), bool), made, status)


def own_buffers(state: S) -> S:
    """The same state in buffers of its own, none of them twice: each may be donated."""
    copied: S = jax.tree.map(jnp.copy, state)
    return copied


def is_running(info: Info) -> Array:
    """bool[]: has no test ended the run yet?"""
    return info.status.code == np.int32(Code.RUNNING)


def status(*tests: tuple[Array, Any]) -> Status:
    """Of pairs (bool[], code): the code of the first test that holds, RUNNING if none does."""
    return Status(first_true([holds for holds, _ in tests], [code for _, code in tests], Code.RUNNING))


def check_given(name: str, domain: Domain, **hypers: Hyper | None) -> None:
    """Raises HyperparameterError for hyperparameters outside of their domain; None is a default."""
    for argument, hyper in hypers.items():
        if hyper is not None:
            check_hyper(name, argument, hyper, domain)


def counted(before: Evaluations, function: Any = 1, gradient: Any = 1, product: Any = 0) -> Evaluations:
    """As many evaluations more; bool[] counts as 0 or 1."""
    more = (jnp.asarray(count).astype(jnp.int32) for count in (function, gradient, product))
    return Evaluations(*(a + b for a, b in zip(before, more, strict=True)))


class Tolerance(NamedTuple):
    """A bound at which a run has converged."""

    value: Array  # float[]
    asked: bool  # was it asked for, or is it the default?


def tolerance(x: Array, count: Array, default: Any, *asked: Hyper | None) -> Tolerance:
    """The last of `asked` that is not None, at step `count`, else the default; in x's dtype.

    tolerance(x, count, eps**0.5, gtol, tol): what a factory was told, and what an update is told in its place."""
    given = [hyper for hyper in asked if hyper is not None]
    return Tolerance(jnp.asarray(value_at(given[-1], count) if given else default, x.dtype), bool(given))


# ---- is a step good? ------------------------------------------------------------------------------------


def gain_ratio(actual: Array, predicted: Array) -> Array:
    """rho: what f falls by over what the model says; 0 where the model does not fall."""
    return jnp.where(predicted > 0, actual / or_one(predicted), 0)


def cut_of(slope: Array, actual: Array, least: float, most: float) -> Array:
    """What part of a step that lowers f by too little to keep: up to the minimizer of the parabola along it, which
    begins with `slope`; between `least` and `most`."""
    bend = -actual - slope
    return jnp.where(bend > 0, jnp.clip(-slope / (2 * or_one(bend)), least, most), least)


# ---- is a run over? -------------------------------------------------------------------------------------


class Course(NamedTuple):
    """What a run has seen so far: its units."""

    value: Array  # float[]     f at the start
    length: Array  # float[]    |x| there
    steepest: Array  # float[]  the largest max|g| so far
    idle: Array  # int32[]      steps in a row that f could not tell from none


def course(value: Array, x: Array, optimality: Array) -> Course:
    """Of a run that starts at x; optimality: max|g|."""
    return Course(value, norm(x), optimality, zero_count())


def onward(at: Course, optimality: Array, moved: Array, lost: Array) -> Course:
    """After a step, if it was taken (`moved`); lost: could f not tell it from none?"""
    idle = jnp.where(lost, next_count(at.idle), np.int32(0))
    return at._replace(
        steepest=jnp.where(moved, jnp.maximum(at.steepest, optimality), at.steepest),
        idle=jnp.where(moved, idle, at.idle),
    )


def unit(most: Array) -> Array:
    """float[]: what is small beside 1 is to be small beside this, too: min(1, most / (16 eps**(1/6))), about `most` in
    float32 and 25 times that in float64; most: the largest so far, of a gradient or of what f has fallen by."""
    return jnp.minimum(1, most / (16 * np.finfo(most.dtype).eps ** (1 / 6)))


def bound(at: Course, gtol: Tolerance) -> Array:
    """float[]: what max|g| may be at a solution: gtol itself if it was asked for, else beside the largest, too."""
    return gtol.value if gtol.asked else gtol.value * unit(at.steepest)


def pending(gtol: Tolerance, optimality: Array, before: Array) -> Array:
    """bool[]: was a bound on max|g| asked for, and does it still fall by half, to what f no longer tells?"""
    return optimality <= 0.5 * before if gtol.asked else jnp.zeros((), bool)


def short(at: Course, x: Array, step: Array, power: float) -> Array:
    """bool[]: is |step_i| <= eps**power |x_i| for every element? For x_i the length of the start, or 1 if that is less,
    where it is smaller. Beside |x| as a whole a long step of a small element would count for nothing."""
    least = jnp.minimum(1, or_one(at.length))
    brief: Array = jnp.all(jnp.abs(step) <= np.finfo(x.dtype).eps ** power * jnp.maximum(jnp.abs(x), least))
    return brief


def flat(at: Course, x: Array, step: Array, lost: Array) -> Array:
    """bool[]: have the last steps been lost in f's rounding (`lost`: the last), and short in x?"""
    return ((at.idle >= IDLE) & short(at, x, step, 1 / 3)) | (lost & short(at, x, step, 1 / 2))


def spent(at: Course, x: Array, value: Array, step: Array, decrease: Array) -> Array:
    """bool[]: is the step lost beside |x|, and what f falls by beside all that it has fallen? An element of x that goes
    to 0 goes on for ever, and f with it."""
    eps = np.finfo(x.dtype).eps
    over: Array = (norm(step) <= eps * norm(x)) & (decrease <= eps * (at.value - value))
    return over


def endless(at: Course, x: Array, value: Array, step: Array, g: Array, g_new: Array) -> Array:
    """bool[]: has f fallen by too much for its slopes, along a long `step` to x from g to g_new that got no flatter?"""
    fallen = at.value - value > FAR * at.steepest * jnp.maximum(1, at.length)
    slope = step @ g
    return fallen & (norm(step) >= LONG * norm(x)) & (step @ g_new <= (1 - STRAIGHT) * slope)


def carried_off(at: Course, x: Array, value: Array, g: Array) -> Array:
    """bool[]: is g small only as x has run away, so that x as long again would still lower f?"""
    eps = np.finfo(x.dtype).eps
    far = norm(x) > 0.5 * eps**-0.5 * jnp.maximum(1, at.length)
    carried: Array = far & (-(g @ x) > eps**0.25 * jnp.abs(at.value - value))
    return carried
