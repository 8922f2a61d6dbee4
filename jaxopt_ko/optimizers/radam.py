"""RAdam. Liu et al. 2020, arXiv:1908.03265, Algorithm 2."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, ratio, safe_sqrt
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import decay_if_any
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn


@options
def scale_by_radam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    threshold: Hyper = 5.0,
    *,
    nesterov: bool = False,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam that divides by its second moment only once that is known from enough gradients.

    m_hat, v_hat as in `scale_by_adam`
    rho_oo = 2 / (1 - b2) - 1        rho_t = rho_oo - 2 t b2**t / (1 - b2**t)
    r_t**2 = (rho_t - 4) (rho_t - 2) rho_oo / ((rho_oo - 4) (rho_oo - 2) rho_t)
    u = r_t m_hat / (sqrt(v_hat + eps_root) + eps) if rho_t >= threshold, else m_hat

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    threshold: the least rho_t that v is trusted from, >= 0; the authors' code's 5, where the paper has 4.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    mu_dtype, nu_dtype: of m and v, float32 at least by default.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Liu et al. 2020, arXiv:1908.03265, Algorithm 2; b1, b2 and eps are Adam's.
    Not for a large first gradient: the first steps are m_hat, as long as it is.

    >>> rule = jo.scale_by_radam()
    >>> params = {"w": jnp.zeros(2)}
    >>> updates, state = rule.update({"w": jnp.array([3.0, -4.0])}, rule.init(params))
    >>> print(updates["w"].round())
    [ 3. -4.]
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        c2, steps = h.gathered("b2"), t.astype(h.b2.dtype)
        most = 2 / (1 - h.b2) - 1
        rho = most - 2 * steps * (1 - c2) / c2
        square = (rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho)
        known = rho >= h.threshold
        r = safe_sqrt(jnp.where(known, square, 0))
        next_ = {"weight_m": h.b1 / h.gathered_next("b1"), "weight_g": (1 - h.b1) / h.gathered("b1")}
        return {"c1": h.gathered("b1"), "c2": c2, "r": r, "known": known.astype(r.dtype), **(next_ if nesterov else {})}

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        m_hat = h.weight_m * m + h.weight_g * g if nesterov else m / h.c1
        u = h.r * ratio(m_hat, safe_sqrt(v / h.c2 + h.eps_root) + h.eps)
        return jnp.where(h.known > 0, u, m_hat), m, v

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
        "threshold": (threshold, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_radam", ScaleByAdamState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def radam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    threshold: Hyper = 5.0,
    *,
    nesterov: bool = False,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    weight_decay: Hyper | None = None,
    mask: MaskOrFn | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_radam`: Adam with a warm-up of its own, of some five steps at the default b2.

    u = r_t m_hat / (sqrt(v_hat + eps_root) + eps) if rho_t >= threshold, else m_hat;   r_t rises to 1

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    threshold: the least rho_t that v is trusted from, >= 0; the authors' code's 5, where the paper has 4.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step;
        None: not at all.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where there is a weight_decay.
    Source: Liu et al. 2020, arXiv:1908.03265, Algorithm 2; b1, b2 and eps are Adam's.
    Not for a large first gradient: the first steps are plain momentum, as long as it is.

    >>> opt = jo.radam(1e-3)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_radam(b1, b2, eps, eps_root, threshold, nesterov=nesterov, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, *decay_if_any(weight_decay, mask), scale_by_learning_rate(learning_rate))
