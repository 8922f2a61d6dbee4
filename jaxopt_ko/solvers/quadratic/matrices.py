"""The matrices of a program: dense arrays, sparse ones, or blocks of which each meets its neighbours alone.

Parameters stand in N blocks of w. A row of A or G, which stands with the first block that it has elements in, has none
but in that and the next; Q has blocks on its diagonal and beside it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko.solvers.engine.banded import Banded


class BlockRows(NamedTuple):
    """A matrix float[N R, N w] of R rows for each block."""

    values: Array  # float[N,R,2w]  the columns of a row's block and of the next

    @property
    def shape(self) -> tuple[int, int]:
        """(N R, N w)."""
        N, R, both = self.values.shape
        return N * R, N * both // 2

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def dtype(self) -> jnp.dtype:
        """Of the elements."""
        return self.values.dtype

    def __matmul__(self, x: Array) -> Array:
        """The product with x float[N w]."""
        return jnp.einsum("nrj,nj->nr", self.values, self._windows(x)).reshape(-1)

    @property
    def T(self) -> TransposedRows:  # noqa: N802 - as of an array
        """The transpose."""
        return TransposedRows(self)

    def scaled(self, rows: Array, columns: Array) -> BlockRows:
        """diag(rows) of it diag(columns)."""
        rows = rows.reshape(self.values.shape[:2])
        return BlockRows(rows[:, :, None] * self.values * self._windows(columns)[:, None])

    def within(self, rows: Array | None, columns: Array | None) -> BlockRows:
        """With zeros in the rows and columns that are not bool[N R] rows, bool[N w] columns; None: all are."""
        values = self.values
        if rows is not None:
            values = jnp.where(rows.reshape(values.shape[:2])[:, :, None], values, 0)
        if columns is not None:
            values = jnp.where(self._windows(columns)[:, None], values, 0)
        return BlockRows(values)

    def sizes(self) -> tuple[Array, Array]:
        """The largest element of each row, and of each column."""
        size = jnp.abs(self.values)
        columns = jnp.max(size, axis=1, initial=0)
        own, after = jnp.split(columns, 2, axis=1)
        return jnp.max(size, axis=2).reshape(-1), own.at[1:].max(after[:-1]).reshape(-1)

    def gram(self, weights: Array) -> Banded:
        """N'diag(weights) N of this matrix N, float[N R] weights."""
        heavy = weights.reshape(self.values.shape[:2])[:, :, None] * self.values
        both, w = self.values.mT @ heavy, self.values.shape[2] // 2
        D = both[:, :w, :w].at[1:].add(both[:-1, w:, w:])
        return Banded(D, both[:-1, w:, :w])

    def _windows(self, x: Array) -> Array:
        """[N,2w]: what each block's rows see of a vector."""
        x = x.reshape(self.values.shape[0], -1)
        return jnp.concatenate([x, jnp.roll(x, -1, axis=0)], axis=1)  # the last block has nothing in the next


class TransposedRows(NamedTuple):
    """The transpose of `BlockRows`."""

    of: BlockRows

    def __matmul__(self, y: Array) -> Array:
        """The product with y float[N R]."""
        values = self.of.values
        v = jnp.einsum("nrj,nr->nj", values, y.reshape(values.shape[:2]))
        own, after = jnp.split(v, 2, axis=1)
        return own.at[1:].add(after[:-1]).reshape(-1)


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["data", "rows", "columns"], meta_fields=["shape", "symmetric"]
)
@dataclasses.dataclass(frozen=True)
class Sparse:
    """A matrix by its elements, those at one place added up; if symmetric, it counts by its symmetric part."""

    data: Array  # float[e]
    rows: Any  # int32[e], of NumPy where the places are known
    columns: Any  # int32[e]
    shape: tuple[int, int]
    symmetric: bool = False

    @property
    def ndim(self) -> int:
        """2."""
        return 2

    @property
    def dtype(self) -> jnp.dtype:
        """Of the elements."""
        return self.data.dtype

    @property
    def T(self) -> Sparse:  # noqa: N802 - as of an array
        """The transpose."""
        return Sparse(self.data, self.columns, self.rows, self.shape[::-1], self.symmetric)

    def astype(self, dtype: Any) -> Sparse:
        """In another dtype."""
        return dataclasses.replace(self, data=jnp.asarray(self.data).astype(dtype))

    def __matmul__(self, x: Array) -> Array:
        """The product with x float[columns]."""
        product = jnp.zeros(self.shape[0], x.dtype).at[self.rows].add(self.data * x[self.columns], mode="drop")
        if not self.symmetric:
            return product
        return 0.5 * product.at[self.columns].add(self.data * x[self.rows], mode="drop")

    def scaled(self, rows: Array, columns: Array | None = None) -> Sparse:
        """diag(rows) of it diag(columns); None: the same ones."""
        columns = rows if columns is None else columns
        return dataclasses.replace(self, data=rows[self.rows] * self.data * columns[self.columns])

    def within(self, rows: Array | None, columns: Array | None) -> Sparse:
        """With zeros in the rows and columns that are not among these; None: all are."""
        inside = jnp.ones(self.data.shape, bool)
        inside = inside if rows is None else inside & rows[self.rows]
        inside = inside if columns is None else inside & columns[self.columns]
        return dataclasses.replace(self, data=jnp.where(inside, self.data, 0))

    def sizes(self) -> tuple[Array, Array]:
        """The largest element of each row, and of each column."""
        size = jnp.abs(self.data)
        rows, columns = (jnp.zeros(count, size.dtype) for count in self.shape)
        rows, columns = rows.at[self.rows].max(size, mode="drop"), columns.at[self.columns].max(size, mode="drop")
        return (jnp.maximum(rows, columns),) * 2 if self.symmetric else (rows, columns)

    def lower(self) -> Array:
        """float[e]: what each element adds to the lower triangle, if symmetric."""
        return jnp.where(self.rows == self.columns, self.data, 0.5 * self.data)


Rows = Any  # Array | BlockRows | Sparse: A and G
Square = Any  # Array | Banded | Sparse: Q


def scaled_rows(M: Rows, rows: Array, columns: Array) -> Rows:
    """diag(rows) M diag(columns)."""
    return M.scaled(rows, columns) if isinstance(M, BlockRows | Sparse) else rows[:, None] * M * columns[None, :]


def rows_within(M: Rows, rows: Array | None, columns: Array | None) -> Rows:
    """M with zeros in the rows and columns that are not among these; None: all are."""
    if isinstance(M, BlockRows | Sparse):
        return M.within(rows, columns)
    M = M if rows is None else jnp.where(rows[:, None], M, 0)
    return M if columns is None else jnp.where(columns[None, :], M, 0)


def row_sizes(M: Rows) -> tuple[Array, Array]:
    """The largest element of each row of M, and of each column."""
    if isinstance(M, BlockRows | Sparse):
        return M.sizes()
    size = jnp.abs(M)
    return jnp.max(size, axis=1, initial=0), jnp.max(size, axis=0, initial=0)


def scaled_square(Q: Square, d: Array) -> Square:
    """diag(d) Q diag(d)."""
    return Q.scaled(d) if isinstance(Q, Banded | Sparse) else d[:, None] * Q * d[None, :]


def square_within(Q: Square, which: Array) -> Square:
    """Q with zeros in the rows and columns that are not among these."""
    if isinstance(Q, Sparse):
        return Q.within(which, which)
    return Q.within(which) if isinstance(Q, Banded) else jnp.where(which[:, None] & which[None, :], Q, 0)


def square_sizes(Q: Square) -> Array:
    """The largest element of each row of the symmetric matrix Q."""
    if isinstance(Q, Sparse):
        return Q.sizes()[0]
    return Q.sizes() if isinstance(Q, Banded) else jnp.max(jnp.abs(Q), axis=1, initial=0)
