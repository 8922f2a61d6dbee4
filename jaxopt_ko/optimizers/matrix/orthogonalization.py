"""The orthogonal matrices nearest to those of a tree, or of its mean: what Muon and its kin are made of."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import pytree_class
from jaxopt_ko.core.numerics import inner, length, or_one, real_dtype
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, HyperparameterError, describe, say
from jaxopt_ko.linalg.matrix_functions import PRECONDITIONINGS, PRESETS, Coefficients, orthogonalized
from jaxopt_ko.optimizers.matrix.axes import Layout
from jaxopt_ko.types import DType, GradientTransformation, Hyper, Params, Updates


class Orthogonalization(NamedTuple):
    """How a matrix is made orthogonal: options that travel together, and make two calls one compiled program."""

    coefficients: tuple[Coefficients, ...]  # a, b, c of each step of Newton-Schulz
    preconditioning: str = "frobenius"  # of `matrix_functions.orthogonalized`, as are compute_dtype and gram
    compute_dtype: DType | None = None
    gram: bool | None = None
    adaptive: bool = False  # u <x, u> in the place of u
    balance: int = 0  # times that a matrix which is not square is orthogonalized, its long side's norms evened between
    balance_power: float = 0.5  # how far


def orthogonalization(
    name: str,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str,
    ns_steps: int,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    adaptive: bool = False,
) -> Orthogonalization:
    """The options of a public signature, checked. ns_coeffs: for every step, for each one, or the name of a preset."""
    schedule = _schedule(name, ns_coeffs, ns_steps)
    errors.check_choice(name, "preconditioning", preconditioning, PRECONDITIONINGS)
    errors.check_dtype(name, "compute_dtype", compute_dtype)
    return Orthogonalization(schedule, preconditioning, compute_dtype, gram, adaptive)


def _schedule(name: str, ns_coeffs: Any, ns_steps: int) -> tuple[Coefficients, ...]:
    """The coefficients of every step."""
    errors.check_size(name, "ns_steps", ns_steps)
    if isinstance(ns_coeffs, str):
        errors.check_choice(name, "ns_coeffs", ns_coeffs, tuple(PRESETS))
        return PRESETS[ns_coeffs](ns_steps)
    table = np.asarray(_check_coefficients(name, "ns_coeffs", ns_coeffs), float)
    rows = table.tolist() if table.ndim == 2 else [table.tolist()] * ns_steps
    return tuple((a, b, c) for a, b, c in rows)


def _check_coefficients(name: str, argument: str, value: Any) -> Any:
    """(a, b, c), or such a triple for each step."""
    shape = np.shape(value)
    if not (len(shape) in (1, 2) and shape[-1] == 3 and shape[0] > 0 and np.all(np.isfinite(value))):
        say(
            HyperparameterError,
            name,
            f"{argument} must be three finite numbers, or three for each step",
            describe(value),
        )
    return value


@pytree_class("layout", "scale_of")
class OrthogonalDirection:
    """s U V' of all matrices X = U S V' of a tree, s a function of (fan_in, fan_out)."""

    def __init__(
        self, name: str, how: Orthogonalization, layout: Layout,
        shape_scale: Callable[[int, int], float] | None = None,
    ) -> None:  # fmt: skip
        self.name, self.how, self.layout = name, how, layout
        self.scale_of = shape_scale or (lambda fan_in, fan_out: 1.0)

    def __call__(
        self, updates: Updates, weights: tuple[Array, ...], terms: Sequence[list[Array]], eps: Array, when: Array
    ) -> Updates:
        """s U V' of the weighted sum of the terms, leaf by leaf; zeros where not `when`."""
        leaves, treedef = tree.flatten(updates)
        axes, sharding = self.layout.axes(self.name, updates), self.layout.sharding
        of_stack = functools.partial(_orthogonalized, how=self.how, sharding=sharding)
        whole, shared = sharding is not None, (weights, eps)
        u = stacking.on_stacks(of_stack, axes, *terms, when=when, whole=whole, shared=shared)
        s = [self.scale_of(*own.shape(x.shape)[1:]) if x.size else 1 for x, own in zip(leaves, axes, strict=True)]
        return treedef.unflatten([
            (x if k == 1 else k * x).astype(g.dtype) for x, k, g in zip(u, s, leaves, strict=True)
        ])  # fmt: skip


@functools.partial(jax.jit, static_argnames=("how", "sharding"))
def _orthogonalized(
    weights: tuple[Array, ...],  # float[]     of m_t and g in m_hat
    eps: Array,  # float[]
    *terms: Array,  # [N, m, n]  m_t and g
    how: Orthogonalization,
    sharding: jax.sharding.Sharding | None,
) -> Array:
    wide = tree.compute_dtype(*(x.dtype for x in terms))
    real = real_dtype(wide)
    parts = [(w.astype(real), x.astype(wide)) for w, x in zip(weights, terms, strict=True)]
    most: Array = sum(w * jnp.max(jnp.abs(x), axis=(1, 2), keepdims=True, initial=0) for w, x in parts)
    # What is squared neither overflows nor vanishes; nothing depends on the unit.
    unit = jax.lax.stop_gradient(or_one(most))
    x: Array = sum(w / unit * x for w, x in parts)
    if sharding is not None:  # one exchange, and each device has matrices of its own
        x = jax.lax.with_sharding_constraint(x, sharding)  # type: ignore[no-untyped-call]
    u = nearest(x, unit, eps.astype(real), how).astype(wide)
    return unit * u * jnp.sum(inner(x, u), axis=(1, 2), keepdims=True) if how.adaptive else u


def nearest(x: Array, unit: Array | float, eps: Array, how: Orthogonalization) -> Array:
    """float[N, m, n] -> the orthogonal matrices near to unit x, whose long sides are even if `how` says so."""
    near = functools.partial(
        orthogonalized, coefficients=how.coefficients, eps=eps, preconditioning=how.preconditioning,
        compute_dtype=how.compute_dtype, gram=how.gram,
    )  # fmt: skip
    short, long = sorted(x.shape[1:])
    if not how.balance or short == long:
        return near(x, eps=eps / unit)
    axis = 2 if x.shape[1] == long else 1
    D = divided_or_zero(length(x, axis, keepdims=True))
    u = near(D * x)
    for _ in range(how.balance - 1):
        size = length(u.astype(x.dtype), axis, keepdims=True)
        D = D * ((short / long) ** 0.5 * divided_or_zero(size)) ** (2 * how.balance_power)
        u = near(D * x)
    return u


def divided_or_zero(x: Array) -> Array:
    """1 / x, and 0 of 0."""
    return jnp.where(x > 0, 1 / or_one(x), jnp.zeros_like(x))


# ---- of a mean gradient ---------------------------------------------------------------------------------


@quantizable(signed=("mu",))
class Mean(NamedTuple):
    """What Muon and its kin keep of a mean, as the state of a leafwise rule."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g


@pytree_class("mean", "direction")
class MeanDirection:
    """m_t = beta m + (1 - beta) g, and the orthogonal direction of m_hat: Muon's rule as a part of other methods.

    The decay, by the name that a method gives it, and eps are among the hyperparameters h of each step.
    corrected: m_hat is corrected for the start at zero, as optax has it; False: m_t, or beta m_t + (1 - beta) g.
    """

    def __init__(
        self, name: str, decay: str, beta: Hyper, mu_dtype: DType | None, nesterov: bool,
        direction: OrthogonalDirection, corrected: bool = True,
    ) -> None:  # fmt: skip
        self.decay, self.nesterov, self.direction, self.corrected = decay, nesterov, direction, corrected
        self.name, self.mu_dtype, self.scheduled = name, mu_dtype, callable(beta)
        self.mean = _mean(name, errors.check_hyper(name, decay, beta, FRACTION), mu_dtype)

    def init(self, params: Params) -> Mean:
        """m_0."""
        mean: Mean = self.mean.init(params)
        return mean

    def step(self, updates: Updates, mean: Mean, h: Scalars) -> tuple[Updates, Mean]:
        """u and m_t."""
        beta = getattr(h, self.decay)
        rule = _mean(self.name, lambda count: beta, self.mu_dtype) if self.scheduled else self.mean
        _, mean = rule.update(updates, mean)  # with the value that was read: a schedule costs as much as a leaf
        weights = self._weights(beta, h)
        both = zip(*(tree.flatten(x, none_is_leaf=True)[0] for x in (mean.mu, updates)), strict=True)
        mu = [m for m, g in both if g is not None]
        terms = [mu, jax.tree.leaves(updates)] if self.nesterov else [mu]
        return self.direction(updates, weights, terms, h.eps, when=mean.count > 0), mean

    def _weights(self, b: Array, h: Scalars) -> tuple[Array, ...]:
        """Of m_t, and of g."""
        if not self.corrected:
            return (b, 1 - b) if self.nesterov else (jnp.ones_like(b),)
        c = h.gathered(self.decay)
        return (b / h.gathered_next(self.decay), (1 - b) / c) if self.nesterov else (1 / c,)


def _mean(name: str, beta: Hyper, mu_dtype: DType | None) -> GradientTransformation:
    """m_t, by a leafwise rule that lets the gradients pass."""

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, mu_dtype),)

    def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:
        return g, h.beta * m + (1 - h.beta) * g

    dtypes = {"mu_dtype": mu_dtype}
    return leafwise(name, Mean, init=init, rule=rule, hypers={"beta": (beta, FRACTION)}, dtypes=dtypes)
