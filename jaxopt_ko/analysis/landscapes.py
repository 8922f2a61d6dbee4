"""The functions everyone plots: long valleys, saddles, many minima, and where their critical points are.

Each can be compiled, mapped and differentiated twice, at its minimum too. They compute in float32 at least: float16
ends at 65,504, Beale's function in its plotted box at 181,853.
Most are gathered in Moré, Garbow & Hillstrom 1981, doi:10.1145/355934.355936 (MGH), or Jamil & Yang 2013,
arXiv:1308.4008.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core.numerics import safe_sqrt
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import HyperparameterError, TreeError, describe, is_number, say

Floats = tuple[float, ...]  # one number for each variable

A, B, C = 20.0, 0.2, math.pi  # Ackley's a and b, and half of his c


class Point(NamedTuple):
    """A critical point."""

    x: Floats  # where
    value: float  # of the function there


class Landscape(NamedTuple):
    """A function to minimize, with what is known of it; but for `fun`, Python numbers alone."""

    name: str  # the key in LANDSCAPES
    title: str
    korean: str  # the title in Korean
    fun: Callable[[Array], Array]  # float[n] -> float[]
    dimension: int  # n
    domain: tuple[Floats, Floats]  # (lower, upper), the box to plot and to start in
    minima: tuple[Point, ...]  # the global ones first; with n variables, or 1,000 minima, not all are listed
    saddles: tuple[Point, ...]  # likewise
    maxima: tuple[Point, ...]  # likewise
    starts: tuple[Floats, ...]  # usual starting points, the most usual one first
    source: str


# ---- the functions --------------------------------------------------------------------------------------


def parabola(x: Array) -> Array:
    """A parabola, on which gradient descent diverges for learning rates above 1.

    f(x) = x**2;   minimum 0 at 0

    x: float[1].

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: textbooks. Not to compare
    methods on: all find it.

    >>> float(jo.landscapes.parabola(jnp.array([2.0])))
    4.0
    """
    (x,) = _variables("parabola", x, 1)
    return x**2


def quintic(x: Array) -> Array:
    """A function of one variable with a local and a global minimum, from x = -1.6 on.

    f(x) = x**5 - 2 x**4 - 3 x**3 + 6 x**2 + x;   minima near -0.079, the global one, and 1.836

    x: float[1].

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: lecture notes. Not left of
    -1.686, where it is below the minimum again, without bound.

    >>> float(jo.landscapes.quintic(jnp.array([1.0])))
    3.0
    """
    (x,) = _variables("quintic", x, 1)
    return x**5 - 2 * x**4 - 3 * x**3 + 6 * x**2 + x


def long_valley(x: Array, condition: float | Array = 10.0) -> Array:
    """A quadratic valley of any condition number.

    f(x) = (x_1**2 + condition x_2**2) / 2;   minimum 0 at 0

    x: float[2].
    condition: kappa, the condition number of its Hessian, >= 1 for a valley along the first axis; 10, with which
        gradient descent zigzags visibly.

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Boyd & Vandenberghe 2004,
    section 9.3.2. Not for methods that solve quadratics at once (newton).

    >>> float(jo.landscapes.long_valley(jnp.array([1.0, 1.0])))
    5.5
    """
    x1, x2 = _variables("long_valley", x, 2)
    return (x1**2 + jnp.asarray(condition, x1.dtype) * x2**2) / 2


def saddle(x: Array) -> Array:
    """A saddle: see which methods leave the origin, and when.

    f(x, y) = x**2 - y**2;   unbounded below

    x: float[2], both variables.

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: textbooks. Not for methods
    that look for a minimum: there is none.

    >>> float(jo.landscapes.saddle(jnp.array([2.0, 1.0])))
    3.0
    """
    x, y = _variables("saddle", x, 2)
    return x**2 - y**2


def monkey_saddle(x: Array) -> Array:
    """A saddle with three ways down, whose Hessian at the origin is zero and does not show them.

    f(x, y) = x**3 - 3 x y**2;   unbounded below

    x: float[2], both variables.

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Hilbert & Cohn-Vossen 1932,
    Anschauliche Geometrie. Not for methods that look for a minimum: there is none.

    >>> float(jo.landscapes.monkey_saddle(jnp.array([1.0, 1.0])))
    -2.0
    """
    x, y = _variables("monkey_saddle", x, 2)
    return x**3 - 3 * x * y**2


def beale(x: Array) -> Array:
    """Beale's function: flat ground with steep corners.

    f(x, y) = (1.5 - x + x y)**2 + (2.25 - x + x y**2)**2 + (2.625 - x + x y**3)**2;   minimum 0 at (3, 0.5)

    x: float[2], both variables.

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Beale 1958; Moré, Garbow &
    Hillstrom 1981, doi:10.1145/355934.355936, problem 5. Not in float16: in its plotted box it reaches 181,853.

    >>> float(jo.landscapes.beale(jnp.array([3.0, 0.5])))
    0.0
    """
    x, y = _variables("beale", x, 2)
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock(x: Array) -> Array:
    """Rosenbrock's valley: a curved floor that is easy to reach and slow to follow.

    f(x) = sum_i 100 (x_{i+1} - x_i**2)**2 + (1 - x_i)**2;   minimum 0 at (1, …, 1)

    x: float[n], n >= 2. From n = 4 on there is a local minimum near (-1, 1, …, 1).

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Rosenbrock 1960,
    doi:10.1093/comjnl/3.3.175. Not for global methods: it has one valley.

    >>> float(jo.landscapes.rosenbrock(jnp.array([1.0, 2.0])))
    100.0
    """
    x = _vector("rosenbrock", x, 2)
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def himmelblau(x: Array) -> Array:
    """Himmelblau's function, with four minima of one value.

    f(x, y) = (x**2 + y - 11)**2 + (x + y**2 - 7)**2;   minima 0 at (3, 2) and three more points

    x: float[2], both variables.

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Himmelblau 1972, Applied
    Nonlinear Programming. Not to see whether a method finds a global minimum: all are.

    >>> float(jo.landscapes.himmelblau(jnp.array([3.0, 2.0])))
    0.0
    """
    x, y = _variables("himmelblau", x, 2)
    return (x**2 + y - 11) ** 2 + (x + y**2 - 7) ** 2


def styblinski_tang(x: Array) -> Array:
    """A function with 2**n minima, one of them global.

    f(x) = sum_i (x_i**4 - 16 x_i**2 + 5 x_i) / 2;   minimum about -39.166 n at (-2.9035, …)

    x: float[n].

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Styblinski & Tang 1990,
    doi:10.1016/0893-6080(90)90029-K. Not for problems whose variables interact: it is a sum over them.

    >>> float(jo.landscapes.styblinski_tang(jnp.array([1.0])))
    -5.0
    """
    x = _vector("styblinski_tang", x)
    return jnp.sum(x**4 - 16 * x**2 + 5 * x) / 2


def rastrigin(x: Array) -> Array:
    """A bowl with a minimum near every point of integers up to 31.

    f(x) = 10 n + sum_i x_i**2 - 10 cos(2 pi x_i);   minimum 0 at 0

    x: float[n].

    Returns float[], float32 at least, without loss of digits near 0. Raises TreeError for another shape or dtype.
    Source: Mühlenbein, Schomisch & Born 1991, doi:10.1016/S0167-8191(05)80052-3. Not for local methods: they stay in
    the first hollow.

    >>> float(jo.landscapes.rastrigin(jnp.zeros(2)))
    0.0
    """
    x = _vector("rastrigin", x)
    return jnp.sum(x**2 + 20 * jnp.sin(math.pi * x) ** 2)  # 1 - cos(2t) = 2 sin(t)**2, without loss of digits


def ackley(x: Array) -> Array:
    """A nearly flat plain of small hollows around one deep one.

    f(x) = 20 + e - 20 exp(-0.2 sqrt(mean(x**2))) - exp(mean(cos(2 pi x)));   minimum 0 at 0

    x: float[n].

    Returns float[], float32 at least. At the origin it has a corner, which is the minimum: the gradient there is given
    as 0. Raises TreeError for another shape or dtype. Source: Ackley 1987, doi:10.1007/978-1-4613-1997-9. Not for
    methods that need a smooth minimum: they converge slowly there.

    >>> float(jo.landscapes.ackley(jnp.zeros(2)))
    0.0
    """
    x = _vector("ackley", x)
    hollow = jnp.expm1(-2 * jnp.mean(jnp.sin(C * x) ** 2))
    return -A * jnp.expm1(-B * safe_sqrt(jnp.mean(x**2))) - math.e * hollow


def powell_singular(x: Array) -> Array:
    """Powell's function, whose Hessian at the minimum is singular: Newton's method is linear here.

    f(x) = (x1 + 10 x2)**2 + 5 (x3 - x4)**2 + (x2 - 2 x3)**4 + 10 (x1 - x4)**4;   minimum 0 at 0

    x: float[4].

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Powell 1962,
    doi:10.1093/comjnl/5.2.147. Not to test digits of x in: f tells few of them.

    >>> float(jo.landscapes.powell_singular(jnp.array([3.0, -1.0, 0.0, 1.0])))
    215.0
    """
    x1, x2, x3, x4 = _variables("powell_singular", x, 4)
    return (x1 + 10 * x2) ** 2 + 5 * (x3 - x4) ** 2 + (x2 - 2 * x3) ** 4 + 10 * (x1 - x4) ** 4


def wood(x: Array) -> Array:
    """Wood's function, with a saddle that is nearly flat: methods that stop at small gradients stop there.

    f(x) = 100 (x2 - x1**2)**2 + (1 - x1)**2 + 90 (x4 - x3**2)**2 + (1 - x3)**2
         + 10.1 ((x2 - 1)**2 + (x4 - 1)**2) + 19.8 (x2 - 1) (x4 - 1);   minimum 0 at (1, 1, 1, 1)

    x: float[4].

    Returns float[], float32 at least. Raises TreeError for another shape or dtype. Source: Colville 1968; Moré, Garbow
    & Hillstrom 1981, problem 14. Not where a picture is wanted: it has four variables.

    >>> float(jo.landscapes.wood(jnp.ones(4)))
    0.0
    """
    x1, x2, x3, x4 = _variables("wood", x, 4)
    valleys = 100 * (x2 - x1**2) ** 2 + (1 - x1) ** 2 + 90 * (x4 - x3**2) ** 2 + (1 - x3) ** 2
    return valleys + 10.1 * ((x2 - 1) ** 2 + (x4 - 1) ** 2) + 19.8 * (x2 - 1) * (x4 - 1)


def _vector(name: str, x: Array, least: int = 1) -> Array:
    _check_variables(name, x, least, None)
    x = jnp.asarray(x)
    return x.astype(compute_dtype(x.dtype))


def _check_variables(name: str, x: Any, least: int, most: int | None) -> None:
    """The argument of a test function: one vector, of floating numbers."""
    dtype, shape = getattr(x, "dtype", None), np.shape(x)
    if len(shape) != 1 or shape[0] < least or (most is not None and shape[0] > most) or dtype is None:
        size = f"({least},)" if most is not None else f"(n,), n >= {least}"
        say(TreeError, name, f"x must be an array of shape {size}", describe(x),
            "Put the variables into one array; for many points, jax.vmap")  # fmt: skip
    if not jnp.issubdtype(dtype, jnp.floating):
        say(TreeError, name, "x must be real floating-point numbers", describe(x), "Convert it: x.astype(jnp.float32)")


def _variables(name: str, x: Array, n: int) -> tuple[Array, ...]:
    _check_variables(name, x, n, n)
    return tuple(_vector(name, x))


# ---- what is known of them ------------------------------------------------------------------------------


def landscape(name: str, dimension: int | None = None, condition: float | None = None) -> Landscape:
    """A landscape by its name, with what is known of it.

    name: a key of LANDSCAPES: rosenbrock, himmelblau, …
    dimension: number of variables of rosenbrock, styblinski_tang, rastrigin or ackley, an int >= 2; None: that of
        LANDSCAPES, 2.
    condition: of long_valley, kappa >= 1; None: that of LANDSCAPES, 10.

    Returns a `Landscape`: fun, dimension, domain, minima, saddles, maxima, usual starts, source. Raises
    HyperparameterError for a name that there is not, or a choice that it does not leave. Not for a function alone:
    landscapes.rosenbrock.

    >>> jo.landscapes.landscape("rosenbrock", dimension=3).minima[0].x
    (1.0, 1.0, 1.0)
    """
    errors.check_choice("landscape", "name", name, list(LANDSCAPES))
    if dimension is not None:
        errors.check_choice("landscape", "name, where dimension is given,", name, list(_FREE))
        errors.check_size("landscape", "dimension", dimension, 2)
        return _FREE[name](dimension)
    if condition is not None:
        errors.check_choice("landscape", "name, where condition is given,", name, ["long_valley"])
        _check_condition("landscape", condition)
        return _long_valley(condition)
    return LANDSCAPES[name]


def _check_condition(name: str, condition: Any) -> None:
    """A condition number."""
    if not is_number(condition) or np.shape(condition) != () or not 1 <= condition < math.inf:
        say(HyperparameterError, name, "condition must be a finite number >= 1", describe(condition),
            "It is the ratio of the largest to the smallest singular value")  # fmt: skip


def _box(low: float, high: float, n: int = 2) -> tuple[Floats, Floats]:
    return (low,) * n, (high,) * n


def _long_valley(condition: float = 10.0) -> Landscape:
    kappa = float(condition)
    width, height = 1.1 * kappa, max(0.4 * kappa, 1.1)
    fun = long_valley if kappa == 10 else functools.partial(long_valley, condition=kappa)
    return Landscape(
        "long_valley", "Long valley", "긴 계곡", fun, 2, ((-width, -height), (width, height)),
        minima=(Point((0.0, 0.0), 0.0),), saddles=(), maxima=(), starts=((kappa, 1.0), (-kappa, 1.0)),
        source="Boyd & Vandenberghe 2004, Convex Optimization, section 9.3.2",
    )  # fmt: skip


def _rosenbrock(n: int = 2) -> Landscape:
    domain = ((-2.0, -1.0), (2.0, 3.0)) if n == 2 else _box(-2.0, 3.0, n)
    return Landscape(
        "rosenbrock", "Rosenbrock's valley", "로젠브록 함수", rosenbrock, n, domain,
        minima=(Point((1.0,) * n, 0.0),), saddles=(), maxima=(), starts=(((-1.2, 1.0) * n)[:n], (0.0,) * n),
        source="Rosenbrock 1960, doi:10.1093/comjnl/3.3.175; MGH problems 1 and 21",
    )  # fmt: skip


def _styblinski_tang(n: int = 2) -> Landscape:
    low, top, high = -2.9035340277711771, 0.15673125678034010, 2.7468027709908370
    f_low, f_top, f_high = -39.166165703771415, 0.19561235905535807, -25.029446655283943
    rest = (low,) * (n - 1)
    return Landscape(
        "styblinski_tang", "Styblinski-Tang", "스티블린스키-탕 함수", styblinski_tang, n, _box(-5.0, 5.0, n),
        minima=(
            Point((low, *rest), n * f_low), Point((high, *rest), (n - 1) * f_low + f_high),
            Point((high,) * n, n * f_high),
        ),
        saddles=(Point((top, *rest), (n - 1) * f_low + f_top),), maxima=(Point((top,) * n, n * f_top),),
        starts=((0.0,) * n, (4.0,) * n),
        source="Styblinski & Tang 1990, doi:10.1016/0893-6080(90)90029-K",
    )  # fmt: skip


def _rastrigin(n: int = 2) -> Landscape:
    rest, near, top = (0.0,) * (n - 1), 0.99495863765233480, 0.50254603655467463
    f_near, f_top = 0.99495905709329139, 20.251272990990113
    return Landscape(
        "rastrigin", "Rastrigin", "라스트리긴 함수", rastrigin, n, _box(-5.12, 5.12, n),
        minima=(Point((0.0, *rest), 0.0), Point((near, *rest), f_near), Point((-near,) * n, n * f_near)),
        saddles=(Point((top, *rest), f_top),), maxima=(Point((top,) * n, n * f_top),),
        starts=((3.4,) * n, ((2.3, -1.7) * n)[:n]),
        source="Mühlenbein, Schomisch & Born 1991, doi:10.1016/S0167-8191(05)80052-3",
    )  # fmt: skip


def _ackley(n: int = 2) -> Landscape:
    return Landscape(
        "ackley", "Ackley", "애클리 함수", ackley, n, _box(-5.0, 5.0, n),
        minima=(Point((0.0,) * n, 0.0),), saddles=(), maxima=(), starts=(((-3.4, 2.4) * n)[:n], (4.3,) * n),
        source="Ackley 1987, A Connectionist Machine for Genetic Hillclimbing, doi:10.1007/978-1-4613-1997-9",
    )  # fmt: skip


_FREE: dict[str, Callable[[int], Landscape]] = {
    "rosenbrock": _rosenbrock,
    "styblinski_tang": _styblinski_tang,
    "rastrigin": _rastrigin,
    "ackley": _ackley,
}

_ALL = (
    Landscape(
        "parabola", "Parabola", "포물선", parabola, 1, _box(-10.0, 10.0, 1),
        minima=(Point((0.0,), 0.0),), saddles=(), maxima=(), starts=((-6.0,), (4.0,)), source="textbooks",
    ),
    Landscape(
        "quintic", "A local and a global minimum", "극솟값과 최솟값", quintic, 1, _box(-1.0, 2.5, 1),
        minima=(
            Point((-0.078997742661107440,), -0.040155860252188636), Point((1.8361412873598942,), 1.6309584798033028),
        ),
        saddles=(), maxima=(Point((1.0982879224924663,), 3.0493249814009097),),
        starts=((2.5,), (-1.0,), (1.0,)), source="lecture notes; below the minimum again left of -1.686",
    ),
    _long_valley(),
    Landscape(
        "saddle", "Saddle", "안장점", saddle, 2, _box(-2.0, 2.0),
        minima=(), saddles=(Point((0.0, 0.0), 0.0),), maxima=(),
        starts=((1.5, 0.01), (1.5, 0.0)), source="textbooks; the second start never leaves y = 0",
    ),
    Landscape(
        "monkey_saddle", "Monkey saddle", "원숭이 안장", monkey_saddle, 2, _box(-1.5, 1.5),
        minima=(), saddles=(Point((0.0, 0.0), 0.0),), maxima=(),
        starts=((1.0, 0.01), (1.0, 0.0)), source="Hilbert & Cohn-Vossen 1932, Anschauliche Geometrie",
    ),
    Landscape(
        "beale", "Beale", "빌 함수", beale, 2, _box(-4.5, 4.5),
        minima=(Point((3.0, 0.5), 0.0),), saddles=(Point((0.0, 1.0), 14.203125),), maxima=(),
        starts=((1.0, 1.0), (1.0, 1.5), (-2.0, 2.0)), source="Beale 1958; MGH problem 5",
    ),
    _rosenbrock(),
    Landscape(
        "himmelblau", "Himmelblau", "힘멜블라우 함수", himmelblau, 2, _box(-5.0, 5.0),
        minima=(
            Point((3.0, 2.0), 0.0), Point((-2.8051180869527449, 3.1313125182505730), 0.0),
            Point((-3.7793102533777469, -3.2831859912861694), 0.0),
            Point((3.5844283403304917, -1.8481265269644036), 0.0),
        ),
        saddles=(
            Point((3.3851541836070209, 0.073851879837749288), 13.311926270405590),
            Point((0.086677504555396352, 2.8842547011747761), 67.719150087526140),
            Point((-3.0730257507643896, -0.081353044287967512), 104.01516291755811),
            Point((-0.12796134673068007, -1.9537149802445764), 178.33723920192746),
        ),
        maxima=(Point((-0.27084459066734761, -0.92303855647998146), 181.61652152258270),),
        starts=((0.0, 0.0), (-0.5, -1.0)), source="Himmelblau 1972, Applied Nonlinear Programming; arXiv:1308.4008",
    ),
    _styblinski_tang(),
    _rastrigin(),
    _ackley(),
    Landscape(
        "powell_singular", "Powell's singular function", "파월 특이 함수", powell_singular, 4, _box(-4.0, 4.0, 4),
        minima=(Point((0.0, 0.0, 0.0, 0.0), 0.0),), saddles=(), maxima=(),
        starts=((3.0, -1.0, 0.0, 1.0),), source="Powell 1962, doi:10.1093/comjnl/5.2.147; MGH problem 13",
    ),
    Landscape(
        "wood", "Wood", "우드 함수", wood, 4, _box(-4.0, 4.0, 4),
        minima=(Point((1.0, 1.0, 1.0, 1.0), 0.0),),
        saddles=(
            Point(
                (-0.96797402493759307, 0.94713914081784182, -0.96951631033159115, 0.95124766579232528),
                7.8769671651768675,
            ),
        ),
        maxima=(), starts=((-3.0, -1.0, -3.0, -1.0),), source="Colville 1968; MGH problem 14",
    ),
)  # fmt: skip

LANDSCAPES: dict[str, Landscape] = {each.name: each for each in _ALL}
