"""Adam, AdaMax and what grew out of them.

Adam, AdaMax: Kingma & Ba 2015, arXiv:1412.6980, Algorithms 1 and 2. AdamW: Loshchilov & Hutter 2019,
arXiv:1711.05101, Algorithm 2. NAdam: Dozat 2016, ICLR workshop, Algorithm 2.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.leafwise import Memory, Step, leafwise
from jaxopt_ko.core.method import recipe
from jaxopt_ko.core.numerics import inner, next_count, raised, ratio, safe_sqrt
from jaxopt_ko.core.quantizable import quantizable
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tree import wide_like
from jaxopt_ko.errors import FRACTION, NONNEGATIVE, UNIT, HyperparameterError, say
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Updates


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByAdamState(NamedTuple):
    """State of `scale_by_adam`, and by its name in optax of AdaMax, ADOPT, RAdam and Yogi."""

    count: Array  # int32[]           t, steps taken
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  v_t, mean of g**2; in AdaMax u_t, a decaying maximum of |g|


@quantizable(signed=("mu",), nonnegative=("nu",), divisor="nu")
class ScaleByNadamState(NamedTuple):
    """State of `scale_by_nadam`."""

    count: Array  # int32[]           t, steps taken
    mu_product: Array  # float[]      mu_1 ... mu_t, product of the momentum schedule
    mu: Updates  # like params, f32+  m_t, mean of g
    nu: Updates  # like params, f32+  n_t, mean of g**2


@options
def scale_by_adam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Mean gradient over root mean square.

    m_t = b1 m + (1 - b1) g        m_hat = m_t / (1 - b1**t)
    v_t = b2 v + (1 - b2) g**2     v_hat = v_t / (1 - b2**t)
    u   = m_hat / (sqrt(v_hat + eps_root) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype, nu_dtype: of m and v, float32 at least by default: in bfloat16 0.999 is 1 and v would never fall, in
        float16 a small gradient's m underflows. bfloat16 for m is usually harmless, and saves two bytes a weight.
    nesterov: m_hat = b1 m_t / (1 - b1**(t+1)) + (1 - b1) g / (1 - b1**t), optax's NAdam.
    bias_correction: False: m_t and v_t for m_hat and v_hat; kept to show that the first steps are then too long, (1 -
        b1) / sqrt(1 - b2) = 3.2 times the learning rate. Then b1 and b2 may be 1, too.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, whose b1, b2 and eps are the defaults.
    Not for use alone: u points up the gradient, and has no learning rate; `adam` puts both right.

    >>> rule = jo.scale_by_adam(mu_dtype=jnp.bfloat16)
    >>> opt = jo.chain(jo.clip_by_global_norm(1.0), rule, jo.scale_by_learning_rate(1e-3))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        if not bias_correction:
            return {"c1": jnp.ones_like(h.b1), "c2": jnp.ones_like(h.b1), "weight_m": h.b1, "weight_g": 1 - h.b1}
        next_ = {"weight_m": h.b1 / h.gathered_next("b1"), "weight_g": (1 - h.b1) / h.gathered("b1")}
        return {"c1": h.gathered("b1"), "c2": h.gathered("b2"), **(next_ if nesterov else {})}

    def rule(g: Array, p: Array, m: Array, v: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        v = h.b2 * v + inner((1 - h.b2) * g, g)
        m_hat = h.weight_m * m + h.weight_g * g if nesterov else m / h.c1
        v_hat = v / h.c2
        return ratio(m_hat, safe_sqrt(raised(v_hat, h.eps_root)) + h.eps, h.eps), m, v

    decay = FRACTION if bias_correction else UNIT  # of 1 no weight is ever gathered
    hypers = {
        "b1": (b1, decay),
        "b2": (b2, decay),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
    }
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_adam", ScaleByAdamState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1", "b2") if bias_correction else (),
    )  # fmt: skip


@options
def scale_by_nadam(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    momentum_decay: Hyper = 4e-3,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with Nesterov's momentum on Dozat's schedule, as torch.optim.NAdam and Keras have it: m keeps b1.

    mu_t  = b1 (1 - 0.96**(t momentum_decay) / 2)
    m_t   = b1 m + (1 - b1) g;   n_t = b2 n + (1 - b2) g**2
    m_hat = mu_{t+1} m_t / (1 - mu_1 ... mu_{t+1}) + (1 - mu_t) g / (1 - mu_1 ... mu_t)
    u     = m_hat / (sqrt(n_t / (1 - b2**t) + eps_root) + eps)

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of n, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    momentum_decay: how fast mu_t rises from b1 / 2 to b1, >= 0; the paper's and torch's is 4e-3, 1 / 250.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and n, 8 bytes a parameter, and the product of all mu.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Dozat 2016, ICLR workshop, Algorithm 2.
    Not for runs to be compared with optax's nadam: that is `scale_by_adam` with nesterov=True.

    >>> rule = jo.scale_by_nadam(momentum_decay=4e-3)
    >>> state = rule.init({"w": jnp.ones((2, 3))})
    >>> float(state.mu_product)
    1.0
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        def momentum(t: Array) -> Array:
            return h.b1 * (1 - 0.5 * jnp.power(0.96, t.astype(h.b1.dtype) * h.momentum_decay))

        product = h.mu_product * momentum(t)
        return {
            "mu_product": product,
            "weight_m": momentum(next_count(t)) / (1 - product * momentum(next_count(t))),
            "weight_g": (1 - momentum(t)) / (1 - product),
            "c2": h.gathered("b2"),
        }

    def rule(g: Array, p: Array, m: Array, n: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        n = h.b2 * n + inner((1 - h.b2) * g, g)
        m_hat = h.weight_m * m + h.weight_g * g
        return ratio(m_hat, safe_sqrt(raised(n / h.c2, h.eps_root)) + h.eps, h.eps), m, n

    hypers = {
        "b1": (b1, FRACTION),
        "b2": (b2, FRACTION),
        "eps": (eps, NONNEGATIVE),
        "eps_root": (eps_root, NONNEGATIVE),
        "momentum_decay": (momentum_decay, NONNEGATIVE),
    }
    scalars, dtypes = {"mu_product": 1.0}, {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_nadam",
        ScaleByNadamState,
        init=init,
        shared=shared,
        rule=rule,
        hypers=hypers,
        scalars=scalars,
        dtypes=dtypes,
        debiased=("b2",),
        squares=("nu",),
    )


def scale_by_adamax(
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with the infinity norm.

    m_t = b1 m + (1 - b1) g
    u_t = max(b2 u, |g| + eps)
    u   = m_t / (1 - b1**t) / u_t

    The paper has no eps; optax and torch add it to |g|, as here. The state is Adam's, as in optax, with u_t as nu.

    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of u_t, in [0, 1): a large gradient is felt for about 1 / (1 - b2) steps.
    eps: added to |g|, >= 0: it bounds the step where gradients vanish.
    mu_dtype, nu_dtype: of m and u_t, float32 at least by default.

    State: m and u_t, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2, whose b1 and b2 are the defaults.
    Not for gradients with outliers: one of them shortens many steps.

    >>> opt = jo.chain(jo.scale_by_adamax(), jo.scale_by_learning_rate(2e-3))
    >>> state = opt.init({"embedding": jnp.ones((5, 2))})
    """

    def init(p: Array) -> Memory:
        return wide_like(p, 0, mu_dtype), wide_like(p, 0, nu_dtype)

    def shared(t: Array, h: Scalars) -> dict[str, Array]:
        return {"c1": h.gathered("b1")}

    def rule(g: Array, p: Array, m: Array, u: Array, h: Scalars) -> Step:
        m = h.b1 * m + (1 - h.b1) * g
        u = jnp.maximum(h.b2 * u, jnp.abs(g) + h.eps)
        return ratio(m / h.c1, u), m, u

    hypers = {"b1": (b1, FRACTION), "b2": (b2, FRACTION), "eps": (eps, NONNEGATIVE)}
    dtypes = {"mu_dtype": mu_dtype, "nu_dtype": nu_dtype}
    return leafwise(
        "scale_by_adamax", ScaleByAdamState, init=init, shared=shared, rule=rule, hypers=hypers, dtypes=dtypes,
        squares=("nu",), debiased=("b1",),
    )  # fmt: skip


@recipe
def adam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_adam`: a sound first choice for networks, whatever the gradients' scale.

    m_t = b1 m + (1 - b1) g        m_hat = m_t / (1 - b1**t)
    v_t = b2 v + (1 - b2) g**2     v_hat = v_t / (1 - b2**t)
    p  <- p - lr m_hat / (sqrt(v_hat + eps_root) + eps)

    A larger eps (1e-4 to 1) can help convolutional networks.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter; 6 with mu_dtype=jnp.bfloat16.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1, whose b1, b2 and eps are the defaults; its rate is 1e-3.
    Not for reaching a minimum to many digits: the steps do not shrink with the gradient.

    >>> opt = jo.adam(1e-3)
    >>> params = {"w": jnp.ones((2, 3))}
    >>> state = opt.init(params)
    >>> grads = jax.grad(lambda p: jnp.sum(p["w"] ** 2))(params)
    >>> updates, state = opt.update(grads, state)
    >>> params = jo.apply_updates(params, updates)
    """
    rule = scale_by_adam(
        b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, bias_correction=bias_correction, nu_dtype=nu_dtype
    )
    return chain(rule, scale_by_learning_rate(learning_rate))


@recipe
def adamw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Hyper = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = False,
    bias_correction: bool = True,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with decoupled weight decay: all weights shrink at one rate, however large their gradients are.

    p <- p - lr (u + weight_decay p),   u of `scale_by_adam`

    As in optax and torch the decay is multiplied by the learning rate.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step; the
        default is optax's, torch's is 1e-2.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    nesterov: take the mean one gradient ahead, as Nesterov does.
    bias_correction: divide means by the weight that they have gathered, as all start at 0.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2.
    Not for biases and gains of normalizations without a mask: they should not decay.

    >>> schedule = jo.warmup_cosine_decay_schedule(0.0, 3e-4, 100, 1000)
    >>> opt = jo.adamw(schedule, weight_decay=0.1, mask=lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    >>> state = opt.init({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    """
    rule = scale_by_adam(
        b1, b2, eps, eps_root, mu_dtype, nesterov=nesterov, bias_correction=bias_correction, nu_dtype=nu_dtype
    )
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


@recipe
def nadam(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: Hyper | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """Adam with Nesterov's momentum, constant (momentum_decay=None, optax) or on Dozat's schedule (4e-3, torch).

    p <- p - lr u,   u of `scale_by_adam` with nesterov, or of `scale_by_nadam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nesterov: take the mean one gradient ahead, as Nesterov does; False makes `adam` of it, and is refused with
        a momentum_decay.
    momentum_decay: of `scale_by_nadam`, >= 0; None: the momentum is b1 at every step.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Dozat 2016, ICLR workshop, Algorithm 2.
    Not for runs to be compared with torch's without momentum_decay=4e-3.

    >>> opt = jo.nadam(2e-3, momentum_decay=4e-3)
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    rule = _nadam_rule(b1, b2, eps, eps_root, mu_dtype, nesterov, momentum_decay, nu_dtype)
    return chain(rule, scale_by_learning_rate(learning_rate))


@recipe
def nadamw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Hyper = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    nesterov: bool = True,
    momentum_decay: Hyper | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """`nadam` with the decoupled weight decay of `adamw`.

    p <- p - lr (u + weight_decay p),   u of `nadam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    nesterov: take the mean one gradient ahead, as Nesterov does; False makes `adamw` of it, and is refused with
        a momentum_decay.
    momentum_decay: of `scale_by_nadam`, >= 0; None: the momentum is b1 at every step.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Dozat 2016, ICLR workshop, Algorithm 2; Loshchilov & Hutter 2019, arXiv:1711.05101.
    Not for biases and gains of normalizations without a mask: they should not decay.

    >>> opt = jo.nadamw(1e-3, weight_decay=1e-2, mask={"w": True, "b": False})
    >>> state = opt.init({"w": jnp.ones((2, 3)), "b": jnp.zeros(3)})
    """
    rule = _nadam_rule(b1, b2, eps, eps_root, mu_dtype, nesterov, momentum_decay, nu_dtype)
    return chain(rule, add_decayed_weights(weight_decay, mask), scale_by_learning_rate(learning_rate))


def _nadam_rule(
    b1: Hyper,
    b2: Hyper,
    eps: Hyper,
    eps_root: Hyper,
    mu_dtype: DType | None,
    nesterov: bool,
    momentum_decay: Hyper | None,
    nu_dtype: DType | None,
) -> GradientTransformation:
    if momentum_decay is None:
        rule = functools.partial(scale_by_adam, nesterov=nesterov)
    else:
        if not nesterov:
            wrong = "momentum_decay is that of Nesterov's momentum, so nesterov must be True"
            say(HyperparameterError, "scale_by_nadam", wrong, "nesterov=False", "Leave one of them out")
        rule = functools.partial(scale_by_nadam, momentum_decay=momentum_decay)
    return rule(b1, b2, eps, eps_root, mu_dtype, nu_dtype=nu_dtype)


@recipe
def adamax(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr u of `scale_by_adamax`: like Adam, for gradients that are zero most of the time (embeddings).

    u_t = max(b2 u, |g| + eps)
    p  <- p - lr m_t / (1 - b1**t) / u_t,   m_t as in `adam`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of u_t, in [0, 1): a large gradient is felt for about 1 / (1 - b2) steps.
    eps: added to |g|, >= 0: it bounds the step where gradients vanish.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of u_t; None: the parameter's, float32 at least.

    State: m and u_t, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain.
    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2, whose b1 and b2 are the defaults; its rate is 2e-3.
    Not for gradients with outliers: one of them shortens many steps.

    >>> opt = jo.partition({"table": jo.adamax(2e-3), "rest": jo.adam(1e-3)}, {"tokens": "table", "w": "rest"})
    >>> state = opt.init({"tokens": jnp.ones((5, 2)), "w": jnp.ones((2, 2))})
    """
    rule = scale_by_adamax(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, scale_by_learning_rate(learning_rate))


@recipe
def adamaxw(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    weight_decay: Hyper = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """`adamax` with the decoupled weight decay of `adamw`.

    p <- p - lr (u + weight_decay p),   u of `scale_by_adamax`

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of u_t, in [0, 1): a large gradient is felt for about 1 / (1 - b2) steps.
    eps: added to |g|, >= 0: it bounds the step where gradients vanish.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of u_t; None: the parameter's, float32 at least.

    State: m and u_t, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params where weight_decay is not 0.
    Source: Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2; Loshchilov & Hutter 2019, arXiv:1711.05101.
    Not for gradients with outliers, as `adamax`.

    >>> opt = jo.adamaxw(2e-3, weight_decay=1e-3)
    >>> state = opt.init({"embedding": jnp.ones((5, 2))})
    """
    return chain(
        scale_by_adamax(b1, b2, eps, mu_dtype=mu_dtype, nu_dtype=nu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_learning_rate(learning_rate),
    )
