"""How the leaves of a tree are read as stacks of matrices: dimension numbers, stack axes and sharding."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.checks import no_matrix
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.types import Params, PyTree, Updates


class MuonDimensionNumbers(NamedTuple):
    """Which axes of a leaf are the matrix y = x W: those summed over and those of y; the others are a stack."""

    reduction_axis: Sequence[int] | int = 0
    output_axis: Sequence[int] | int = 1


Numbers = MuonDimensionNumbers | PyTree | Callable[[Params], PyTree] | None


class Layout(NamedTuple):
    """Where the matrices of a tree lie, and on which devices their stacks are: options that travel together."""

    numbers: Numbers = None  # of each leaf, a prefix of such a tree, or what makes one; None: by `stack_axes`
    stack_axes: PyTree = 0  # how many leading axes of a leaf are stacks: an integer, or a prefix of integers
    sharding: jax.sharding.Sharding | None = None  # of a stack [N, m, n]

    def axes(self, name: str, updates: Updates) -> list[MatrixAxes]:
        """How each leaf is read. Raises TreeError, in the method's name, for a leaf that is no matrix."""
        leaves = jax.tree.leaves(updates)
        numbers = tree.resolve_prefix(updates, self.numbers, _ends)
        if numbers is None:
            stacking.count_stack_axes(name, updates, self.stack_axes)
            return [stacking.trailing(leaf.ndim) for leaf in leaves]
        wanted = stacking.prefix_of(name, "weight_dimension_numbers", numbers, updates, is_leaf=_ends)
        return [_axes_of(name, updates, i, leaf, own) for i, (leaf, own) in enumerate(zip(leaves, wanted, strict=True))]

    def labels(self, name: str, names: tuple[str, str] = ("matrix", "rest")) -> Callable[[Params], PyTree]:
        """params -> "matrix" where a leaf has dimension numbers, or two axes behind its stack axes, else "rest"."""
        by_shape = stacking.matrix_labels(name, self.stack_axes, names)

        def by_numbers(params: Params) -> PyTree:
            made = tree.resolve_prefix(params, self.numbers, _ends)
            if made is None:
                return by_shape(params)
            return jax.tree.map(
                lambda own, part: jax.tree.map(lambda _: names[own is None], part),
                made, params, is_leaf=_ends,
            )  # fmt: skip

        return by_shape if self.numbers is None else by_numbers


def spectral_scale(fan_in: int, fan_out: int) -> float:
    """sqrt(fan_out / fan_in): one learning rate for all widths."""
    return math.sqrt(fan_out / fan_in)


def jordan_scale(fan_in: int, fan_out: int) -> float:
    """sqrt(max(1, fan_out / fan_in)): the spectral norm that a change of the layer's output wants."""
    return math.sqrt(max(1.0, fan_out / fan_in))


def _axes_of(name: str, updates: Updates, index: int, leaf: Any, numbers: Any) -> MatrixAxes:
    """Rows and columns of one leaf by its dimension numbers."""
    sides: list[tuple[int, ...]] = [(), ()]
    if isinstance(numbers, MuonDimensionNumbers) and leaf.ndim:
        sides = [tuple(int(a % leaf.ndim) for a in np.atleast_1d(side)) for side in numbers]
    rows, columns = sides
    if not (rows and columns) or len({*rows, *columns}) != len(rows) + len(columns):
        no_matrix(name, updates, index, leaf, f"the separate axes of {numbers}")
    return MatrixAxes(rows, columns)


def _ends(x: Any) -> bool:
    return x is None or isinstance(x, MuonDimensionNumbers)
