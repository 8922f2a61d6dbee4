"""AdamC: AdamW whose decay is corrected for the schedule. Defazio 2025, arXiv:2506.02285, Algorithm 1."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.groups import labels_of_mask
from jaxopt_ko.core.method import recipe
from jaxopt_ko.optimizers.adam import scale_by_adam
from jaxopt_ko.transforms.decay import add_corrected_decayed_weights, add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, Params, PyTree


@recipe
def adamc(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-8,
    eps_root: Hyper = 0.0,
    mu_dtype: DType | None = None,
    weight_decay: Hyper = 1e-4,
    mask: MaskOrFn | None = None,
    *,
    max_learning_rate: Hyper | None = None,
    normalized: MaskOrFn | None = None,
    nu_dtype: DType | None = None,
) -> GradientTransformation:
    """The step -lr (u + weight_decay c p), u of `scale_by_adam`: gradients do not grow as the schedule ends.

    c = lr / max_learning_rate     in layers that a normalization follows;    c = 1, as in AdamW, in the others

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    weight_decay: lambda >= 0: beside the gradient, parameters shrink by this times the learning rate a step.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    max_learning_rate: the schedule's largest value, > 0; for a number None will do, and this is AdamW.
    normalized: True for layers that a normalization follows, a mask as of `masked`; None: all. The author takes every
        linear layer but the last.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, when made, for a
        schedule or an array without max_learning_rate, and in update without params where weight_decay is not 0.
    Source: Defazio 2025, arXiv:2506.02285, Algorithm 1.
    Not for networks without normalization: there AdamW.

    >>> schedule = jo.cosine_decay_schedule(3e-4, 1000)
    >>> normalized = {"hidden": True, "head": False}
    >>> opt = jo.adamc(schedule, weight_decay=0.1, max_learning_rate=3e-4, normalized=normalized)
    >>> state = opt.init({"hidden": jnp.ones((3, 3)), "head": jnp.ones((3, 2))})
    """
    where, plain = mask, []
    if normalized is not None:
        where = _both(mask, normalized, True)
        plain = [add_decayed_weights(weight_decay, _both(mask, normalized, False))]
    corrected = add_corrected_decayed_weights(weight_decay, learning_rate, max_learning_rate, where)
    rule = scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype=nu_dtype)
    return chain(rule, corrected, *plain, scale_by_learning_rate(learning_rate))


def _both(mask: MaskOrFn | None, normalized: MaskOrFn, wanted: bool) -> Callable[[Params], PyTree]:
    """params -> where the mask holds and `normalized` is as wanted."""

    here = labels_of_mask("adamc", True if mask is None else mask, {True: True, False: False})
    there = labels_of_mask("adamc", normalized, {True: wanted, False: not wanted})
    return lambda params: jax.tree.map(lambda on, own: on and own, here(params), there(params))
