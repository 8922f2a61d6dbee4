"""Units in which the rows and columns of a matrix are of one size. Ruiz 2001, RAL-TR-2001-034."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.core.numerics import or_one

Scales = tuple[Array, ...]


def ruiz(sizes: Callable[..., Scales], start: Scales, rounds: int, most: float | None = None) -> Scales:
    """Diagonals, one for each kind of rows or columns, that bring the largest element of each near 1.

    sizes(*scales) -> the largest element of each row and column, so scaled. most: no scale goes beyond this, or below
    its inverse. A row of zeros is left as it is.
    """

    def round_(_: Array, scales: Scales) -> Scales:
        grown = [
            scale * jnp.where(size > 0, 1 / jnp.sqrt(or_one(size)), 1)
            for scale, size in zip(scales, sizes(*scales), strict=True)
        ]
        return tuple(grown if most is None else [jnp.clip(scale, 1 / most, most) for scale in grown])

    return jax.lax.fori_loop(0, rounds, round_, start)  # type: ignore[no-any-return]
