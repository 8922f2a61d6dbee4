"""The spectral sphere: weights of one spectral norm, and the steepest step along the sphere of these.

Xie et al. 2026, arXiv:2601.08393, Algorithm 1; github.com/Unakar/Spectral-Sphere-Optimizer, sso.py.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.groups import partition
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step
from jaxopt_ko.core.matrixwise import matrixwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import or_one, quotient
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.stacking import matrix_labels
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, POSITIVE
from jaxopt_ko.linalg.matrix_functions import Coefficients, frobenius, largest_singular
from jaxopt_ko.optimizers.adam import adamw
from jaxopt_ko.optimizers.matrix.axes import spectral_scale
from jaxopt_ko.optimizers.matrix.orthogonalization import nearest, orthogonalization
from jaxopt_ko.types import DType, GradientTransformation, Hyper, PyTree, Updates


@quantizable(signed=("mu",))
class SpectralSphereState(NamedTuple):
    """State of `spectral_sphere`, of its matrices."""

    count: Array  # int32[]     t, steps taken
    mu: Updates  # like params  M, mean of G


@recipe
def spectral_sphere(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    radius: Hyper = 1.0,
    eps: Hyper = 1e-7,
    *,
    nesterov: bool = True,
    power_steps: int = 20,
    solver_steps: int = 20,
    ns_coeffs: Coefficients | Sequence[Coefficients] | str = "polar_express",
    ns_steps: int = 8,
    preconditioning: str = "frobenius",
    compute_dtype: DType | None = None,
    gram: bool | None = None,
    rest: GradientTransformation | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Orthogonal steps along the sphere |W|_2 = R, from its nearest point; `rest`, or AdamW, for what is no matrix.

    M     = b1 M + (1 - b1) G;   X = b1 M + (1 - b1) G over its length    nesterov;  of M without
    sigma = |W|_2, T = x y'      its singular vectors, by power_steps of the power method from a vector of ones
    l     : <T, near(X + l T)> = 0,  by bisection                          near(Y) = A B' of Y = A S B'
    W     <- R (W / sigma - lr near(X + l T)),   R = radius sqrt(fan_out / fan_in)

    l is between -2 sqrt(k) and 2 sqrt(k), k the shorter side.

    learning_rate: the part of the radius that a step is long, a number, an array (traced too) or a schedule of the
        step, >= 0.
    b1: decay of M, in [0, 1): it remembers about 1 / (1 - b1) gradients; the authors' 0.9.
    radius: of the sphere, over sqrt(fan_out / fan_in), > 0; 1 keeps activations of the size of their inputs.
    eps: added to |X + l T| before it is orthogonalized, >= 0.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    power_steps: of the power method, an integer >= 1; the authors' 20.
    solver_steps: of the bisection, an integer >= 0, each an orthogonalization; the authors' 20. 0: l = 0, the paper's
        MuonSphere, whose steps leave the sphere to first order.
    ns_coeffs: a, b, c of Newton-Schulz, such a triple for each step, or a preset's name: see `scale_by_muon`.
    ns_steps: how many steps of Newton-Schulz, an integer >= 1; the authors' 8.
    preconditioning: how singular values are first brought below 1: "frobenius", "spectral", "aol", "schatten".
    compute_dtype: dtype of the products; None: bfloat16 on accelerators, float32 at least on CPU.
    gram: iterate on X X' alone and multiply once; None: in 32 bits, where a side is over twice the other.
    rest: the method for leaves that are no matrices; None: AdamW with this learning rate.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: M, 4 bytes a parameter of matrices; of the rest AdamW keeps 8. Needs params. The first step brings the
    weights to the sphere; weight decay has no place here.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params; TreeError, when traced, for complex matrices.
    Source: Xie et al. 2026, arXiv:2601.08393, Algorithm 1; the bracket is the whole interval, where their code finds
        one from the last l on.
    Not where a step's cost counts: its products are Muon's 35 times, but for solver_steps=0.

    >>> opt = jo.spectral_sphere(0.02, rest=jo.adamw(1e-3))
    >>> state = opt.init({"w": jnp.ones((3, 5)), "b": jnp.ones(5)})
    """
    name = "spectral_sphere"
    errors.check_size(name, "power_steps", power_steps)
    errors.check_size(name, "solver_steps", solver_steps, 0)
    how = orthogonalization(name, ns_coeffs, ns_steps, preconditioning, compute_dtype, gram)

    def init(shape: tuple[int, int], dtype: DType) -> Memory:
        return (jnp.zeros(shape, dtype),)

    def rule(G: Array, W: Array, M: Array, h: Scalars) -> Step:
        near = functools.partial(nearest, unit=1.0, eps=h.eps, how=how)
        M = h.b1 * M + (1 - h.b1) * G
        X = h.b1 * M + (1 - h.b1) * G if nesterov else M
        X = quotient(X, jnp.broadcast_to(frobenius(X), X.shape))
        sigma, T = largest_singular(W, power_steps)
        if solver_steps:
            X = X + _multiplier(near, X, T, solver_steps) * T
        R = h.radius * spectral_scale(*W.shape[1:])
        end = R * (W / or_one(sigma) - h.learning_rate * near(X).astype(W.dtype))
        return end - W, M

    hypers = NONNEGATIVE.of(learning_rate=learning_rate, eps=eps) | FRACTION.of(b1=b1) | POSITIVE.of(radius=radius)
    matrices = matrixwise(
        name, SpectralSphereState, init=init, rule=rule, hypers=hypers, needs_params=True, stack_axes=stack_axes
    )
    rest = adamw(learning_rate) if rest is None else rest
    return partition({"matrix": matrices, "rest": rest}, matrix_labels(name, stack_axes))


def _multiplier(near: functools.partial[Array], X: Array, T: Array, steps: int) -> Array:
    """float[N, 1, 1]: l with <T, near(X + l T)> = 0. The product grows with l."""
    most = 2 * math.sqrt(min(X.shape[1:]))

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        low, high = ends
        middle = (low + high) / 2
        below = jnp.sum(T * near(X + middle * T).astype(T.dtype), axis=(1, 2), keepdims=True) < 0
        return (jnp.where(below, middle, low), jnp.where(below, high, middle)), None

    start = jnp.full_like(X[:, :1, :1], most)
    low, high = jax.lax.scan(halve, (-start, start), None, steps)[0]
    return (low + high) / 2
