"""Leaves that are held fast. See `masked` and `partition` for leaves under different rules."""

from __future__ import annotations

from collections.abc import Callable

import jax

from jaxopt_ko import errors
from jaxopt_ko.compose import masked, partition
from jaxopt_ko.transforms.scaling import set_to_zero
from jaxopt_ko.types import GradientTransformation, Params, PyTree

Mask = PyTree | Callable[[Params], PyTree]


def freeze(mask: Mask) -> GradientTransformation:
    """u = 0 where the mask is True, else g; behind an optimizer, which then still keeps memory of all leaves.

    mask: a bool, a tree of bools like the parameters or a prefix of one, or a function that makes it.
    """
    return masked(set_to_zero(), _bools(mask))


@errors.options
def selective_transform(optimizer: GradientTransformation, *, freeze_mask: Mask) -> GradientTransformation:
    """`optimizer` where freeze_mask is False; where it is True no step and no memory. The mask is as in `freeze`."""
    names = {True: "freeze", False: "train"}

    def labels(params: Params) -> PyTree:
        mask = _bools(freeze_mask)
        return jax.tree.map(lambda m: names.get(m, m), mask(params) if callable(mask) else mask)

    return partition({"train": optimizer, "freeze": set_to_zero()}, labels)


def _bools(mask: Mask) -> Mask:
    """The mask with arrays of one bool as Python's."""
    if callable(mask):
        return lambda params: _bools(mask(params))
    return jax.tree.map(lambda m: bool(m) if hasattr(m, "dtype") and m.dtype == "bool" else m, mask)
