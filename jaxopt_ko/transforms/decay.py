"""Weight decay. Decoupled after Loshchilov & Hutter 2019, arXiv:1711.05101, if put behind the rule; L2 before it."""

from __future__ import annotations

from collections.abc import Callable

from jax import Array

from jaxopt_ko.compose import leafwise, masked
from jaxopt_ko.errors import NONNEGATIVE
from jaxopt_ko.lift import Scalars
from jaxopt_ko.transforms.scaling import ScaleByScheduleState
from jaxopt_ko.types import GradientTransformation, Hyper, Params, PyTree


def add_decayed_weights(
    weight_decay: Hyper = 0.0, mask: PyTree | Callable[[Params], PyTree] | None = None
) -> GradientTransformation:
    """u = g + weight_decay p; with a mask (see `masked`), only where it is True. Needs params, unless weight_decay is
    the number 0, the default: then u = g.

    Behind an adaptive rule and before its learning rate this is AdamW's decay; before the rule it is the L2
    penalty that torch.optim.Adam calls weight_decay. Biases and norms are usually masked out.
    """
    off = isinstance(weight_decay, int | float) and weight_decay == 0

    def rule(g: Array, p: Array, h: Scalars) -> Array:
        return g if off else g + h.weight_decay * p

    hypers = {"weight_decay": (weight_decay, NONNEGATIVE)}
    decay = leafwise("add_decayed_weights", ScaleByScheduleState, rule=rule, hypers=hypers, needs_params=not off)
    return decay if mask is None else masked(decay, mask)
