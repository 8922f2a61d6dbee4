"""Leaves that do not move. See `masked` and `partition` for leaves under different rules."""

from __future__ import annotations

from jaxopt_ko.compose.groups import labels_of_mask, masked, partition
from jaxopt_ko.core.signature import options
from jaxopt_ko.transforms.scaling import set_to_zero
from jaxopt_ko.types import GradientTransformation, MaskOrFn


def freeze(mask: MaskOrFn) -> GradientTransformation:
    """Updates of zero where a mask is True.

    u = 0 where the mask is True, else g

    mask: a bool, a tree of bools like the parameters or a prefix of one, or a function that makes it.

    No state. Raises what `masked` raises. Source: optax's freeze. Not before an optimizer, whose weight decay and
    momentum would move the leaves all the same; and behind it memory of all leaves is still kept: `selective_transform`
    saves it.

    >>> tx = jo.chain(jo.adam(1e-3), jo.freeze({"w": False, "b": True}))
    >>> state = tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
    """
    return masked(set_to_zero(), mask)


@options
def selective_transform(optimizer: GradientTransformation, *, freeze_mask: MaskOrFn) -> GradientTransformation:
    """An optimizer for some leaves; the others have no step and no memory.

    u = the optimizer's step where freeze_mask is False, else 0

    optimizer: a whole optimizer, ours or optax's.
    freeze_mask: a bool, a tree of bools like the parameters or a prefix of one, or a function that makes it; True: the
        leaf stays as it is.

    State: that of `partition`, the optimizer's for the leaves that move alone.

    Raises what `partition` raises; TreeError for a mask that is no tree of bools, HyperparameterTypeError for one that
    is no tree at all. Source: optax's selective_transform. Not for leaves under a second optimizer: `partition`.

    >>> tx = jo.selective_transform(jo.adam(1e-3), freeze_mask={"w": False, "b": True})
    >>> state = tx.init({"w": jnp.ones(2), "b": jnp.ones(2)})
    """
    labels = labels_of_mask("selective_transform", freeze_mask, {True: "freeze", False: "train"})
    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)
