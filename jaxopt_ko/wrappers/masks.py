"""Leaves that do not move. See `masked` and `partition` for leaves under different rules."""

from __future__ import annotations

from jaxopt_ko.compose.groups import labels_of_mask, masked, partition
from jaxopt_ko.core.signature import options
from jaxopt_ko.transforms.scaling import set_to_zero
from jaxopt_ko.types import GradientTransformation, MaskOrFn


def freeze(mask: MaskOrFn) -> GradientTransformation:
    """u = 0 where the mask is True, else g; behind an optimizer, which then still keeps memory of all leaves.

    mask: a bool, a tree of bools like the parameters or a prefix of one, or a function that makes it.
    """
    return masked(set_to_zero(), mask)


@options
def selective_transform(optimizer: GradientTransformation, *, freeze_mask: MaskOrFn) -> GradientTransformation:
    """`optimizer` where freeze_mask is False; where it is True no step and no memory. The mask is as in `freeze`."""
    labels = labels_of_mask("selective_transform", freeze_mask, {True: "freeze", False: "train"})
    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)
