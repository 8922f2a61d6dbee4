"""QHM and QHAdam: momentum that leans on the newest gradient. Ma & Yarats 2019, arXiv:1810.06801, equations 3 to 5."""

from __future__ import annotations

from typing import NamedTuple

from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars, adam_corrections
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import abs_sq, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FINITE, FRACTION, NONNEGATIVE, UNIT
from jaxopt_ko.optimizers.adam import ScaleByAdamState
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("mu",))
class ScaleByQhmState(NamedTuple):
    """State of `scale_by_qhm`."""

    mu: Updates  # like params, f32+  m_t, mean of g, not corrected


@options
def scale_by_qhm(momentum: Hyper = 0.999, nu: Hyper = 0.7, *, mu_dtype: DType | None = None) -> GradientTransformation:
    """A mean of the gradient's mean and the gradient.

    m_t = momentum m + (1 - momentum) g
    u   = (1 - nu) g + nu m_t

    momentum: the paper's beta, decay of m, in [0, 1]; its 0.999.
    nu: weight of m in u, a finite number; the paper's 0.7. 0 is plain gradient descent, 1 momentum, and nu = momentum
        Nesterov's.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.

    State: m, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Ma & Yarats 2019, arXiv:1810.06801, equations 3 and 4.
    Not for use alone: u points up the gradient; `qhm` turns it.

    >>> rule = jo.scale_by_qhm(0.9, 0.5)
    >>> params = {"w": jnp.ones(2)}
    >>> updates, state = rule.update({"w": jnp.array([2.0, -4.0])}, rule.init(params))
    >>> print(updates["w"])
    [ 1.1 -2.2]
    """

    def init(p: Array) -> Memory:
        return (wide_like(p, 0, mu_dtype),)

    def rule(g: Array, p: Array, m: Array, h: Scalars) -> Step:
        m = h.momentum * m + (1 - h.momentum) * g
        return (1 - h.nu) * g + h.nu * m, m

    hypers = {"momentum": (momentum, UNIT), "nu": (nu, FINITE)}
    return leafwise("scale_by_qhm", ScaleByQhmState, init=init, rule=rule, hypers=hypers, dtypes={"mu_dtype": mu_dtype})


@options
def scale_by_qhadam(
    b1: Hyper = 0.995,
    b2: Hyper = 0.999,
    nu1: Hyper = 0.7,
    nu2: Hyper = 1.0,
    eps: Hyper = 1e-8,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam's direction with the newest gradient, and its square, counted once more.

    u = ((1 - nu1) g + nu1 m_hat) / (sqrt((1 - nu2) g**2 + nu2 v_hat) + eps),   m_hat and v_hat as in `scale_by_adam`

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients; the paper's 0.995.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    nu1: weight of m_hat, a finite number; the paper's 0.7. With nu1 = b1 it is nearly NAdam, with nu1 = nu2 = 1 Adam.
    nu2: weight of v_hat, in [0, 1]; 1 with the paper's other defaults, below 1 where v must not lag behind.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: that of `scale_by_adam`, m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Ma & Yarats 2019, arXiv:1810.06801, equation 5.
    Not for use alone: u points up the gradient; `qhadam` turns it.

    >>> rule = jo.scale_by_qhadam()
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + (1 - h.b2) * abs_sq(g)
        root = safe_sqrt((1 - h.nu2) * abs_sq(g) + h.nu2 * v / h.c2)
        return ratio((1 - h.nu1) * g + h.nu1 * m / h.c1, root + h.eps, h.eps), m, v

    hypers = FRACTION.of(b1=b1, b2=b2) | FINITE.of(nu1=nu1) | UNIT.of(nu2=nu2) | NONNEGATIVE.of(eps=eps)
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_qhadam", ScaleByAdamState, init=init, shared=adam_corrections, rule=rule, hypers=hypers,
        dtypes=dtypes, squares=("nu",), debiased=("b1", "b2"),
    )  # fmt: skip


@recipe
def qhm(
    learning_rate: Hyper,
    momentum: Hyper = 0.999,
    nu: Hyper = 0.7,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_qhm`: between plain gradient descent and momentum.

    m_t = momentum m + (1 - momentum) g
    p  <- p - lr ((1 - nu) g + nu m_t + weight_decay p)

    Nesterov's momentum, PID control and accelerated SGD are cases of it. Carried by Facebook's qhoptim and
    pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0; as m is a mean,
        1 / (1 - momentum) times that of `sgd` with momentum.
    momentum: the paper's beta, decay of m, in [0, 1]; its 0.999.
    nu: weight of m, a finite number; the paper's 0.7.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.

    State: m, 4 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Ma & Yarats 2019, arXiv:1810.06801, equations 3 and 4, whose beta and nu are the defaults.
    Not for badly scaled problems: `qhadam`.

    >>> opt = jo.qhm(1.0, weight_decay=1e-4)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_qhm(momentum, nu, mu_dtype=mu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


@recipe
def qhadam(
    learning_rate: Hyper,
    b1: Hyper = 0.995,
    b2: Hyper = 0.999,
    nu1: Hyper = 0.7,
    nu2: Hyper = 1.0,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay p) of `scale_by_qhadam`: Adam with a longer memory and more of the new gradient.

    u = ((1 - nu1) g + nu1 m_hat) / (sqrt((1 - nu2) g**2 + nu2 v_hat) + eps),   m_hat and v_hat as in `adam`

    Carried by Facebook's qhoptim, torch_optimizer and pytorch_optimizer.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients; the paper's 0.995.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    nu1: weight of m_hat, a finite number; the paper's 0.7.
    nu2: weight of v_hat, in [0, 1]; 1 in the paper's rule of thumb.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Ma & Yarats 2019, arXiv:1810.06801, equation 5, with the defaults of its section 6.
    Not for gradients with outliers and nu2 near 1: 30 % of one such gradient is a step.

    >>> opt = jo.qhadam(1e-3, weight_decay=1e-2)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = scale_by_qhadam(b1, b2, nu1, nu2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))
