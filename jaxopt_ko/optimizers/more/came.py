"""CAME: Adafactor with a confidence. Luo et al. 2023, arXiv:2307.02047, Algorithm 2."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, ratio, root_mean_square, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import abstract, dtype_of, summed, wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, THRESHOLD
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree, Updates


@quantizable(signed=("mu",), nonnegative=("nu",))
class ScaleByCameState(NamedTuple):
    """State of `scale_by_came`. What a leaf has no use for is one 0."""

    mu: Updates  # like params, f32+                         m_t, mean of u
    v_row: Updates  # leaf without its last axis, f32+       r_t, mean of g**2 over that
    v_col: Updates  # leaf without its last but one, f32+    c_t, mean of g**2 over that
    nu: Updates  # like params, f32+                         v_t, mean of g**2, of a leaf with fewer than two axes
    res_row: Updates  # leaf without its last axis, f32+     R_t, mean of (u - m)**2 over that
    res_col: Updates  # leaf without its last but one, f32+  C_t, mean of (u - m)**2 over that


def _over_root(x: Array, rows: Array, columns: Array) -> Array:
    """x / sqrt(rows columns' / mean(rows)), of the last two axes."""
    share = safe_sqrt(ratio(rows, jnp.mean(rows, -1, keepdims=True)))
    return ratio(ratio(x, share[..., None]), safe_sqrt(columns)[..., None, :])


@options
def scale_by_came(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    eps: Hyper = 1e-30,
    eps_confidence: Hyper = 1e-16,
    *,
    clipping_threshold: Hyper = 1.0,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """Adafactor's direction and its mean, which counts for less where the two have differed.

    r_t = b2 r + (1 - b2) mean of g**2 + eps over the last axis;   c_t over the last but one
    u   = g / sqrt(r_t c_t' / mean(r_t));   u = u / max(1, rms(u) / clipping_threshold)
    m_t = b1 m + (1 - b1) u
    R_t = b3 R + (1 - b3) mean of (u - m_t)**2 + eps_confidence over the last axis;   C_t over the last but one
    u   = m_t / sqrt(R_t C_t' / mean(R_t))

    A leaf with fewer than two axes keeps the whole mean of g**2 and has no confidence, u = m_t, as the authors' code.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) steps.
    b2: decay of r and c, in [0, 1): they remember about 1 / (1 - b2) squares.
    b3: decay of R and C, in [0, 1); the paper's 0.9999, the slowest.
    eps: added to g**2, >= 0; the paper's 1e-30.
    eps_confidence: added to (u - m)**2, >= 0; the paper's 1e-16.
    clipping_threshold: the largest root mean square of u in a leaf, > 0; the paper's 1; infinity switches it off.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: of the means of g**2, float32 at least by default; those of (u - m)**2 are too slow for less.
    stack_axes: how many leading axes count layers of one shape, each of which is clipped by itself: an integer, or a
        tree of them.

    State: of a matrix [m, n] 4 (m n + 2 m + 2 n) bytes in all; of a vector 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Luo et al. 2023, arXiv:2307.02047, Algorithm 2.
    Not for use alone: u points up the gradient; `came` turns it.

    >>> rule = jo.scale_by_came()
    >>> state = rule.init({"w": jnp.ones((3, 5))})
    >>> state.v_row["w"].shape, state.res_col["w"].shape
    ((3,), (5,))
    """

    def is_matrix(p: Array) -> bool:
        return np.ndim(p) > 1 and 0 not in np.shape(p)

    def init(p: Array) -> Memory:
        unused = abstract((1,), dtype_of(p))
        rows, columns, whole = (summed(p, -1), summed(p, -2), unused) if is_matrix(p) else (unused, unused, p)
        squares = (wide_like(x, 0, nu_dtype) for x in (rows, columns, whole))
        return wide_like(p, 0, mu_dtype), *squares, wide_like(rows), wide_like(columns)

    def rule(g: Array, p: Array, m: Array, r: Array, c: Array, v: Array, R: Array, C: Array, h: Scalars) -> Step:
        square, matrix = abs_sq(g) + h.eps, is_matrix(g)
        if matrix:
            r = h.b2 * r + (1 - h.b2) * jnp.mean(square, -1)
            c = h.b2 * c + (1 - h.b2) * jnp.mean(square, -2)
        else:
            v = h.b2 * v + (1 - h.b2) * square
        u = _over_root(g, r, c) if matrix else ratio(g, safe_sqrt(v))
        u = u / jnp.maximum(1, root_mean_square(u) / h.clipping_threshold)
        m = h.b1 * m + (1 - h.b1) * u
        if not matrix:
            return m, m, r, c, v, R, C
        surprise = abs_sq(u - m) + h.eps_confidence
        R = h.b3 * R + (1 - h.b3) * jnp.mean(surprise, -1)
        C = h.b3 * C + (1 - h.b3) * jnp.mean(surprise, -2)
        return _over_root(m, R, C), m, r, c, v, R, C

    hypers = (
        FRACTION.of(b1=b1, b2=b2, b3=b3)
        | NONNEGATIVE.of(eps=eps, eps_confidence=eps_confidence)
        | THRESHOLD.of(clipping_threshold=clipping_threshold)
    )
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_came", ScaleByCameState, init=init, rule=rule, hypers=hypers, dtypes=dtypes, stack_axes=stack_axes,
        squares=("v_row", "v_col", "nu", "res_row", "res_col"),
    )  # fmt: skip


@recipe
def came(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    b3: Hyper = 0.9999,
    eps: Hyper = 1e-30,
    eps_confidence: Hyper = 1e-16,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    clipping_threshold: Hyper = 1.0,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_came`: Adafactor's memory, and momentum where it can be trusted.

    u = mean of Adafactor's steps / root of the mean squared distance of those from their mean, both factored

    Carried by pytorch_optimizer, and by trainers of image models, SANA's among them.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; u is far above
        1 where steps agree, so that rates are smaller than Adam's: 2e-4 is the authors' for BERT.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) steps.
    b2: decay of the means of g**2, in [0, 1): they remember about 1 / (1 - b2) squares.
    b3: decay of the means of (u - m)**2, in [0, 1); the paper's 0.9999, the slowest.
    eps: added to g**2, >= 0; the paper's 1e-30.
    eps_confidence: added to (u - m)**2, >= 0; the paper's 1e-16.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    clipping_threshold: the largest root mean square of Adafactor's step in a leaf, > 0; the paper's 1; infinity
        switches it off.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: of the means of g**2, float32 at least by default; those of (u - m)**2 are too slow for less.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: of a matrix [m, n] 4 (m n + 2 m + 2 n) bytes in all, half of AdamW's; of a vector 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Luo et al. 2023, arXiv:2307.02047, Algorithm 2.
    Not without a warm-up: R and C of the first steps are of one step alone.

    >>> opt = jo.came(jo.linear_schedule(0.0, 2e-4, 1000), weight_decay=0.01)
    >>> state = opt.init({"w": jnp.ones((30, 50))})
    """
    rule = scale_by_came(
        b1, b2, b3, eps, eps_confidence, clipping_threshold=clipping_threshold, mu_dtype=mu_dtype, nu_dtype=nu_dtype,
        stack_axes=stack_axes,
    )  # fmt: skip
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
