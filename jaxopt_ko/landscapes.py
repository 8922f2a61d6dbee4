"""The functions everyone plots, with what is known of them.

Each is float[n] -> float[], pure, to be jitted, vmapped and differentiated as often as one likes, in any floating
dtype. Sources: More, Garbow & Hillstrom 1981, ACM TOMS 7(1), for those with a number there; Surjanovic & Bingham,
Virtual Library of Simulation Experiments, for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.numerics import safe_sqrt

Point = tuple[float, ...]


class Landscape(NamedTuple):
    """A function with its picture's frame and its known points."""

    name: str
    title: str
    korean: str
    fun: Callable[[Array], Array]  # float[n] -> float[]
    lower: Point  # of the domain that is drawn
    upper: Point
    minima: tuple[tuple[Point, float], ...]  # (where, how low), the global ones first
    saddles: tuple[Point, ...]  # known critical points that are neither minimum nor maximum
    starts: tuple[Point, ...]  # usual ones
    source: str

    @property
    def dimension(self) -> int:
        """n."""
        return len(self.lower)

    @property
    def domain(self) -> tuple[Point, Point]:
        """(lower, upper)."""
        return self.lower, self.upper


def parabola(x: Array) -> Array:
    """sum x**2."""
    return jnp.sum(x * x)


def long_valley(x: Array, condition: float = 10.0) -> Array:
    """(x1**2 + condition x2**2) / 2: the Hessian's condition number is `condition`, if that is at least 1."""
    return 0.5 * (x[0] ** 2 + condition * x[1] ** 2)


def saddle(x: Array) -> Array:
    """x**2 - y**2."""
    return x[0] ** 2 - x[1] ** 2


def monkey_saddle(x: Array) -> Array:
    """x**3 - 3 x y**2: three ways down, for two legs and a tail; its Hessian at 0 is 0."""
    return x[0] ** 3 - 3 * x[0] * x[1] ** 2


def quintic(x: Array) -> Array:
    """x**5 - 2 x**4 - 3 x**3 + 6 x**2 + x of one variable: a local and, on [-1, 2.5], a global minimum."""
    y = x[0]
    return y**5 - 2 * y**4 - 3 * y**3 + 6 * y**2 + y


def beale(x: Array) -> Array:
    """(1.5 - x + x y)**2 + (2.25 - x + x y**2)**2 + (2.625 - x + x y**3)**2."""
    a, b = x[0], x[1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def rosenbrock(x: Array) -> Array:
    """sum 100 (x_i+1 - x_i**2)**2 + (1 - x_i)**2: a curved valley, at the end of which is (1, ..., 1)."""
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def himmelblau(x: Array) -> Array:
    """(x**2 + y - 11)**2 + (x + y**2 - 7)**2: four minima, all 0."""
    a, b = x[0], x[1]
    return (a**2 + b - 11) ** 2 + (a + b**2 - 7) ** 2


def rastrigin(x: Array) -> Array:
    """sum 10 + x_i**2 - 10 cos(2 pi x_i): a bowl with a minimum near every point of whole numbers."""
    return jnp.sum(10 + x * x - 10 * jnp.cos(2 * np.pi * x))


def ackley(x: Array) -> Array:
    """20 + e - 20 exp(-0.2 sqrt(mean x**2)) - exp(mean cos(2 pi x)): a funnel, pointed at 0, where its slope is taken
    to be 0."""
    return (20 + np.e) - 20 * jnp.exp(-0.2 * safe_sqrt(jnp.mean(x * x))) - jnp.exp(jnp.mean(jnp.cos(2 * np.pi * x)))


def styblinski_tang(x: Array) -> Array:
    """sum (x_i**4 - 16 x_i**2 + 5 x_i) / 2: two minima for each variable."""
    return 0.5 * jnp.sum(x**4 - 16 * x**2 + 5 * x)


def powell_singular(x: Array) -> Array:
    """(a + 10 b)**2 + 5 (c - d)**2 + (b - 2 c)**4 + 10 (a - d)**4: its Hessian at the minimum, 0, is singular."""
    a, b, c, d = x[0], x[1], x[2], x[3]
    return (a + 10 * b) ** 2 + 5 * (c - d) ** 2 + (b - 2 * c) ** 4 + 10 * (a - d) ** 4


def wood(x: Array) -> Array:
    """100 (b - a**2)**2 + (1 - a)**2 + 90 (d - c**2)**2 + (1 - c)**2 + 10 (b + d - 2)**2 + 0.1 (b - d)**2."""
    a, b, c, d = x[0], x[1], x[2], x[3]
    valleys = 100 * (b - a**2) ** 2 + (1 - a) ** 2 + 90 * (d - c**2) ** 2 + (1 - c) ** 2
    return valleys + 10 * (b + d - 2) ** 2 + 0.1 * (b - d) ** 2


# the minimum of (x**4 - 16 x**2 + 5 x) / 2 and its other one, roots of 4 x**3 - 32 x + 5
DEEP, SHALLOW, TOP = (float(root) for root in np.sort(np.roots([4, 0, -32, 5]))[[0, 2, 1]])


def _tang(*x: float) -> tuple[Point, float]:
    return x, sum(0.5 * (v**4 - 16 * v**2 + 5 * v) for v in x)


def _two(a: float) -> Point:
    return (a, a)


# fmt: off
LANDSCAPES: dict[str, Landscape] = {
    row.name: row
    for row in (
        Landscape("parabola", "Parabola", "포물선", parabola, (-1.2,), (1.2,), (((0.0,), 0.0),), (), ((1.0,), (-0.8,)),
                  "the source's picture of learning rates"),
        Landscape("quintic", "Local and global minimum", "지역 최솟값과 전역 최솟값", quintic, (-1.0,), (2.5,),
                  (((-0.0789977426611,), -0.0401558602522), ((1.8361412873599,), 1.6309584798033)), (),
                  ((-0.9,), (1.0,), (1.2,), (2.4,)),
                  "x**5 - 2 x**4 - 3 x**3 + 6 x**2 + x on [-1, 2.5]"),
        Landscape("long_valley", "Long valley", "긴 골짜기", long_valley, (-11.0, -3.0), (11.0, 3.0),
                  (((0.0, 0.0), 0.0),), (), ((-10.0, 1.0), (-7.0, 2.0), (8.0, -2.0)),
                  "quadratic with the condition number 10"),
        Landscape("saddle", "Saddle", "안장점", saddle, _two(-1.5), _two(1.5), (), ((0.0, 0.0),),
                  ((1.0, 1e-4), (-1.2, 0.05), (1.0, 0.0)), "x**2 - y**2"),
        Landscape("monkey_saddle", "Monkey saddle", "원숭이 안장점", monkey_saddle, _two(-1.5), _two(1.5), (),
                  ((0.0, 0.0),), ((1.0, 0.05), (0.8, 0.8), (0.0, 1.0)), "Hilbert & Cohn-Vossen 1932"),
        Landscape("beale", "Beale", "Beale 함수", beale, _two(-4.5), _two(4.5), (((3.0, 0.5), 0.0),), ((0.0, 1.0),),
                  ((1.0, 1.0), (-3.0, -3.0), (0.5, 3.5)), "Beale 1958; MGH 5"),
        Landscape("rosenbrock", "Rosenbrock", "Rosenbrock 함수", rosenbrock, (-2.0, -1.0), (2.0, 3.0),
                  (((1.0, 1.0), 0.0),), (), ((-1.2, 1.0), (0.0, 2.5), (1.8, -0.5)), "Rosenbrock 1960; MGH 1"),
        Landscape("himmelblau", "Himmelblau", "Himmelblau 함수", himmelblau, _two(-6.0), _two(6.0),
                  (((3.0, 2.0), 0.0), ((-2.8051180869527, 3.1313125182506), 0.0),
                   ((-3.7793102533777, -3.2831859912861), 0.0), ((3.5844283403305, -1.8481265269644), 0.0)),
                  ((-3.0730257507644, -0.0813530442880), (0.0866775045554, 2.8842547011747),
                   (3.3851541836070, 0.0738518798377), (-0.1279613467307, -1.9537149802446)),
                  ((0.0, 0.0), (-1.0, -5.0), (5.0, 4.0)), "Himmelblau 1972"),
        Landscape("rastrigin", "Rastrigin", "Rastrigin 함수", rastrigin, _two(-5.12), _two(5.12),
                  (((0.0, 0.0), 0.0),), (), ((3.2, 2.1), (-2.4, 4.6), (0.6, -0.7)), "Rastrigin 1974"),
        Landscape("ackley", "Ackley", "Ackley 함수", ackley, _two(-5.0), _two(5.0), (((0.0, 0.0), 0.0),), (),
                  ((3.2, 2.1), (-2.4, 4.6), (0.6, -0.7)), "Ackley 1987"),
        Landscape("styblinski_tang", "Styblinski-Tang", "Styblinski-Tang 함수", styblinski_tang, _two(-5.0), _two(5.0),
                  (_tang(DEEP, DEEP), _tang(DEEP, SHALLOW), _tang(SHALLOW, DEEP), _tang(SHALLOW, SHALLOW)),
                  ((TOP, DEEP), (DEEP, TOP), (TOP, SHALLOW), (SHALLOW, TOP)), ((0.0, 0.0), (4.5, 1.0), (-1.0, 4.0)),
                  "Styblinski & Tang 1990"),
        Landscape("powell_singular", "Powell's singular function", "Powell 특이 함수", powell_singular, (-4.0,) * 4,
                  (4.0,) * 4, (((0.0,) * 4, 0.0),), (), ((3.0, -1.0, 0.0, 1.0),), "Powell 1962; MGH 13"),
        Landscape("wood", "Wood", "Wood 함수", wood, (-4.0,) * 4, (4.0,) * 4, (((1.0,) * 4, 0.0),), (),
                  ((-3.0, -1.0, -3.0, -1.0),), "Colville 1968; MGH 14"),
    )
}
# fmt: on
