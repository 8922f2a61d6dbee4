"""LAMB. You et al. 2020, arXiv:1904.00962, Algorithm 2."""

from __future__ import annotations

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.method import recipe
from jaxopt_ko.optimizers.adam import scale_by_adam
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.transforms.trust_ratio import scale_by_trust_ratio
from jaxopt_ko.types import DType, GradientTransformation, Hyper, MaskOrFn, PyTree


@recipe
def lamb(
    learning_rate: Hyper,
    b1: Hyper = 0.9,
    b2: Hyper = 0.999,
    eps: Hyper = 1e-6,
    eps_root: Hyper = 0.0,
    weight_decay: Hyper = 0.0,
    mask: MaskOrFn | None = None,
    *,
    mu_dtype: DType | None = None,
    nu_dtype: DType | None = None,
    stack_axes: PyTree = 0,
) -> GradientTransformation:
    """AdamW's direction, in each leaf as long as its parameters: for batches of thousands.

    a = u + weight_decay p, with u of `scale_by_adam`
    step = -lr |p| / |a| a

    Norms are over a leaf, or over each of those it stacks.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    b1: decay of m, in [0, 1): it remembers about 1 / (1 - b1) gradients.
    b2: decay of v, in [0, 1): it remembers about 1 / (1 - b2) squares.
    eps: added to the root in the divisor, >= 0: it bounds the step where gradients vanish.
    eps_root: added under the root, >= 0; above 0 where the step itself is differentiated.
    weight_decay: lambda >= 0: this times the parameters is added to u, before the norms.
    mask: which leaves decay: a tree of booleans, a prefix of one, or a function of params; None: all.
    mu_dtype: dtype of the first moment; None: the parameter's, float32 at least.
    nu_dtype: dtype of the second moment; None: the parameter's, float32 at least.
    stack_axes: how many leading axes count layers of one shape: an integer, or a tree of them.

    State: m and v, 8 bytes a parameter.
    Raises HyperparameterError, when made, for a number outside its domain; MissingArgumentError, in update, without
        params.
    Source: You et al. 2020, arXiv:1904.00962, Algorithm 2; eps is its 1e-6.
    Not for small batches, where AdamW needs no norms.

    >>> mask, stack_axes = {"layers": True, "bias": False}, {"layers": 1, "bias": 0}
    >>> opt = jo.lamb(1e-3, weight_decay=0.01, mask=mask, stack_axes=stack_axes)
    >>> state = opt.init({"layers": jnp.ones((4, 3, 3)), "bias": jnp.zeros(3)})
    """
    return chain(
        scale_by_adam(b1, b2, eps, eps_root, mu_dtype, nu_dtype=nu_dtype),
        add_decayed_weights(weight_decay, mask),
        scale_by_trust_ratio(stack_axes=stack_axes),
        scale_by_learning_rate(learning_rate),
    )
