"""What a row of the catalogue is: what is said of a method, how it is made, and the measured bytes of its state."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core.method import name_of, takes
from jaxopt_ko.optimizers.adabelief import acprop, adabelief
from jaxopt_ko.optimizers.adadelta import adadelta
from jaxopt_ko.optimizers.adafactor import adafactor
from jaxopt_ko.optimizers.adagrad import adagrad
from jaxopt_ko.optimizers.adam import adam, adamax, adamaxw, adamw, nadam, nadamw
from jaxopt_ko.optimizers.adamc import adamc
from jaxopt_ko.optimizers.adan import adan
from jaxopt_ko.optimizers.ademamix import ademamix, simplified_ademamix
from jaxopt_ko.optimizers.adopt import adopt
from jaxopt_ko.optimizers.amsgrad import amsgrad
from jaxopt_ko.optimizers.fromage import fromage
from jaxopt_ko.optimizers.lamb import lamb
from jaxopt_ko.optimizers.lars import lars
from jaxopt_ko.optimizers.lion import lion
from jaxopt_ko.optimizers.madgrad import madgrad
from jaxopt_ko.optimizers.more.adabound import adabound
from jaxopt_ko.optimizers.more.adam_mini import adam_mini
from jaxopt_ko.optimizers.more.adamp import adamp, sgdp
from jaxopt_ko.optimizers.more.adamuon import adamuon, normuon
from jaxopt_ko.optimizers.more.aggmo import aggmo
from jaxopt_ko.optimizers.more.apollo import apollo
from jaxopt_ko.optimizers.more.asgo import asgo
from jaxopt_ko.optimizers.more.aurora import aurora
from jaxopt_ko.optimizers.more.came import came
from jaxopt_ko.optimizers.more.cocob import cocob
from jaxopt_ko.optimizers.more.conda import conda
from jaxopt_ko.optimizers.more.dadaptation import dadapt_adamw, dadapt_lion, dadapt_sgd
from jaxopt_ko.optimizers.more.dion import dion
from jaxopt_ko.optimizers.more.dion2 import dion2
from jaxopt_ko.optimizers.more.dog import dog, dowg
from jaxopt_ko.optimizers.more.fira import fira
from jaxopt_ko.optimizers.more.ftrl import ftrl
from jaxopt_ko.optimizers.more.galore import galore
from jaxopt_ko.optimizers.more.grams import grams
from jaxopt_ko.optimizers.more.kl_shampoo import kl_shampoo, kl_soap
from jaxopt_ko.optimizers.more.kron import psgd_kron
from jaxopt_ko.optimizers.more.laprop import laprop
from jaxopt_ko.optimizers.more.momo import momo, momo_adam
from jaxopt_ko.optimizers.more.muown import muown
from jaxopt_ko.optimizers.more.polargrad import polargrad
from jaxopt_ko.optimizers.more.prodigy import prodigy
from jaxopt_ko.optimizers.more.quasi_hyperbolic import qhadam, qhm
from jaxopt_ko.optimizers.more.schedule_free_plus import schedule_free_plus
from jaxopt_ko.optimizers.more.scion import scion
from jaxopt_ko.optimizers.more.sophia import sophia
from jaxopt_ko.optimizers.more.spam import spam, stable_spam
from jaxopt_ko.optimizers.more.spectral_sphere import spectral_sphere
from jaxopt_ko.optimizers.more.splus import splus
from jaxopt_ko.optimizers.more.stable_adamw import stable_adamw
from jaxopt_ko.optimizers.more.tam import tam
from jaxopt_ko.optimizers.muon import muon
from jaxopt_ko.optimizers.noisy_sgd import noisy_sgd
from jaxopt_ko.optimizers.novograd import novograd
from jaxopt_ko.optimizers.optimistic import optimistic_adam_v2, optimistic_gradient_descent
from jaxopt_ko.optimizers.polyak import polyak_sgd
from jaxopt_ko.optimizers.radam import radam
from jaxopt_ko.optimizers.rmsprop import rmsprop
from jaxopt_ko.optimizers.rprop import rprop
from jaxopt_ko.optimizers.sgd import sgd
from jaxopt_ko.optimizers.shampoo import shampoo
from jaxopt_ko.optimizers.sign import sign_sgd, signum
from jaxopt_ko.optimizers.sm3 import sm3
from jaxopt_ko.optimizers.soap import soap, soap_muon
from jaxopt_ko.optimizers.yogi import yogi
from jaxopt_ko.solvers.augmented import augmented_lagrangian
from jaxopt_ko.solvers.conjugate_gradient import nonlinear_cg
from jaxopt_ko.solvers.interior_point import interior_point
from jaxopt_ko.solvers.lbfgsb import lbfgsb
from jaxopt_ko.solvers.least_squares import gauss_newton, levenberg_marquardt
from jaxopt_ko.solvers.linear import cg
from jaxopt_ko.solvers.nelder_mead import nelder_mead
from jaxopt_ko.solvers.newton import newton, newton_cg
from jaxopt_ko.solvers.proximal import projected_gradient, proximal_gradient
from jaxopt_ko.solvers.quadratic import quadratic_interior_point
from jaxopt_ko.solvers.quasi_newton import bfgs, lbfgs
from jaxopt_ko.solvers.spsa import mezo, spsa
from jaxopt_ko.types import GradientTransformation

LANGUAGES = ("en", "ko")
Text = tuple[str, str]  # in each of the languages

METHODS: dict[str, Callable[..., GradientTransformation]] = {
    factory.__name__: factory
    for factory in (
        *(sgd, adagrad, rmsprop, adadelta, adam, adamw, adamc, adamax, adamaxw, nadam, nadamw, amsgrad),
        *(rprop, sign_sgd, signum, lion, yogi, radam, adabelief, adan),
        *(adafactor, sm3, galore, apollo, lars, novograd, lamb, fromage),
        *(qhm, qhadam, aggmo, ftrl, adabound, adamp, sgdp),
        *(spam, stable_spam, fira, dadapt_sgd, dadapt_lion),
        *(schedule_free_plus, conda, tam),
        *(laprop, grams, stable_adamw, adam_mini, came),
        *(ademamix, simplified_ademamix, adopt, acprop, madgrad, noisy_sgd, sophia),
        *(optimistic_gradient_descent, optimistic_adam_v2),
        *(shampoo, muon, normuon, adamuon, scion, soap, soap_muon, dion, psgd_kron, splus, kl_shampoo, kl_soap),
        *(aurora, polargrad, dion2, asgo, muown, spectral_sphere),
        *(polyak_sgd, cocob, dadapt_adamw, prodigy, dog, dowg, momo, momo_adam),
        *(cg, nonlinear_cg, bfgs, lbfgs, lbfgsb, newton, newton_cg, gauss_newton, levenberg_marquardt),
        *(projected_gradient, proximal_gradient, augmented_lagrangian, interior_point),
        *(nelder_mead, spsa, mezo),
    )
} | dict.fromkeys(("linear_program", "quadratic_program"), quadratic_interior_point)


class Memory(NamedTuple):
    """Bytes of a state over n float32 parameters, with m residuals or inequalities: a polynomial of the two."""

    mn: int
    nn: int  # n**2
    m: int
    n: int
    rest: int  # counts, and what is as long for any problem
    root: int = 0  # sqrt(n): the sides of a matrix

    @property
    def per_parameter(self) -> int:
        """Bytes that a parameter adds, where none of them adds more than another (nn and mn are 0)."""
        return self.n

    def __str__(self) -> str:
        """Without the rest."""
        terms = ((self.mn, "mn"), (self.nn, "n²"), (self.m, "m"), (self.n, "n"), (self.root, "√n"))
        return " + ".join(f"{size}{letter}" for size, letter in terms if size) or "0"


class Row(NamedTuple):
    """A method."""

    name: str  # the public one, unless there are several rows of one factory
    title: Text
    family: str
    year: int
    paper: str
    equation: str  # LaTeX
    needs: tuple[str, ...]
    parents: tuple[str, ...]  # names of the rows that it grew out of
    sentence: Text
    strengths: Text
    not_for: Text
    factory: str = ""  # the public name, if it is another
    options: Mapping[str, Any] = {}

    @property
    def call(self) -> str:
        """How the method is written, but for the learning rate."""
        options = ", ".join(_shown(name, value) for name, value in self.options.items())
        return (self.factory or self.name) + (f"({options})" if options else "")

    @property
    def memory(self) -> Memory:
        """That of a state, measured."""
        if self.name not in _MEASURED:
            _MEASURED[self.name] = _measured(self)
        return _MEASURED[self.name]

    @property
    def by_shape(self) -> bool:
        """Whether the state of a matrix has another size than that of a vector of as many parameters: `memory` is then
        that of a square matrix, of 256 rows at least where the method leaves smaller ones alone.
        """
        if self.family == "matrix":
            return True
        if self.needs[0] != "gradient":
            return False
        if self.name not in _BY_SHAPE:
            _BY_SHAPE[self.name] = _bytes(self, (SIDE**2,), 0) != _bytes(self, (SIDE, SIDE), 0)
        return _BY_SHAPE[self.name]

    def make(self) -> GradientTransformation:
        """The method, with a learning rate of 0.1 if it takes one."""
        factory = METHODS[self.factory or self.name]
        rate = {"learning_rate": 0.1} if self.needs[0] == "gradient" and takes(factory, "learning_rate") else {}
        return factory(**rate, **self.options)


def _shown(name: str, value: Any) -> str:
    """An option as it is written; a function, which is the user's, by its part."""
    if isinstance(value, GradientTransformation):
        return f"{name_of(value)}()"
    return name if callable(value) else f"{name}={value!r}"


# ---- the size of a state --------------------------------------------------------------------------------

SIZES = ((4, 8), (6, 8), (8, 8), (4, 10), (6, 10))  # (n, m) where a polynomial of Memory's terms has one fit

SIDE = 256  # of a matrix that every method takes for one: Adafactor begins at 128, GaLore above its rank

_MEASURED: dict[str, Memory] = {}  # by name of the row
_BY_SHAPE: dict[str, bool] = {}  # the same


def _measured(row: Row) -> Memory:
    if row.by_shape:  # of square matrices of n weights
        sides = (64, 128, 256) if row.family == "matrix" else (SIDE, 2 * SIDE, 4 * SIDE)
        fit = np.linalg.solve(np.vander(sides, 3).astype(float), [float(state_bytes(row, k * k, 0)) for k in sides])
        n, root, rest = map(round, fit)
        return Memory(0, 0, 0, n, rest, root)
    terms = [(m * n, n * n, m, n, 1) for n, m in SIZES]
    sizes = [state_bytes(row, n, m) for n, m in SIZES]
    return Memory(*(round(size) for size in np.linalg.solve(np.array(terms, float), np.array(sizes, float))))


def state_bytes(row: Row, n: int, m: int) -> int:
    """Bytes of the state over n float32 parameters, with m residuals or inequalities where the method has such.

    row: of the catalogue, `jo.catalog.BY_NAME["adam"]` say.
    n: how many parameters, an integer >= 1; where the row is `by_shape` a square number, of the elements of a matrix.
    m: how many residuals or inequalities, an integer >= 1; without effect for other methods.

    Returns an int: the bytes of all arrays, counts included; nothing is computed, shapes alone are found.

    >>> jo.catalog.state_bytes(jo.catalog.BY_NAME["adam"], 100, 1)  # two moments of 4 bytes, and a count
    804
    """

    return _bytes(row, (math.isqrt(n),) * 2 if row.by_shape else (n,), m)


def _bytes(row: Row, shape: tuple[int, ...], m: int) -> int:
    """Of the state over parameters of one shape."""

    def start(params: jax.Array) -> Any:
        return row.make().init(params, **_problem(row, params, m))

    state = jax.eval_shape(start, np.zeros(shape, np.float32))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _problem(row: Row, x: jax.Array, m: int) -> dict[str, Any]:
    """The arguments that the method's init takes."""
    rows = jnp.ones((m, x.size), x.dtype)
    extra_args: dict[str, dict[str, Any]] = {
        "value_fn": {"value_fn": lambda p: jnp.sum(p * p)},
        "residual_fn": {"residual_fn": lambda p: rows @ p},
        "operator": {"operator": lambda p: p, "b": x},
        "constraints": {"inequality": lambda p: rows @ p},
        "matrices": {"c": x, "G": rows, "h": rows[:, 0]},
    }
    return {name: word for need in row.needs for name, word in extra_args.get(need, {}).items()}
