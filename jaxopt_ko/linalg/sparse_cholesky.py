"""Sparse symmetric systems by L S L', S = diag(+-1): analysed once on the host, factorized and solved as one program.

K = L S L',  L lower triangular after a permutation of rows that keeps it sparse (`jaxopt_ko.linalg.symbolic`)

front F = [F11 F21'; F21 F22]:  L11 L11' = s F11,  L21 = s F21 L11'^-1,  F22 - s L21 L21' goes to the parent's front

K is positive definite (S = I), or quasidefinite as [H A'; A -C] with H and C positive definite (S = -1 on the rows of
C): then every order of elimination has a factor, without pivoting. Vanderbei 1995, doi:10.1137/0805005; fronts: Duff &
Reid 1983, doi:10.1145/356044.356047. Where the signs depend on the values: `jaxopt_ko.linalg.sparse_indefinite`.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.linalg import solve_triangular

from jaxopt_ko.core.numerics import compute_dtype
from jaxopt_ko.errors import TreeError, check_choice, describe, say
from jaxopt_ko.linalg.sparse_indefinite import LEAN, AnyBlock, back, eliminate, equilibrated, forward, tied
from jaxopt_ko.linalg.symbolic import ORDERINGS, Batch, Symbolic, symbolic

REFINE = 2  # steps of refinement where pivots have any sign


class Plan:
    """How to factorize matrices with entries at certain places. Equal for equal arguments of `analyze`, and hashable.

    n: rows of the matrix.
    rows, cols: int32[nnz] where the entries are.
    ordering: the order of elimination that was taken.
    stored: numbers in the factor with its padding.
    operations: about the multiplications of a factorization.
    """

    def __init__(self, n: int, rows: Any, cols: Any, negative: Any, ordering: str | None, weak: Any = None) -> None:
        self.n, self.rows, self.cols, self.weak = n, rows, cols, weak
        kind = b"" if weak is None else b"any" + weak.tobytes()
        self._key = hashlib.sha256(
            b"".join([f"{n} {ordering}".encode(), rows.tobytes(), cols.tobytes(), negative.tobytes(), kind])
        ).digest()
        inside = (rows >= 0) & (rows < n) & (cols >= 0) & (cols < n)
        lower = inside & (rows >= cols)
        if not np.any(inside & (rows > cols)):  # of two triangles the lower is read, of one that one
            lower = inside
        self.read = np.flatnonzero(lower).astype(np.int32)  # of the values
        low, high = np.minimum(rows, cols)[self.read], np.maximum(rows, cols)[self.read]
        pairs = np.concatenate([low.astype(np.int64) * n + high, np.arange(n, dtype=np.int64) * (n + 1)])
        pairs, where = np.unique(pairs, return_inverse=True)
        self._minus = int(np.sum(negative))
        below, right = (pairs % max(n, 1)).astype(np.int32), (pairs // max(n, 1)).astype(np.int32)
        groups = None if weak is None else tied(n, below, right, weak)
        self.symbolic: Symbolic = symbolic(n, below, right, negative, ordering, groups)
        self.low, self.high = low, high
        self.entry, self.diagonal = np.split(self.symbolic.entry[where.reshape(-1)], [low.size])
        off = np.flatnonzero(low != high)
        self.of = np.concatenate([self.read, self.read[off]])  # the values of both triangles, by rows
        self.row, self.col = np.concatenate([high, low[off]]), np.concatenate([low, high[off]])
        by_row = np.argsort(self.row, kind="stable")
        self.of, self.row, self.col = self.of[by_row], self.row[by_row], self.col[by_row]

    @property
    def ordering(self) -> str:
        """That was taken."""
        return self.symbolic.ordering

    @property
    def minus(self) -> int:
        """Rows that are negative definite."""
        return self._minus

    @property
    def operations(self) -> float:
        """About the multiplications of a factorization."""
        return self.symbolic.cost

    @property
    def stored(self) -> int:
        """Numbers in the factor, with its padding."""
        sizes = [(b.pivots.size, b.plus + b.minus + b.below) for b in self.symbolic.batches]
        return sum(count * f for count, f in sizes)

    def __eq__(self, other: object) -> bool:
        """By the arguments that it was made of."""
        return isinstance(other, Plan) and self._key == other._key

    def __hash__(self) -> int:
        """That of those."""
        return hash(self._key)

    def __repr__(self) -> str:
        """Its size in words."""
        return f"Plan(n={self.n}, nnz={self.rows.size}, {self.ordering}, stored={self.stored})"


class Block(NamedTuple):
    """The columns of L for one batch of fronts."""

    L11: Array  # float[T,B,w,w]
    L21: Array  # float[T,B,r,w]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values", "blocks", "scale"], meta_fields=["plan"])
@dataclasses.dataclass(frozen=True)
class Factor:
    """A factorized matrix. NaN where the matrix has not the signs of its plan, unless these may be any.

    plan: of `analyze`.
    values: float[nnz] of the entries.
    finite: bool[], is there a factor?
    negative: int32[], how many eigenvalues are below 0.
    lost: int32[], how many pivots were lost in rounding, and made larger; 0 unless the signs may be any.
    """

    plan: Plan
    values: Array  # float[nnz]  of its entries
    blocks: tuple[Block | AnyBlock, ...]  # L, batch by batch
    scale: Array | None = None  # float[n]  d, where D K D is what was factorized

    @property
    def finite(self) -> Array:
        """bool[]: is there a factor? If not, K is not positive definite, or has other signs than the plan's."""
        found = jnp.ones((), bool)
        for block in self.blocks:
            parts = (block.L11, block.L21) if isinstance(block, Block) else (*block.inverse, *block.below)
            for part in parts:
                found &= jnp.all(jnp.isfinite(part))
        return found

    @property
    def negative(self) -> Array:
        """int32[]: how many eigenvalues of K are below 0."""
        return self._sum("negative") if self.plan.weak is not None else jnp.asarray(self.plan.minus, jnp.int32)

    @property
    def lost(self) -> Array:
        """int32[]: how many pivots were lost in rounding, and made larger: K is singular, or nearly."""
        return self._sum("lost") if self.plan.weak is not None else jnp.zeros((), jnp.int32)

    def _sum(self, name: str) -> Array:
        counts = [jnp.sum(getattr(block, name), dtype=jnp.int32) for block in self.blocks]
        return sum(counts, start=jnp.zeros((), jnp.int32))


def analyze(pattern: Any, *, signs: Any = None, ordering: str | None = None) -> Plan:
    """A plan for symmetric matrices with entries where the pattern has some; on the host, once for each pattern.

    pattern: a BCOO matrix (its indices count, not its data), bool[n,n] or numbers there (what is not 0 counts), or
        (rows, cols, n). Entries of the lower triangle, or of the upper, or both triangles: then only the lower is read.
        The same place may occur more than once: the values are added up. The diagonal need not be there.
    signs: float[n], > 0 for the rows that are positive definite, < 0 for those that are negative definite (see above);
        "any" where it depends on the values how many pivots are negative, which a `Factor` then counts: rows without a
        diagonal are tied to a neighbour each, pivots that are lost in rounding are made larger. None: all positive.
    ordering: "minimum_degree", "nested_dissection" or "cuthill_mckee", which gives a block tridiagonal factor for
        matrices with a band; None: the one that costs least.

    Returns a `Plan`, which is static: a constant under jit, and in the structure of a `Factor`.

    Raises TreeError for a pattern that is traced, not square, or whose factor has 2**31 numbers or more;
    HyperparameterError for another ordering, or another word for signs. Source: George & Liu 1981, Computer Solution of
    Large Sparse Positive Definite Systems; Duff & Reid 1983, doi:10.1145/356044.356047; for any signs Schenk & Gärtner
    2006, ETNA 23, 158-179. Not for dense matrices, nor "any" for those that are badly scaled and nearly singular: rows
    keep their places whatever their size. On a CPU whose cores are busy otherwise set OPENBLAS_NUM_THREADS=1: its
    threads wait for each other over small blocks.

    >>> plan = jo.sparse.analyze(jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> plan
    Plan(n=2, nnz=3, minimum_degree, stored=4)
    """
    name = "analyze"
    if ordering is not None:
        check_choice(name, "ordering", ordering, list(ORDERINGS))
    rows, cols, (n, _) = places(name, pattern)
    if isinstance(signs, str):
        check_choice(name, "signs", signs, ["any"])
        has = np.zeros(n, bool)
        has[rows[rows == cols]] = True
        return any_signs(rows, cols, np.where(has, 0, 1), ordering)
    negative = np.zeros(n, bool) if signs is None else np.asarray(signs) < 0
    if negative.shape != (n,):
        say(TreeError, name, f"signs must be float[{n}], one for each row", describe(signs), "Leave it out for "
            "positive definite matrices")  # fmt: skip
    return _plan(n, rows.tobytes(), cols.tobytes(), negative.tobytes(), ordering, None)


def any_signs(rows: Any, cols: Any, weak: Any, ordering: str | None = None) -> Plan:
    """A plan for matrices of any signs. weak: int[n], above 0 for rows that are 0 on their diagonal, or below it; see
    `tied`."""
    none = np.zeros(weak.size, bool)
    kind = weak.astype(np.int8).tobytes()
    return _plan(weak.size, rows.tobytes(), cols.tobytes(), none.tobytes(), ordering, kind)


@functools.lru_cache(maxsize=64)
def _plan(n: int, rows: bytes, cols: bytes, negative: bytes, ordering: str | None, weak: bytes | None) -> Plan:
    i, j, minus = np.frombuffer(rows, np.int32), np.frombuffer(cols, np.int32), np.frombuffer(negative, bool)
    return Plan(n, i, j, minus, ordering, None if weak is None else np.frombuffer(weak, np.int8))


def places(name: str, pattern: Any, square: bool = True) -> tuple[Any, Any, tuple[int, int]]:
    """int32[nnz] rows and columns of the entries, and the shape of the matrix."""
    if isinstance(pattern, tuple) and len(pattern) == 3:
        rows, cols, n = pattern
        shape = (int(n), int(n))
    elif hasattr(pattern, "indices") and hasattr(pattern, "data"):
        if np.ndim(pattern.indices) != 2 or isinstance(pattern.indices, jax.core.Tracer):
            say(TreeError, name, "the pattern must be known when traced, a BCOO matrix without batch dimensions",
                describe(pattern.indices), "Make the plan outside of jit and vmap")  # fmt: skip
        rows, cols = np.asarray(pattern.indices).T
        shape = pattern.shape
    else:
        if isinstance(pattern, jax.core.Tracer):
            say(TreeError, name, "the pattern must be known when traced", describe(pattern),
                "Make the plan outside of jit and vmap")  # fmt: skip
        rows, cols = np.nonzero(np.asarray(pattern))
        shape = np.shape(pattern)
    if len(shape) != 2 or (square and shape[0] != shape[1]):
        say(TreeError, name, f"the pattern must be that of a {'square ' * square}matrix", f"shape {shape}",
            "Give a BCOO matrix or an array of bool")  # fmt: skip
    m, n = map(int, shape)
    return np.ascontiguousarray(rows, np.int32), np.ascontiguousarray(cols, np.int32), (m, n)


def factorize(plan: Plan, values: Any) -> Factor:
    """The factor of the symmetric matrix with these values at the plan's places.

    K = L S L',  S = diag(+-1)

    plan: of `analyze`.
    values: float[nnz] in the order of the pattern, or a BCOO matrix with the same indices.

    Returns a `Factor`, a tree of arrays; where K has other signs than the plan's, it is NaN and `finite` is False.
    Under jit and vmap, too. Raises TreeError for values of another number. Source: see `analyze`. Derivatives go
    through `solve`, by the values; L itself has none.

    >>> plan = jo.sparse.analyze(jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> factor = jo.sparse.factorize(plan, jnp.array([2.0, 1.0, 3.0]))
    >>> bool(factor.finite)
    True
    """
    values = jnp.asarray(_numbers(values))
    if values.shape != plan.rows.shape or not jnp.issubdtype(values.dtype, jnp.floating):
        say(TreeError, "factorize", f"values must be float[{plan.rows.size}], one for each place of the pattern",
            describe(values), "Give them in the order of the pattern")  # fmt: skip
    values = values.astype(compute_dtype(values.dtype))
    known = jax.lax.stop_gradient(values)
    made, scale, kept = plan.symbolic, None, known[plan.read]
    fronts = jnp.zeros(made.size, known.dtype).at[made.unit].add(made.unit_sign.astype(known.dtype))
    if plan.weak is not None:
        scale = equilibrated(plan.n, plan.row, plan.col, known[plan.of])
        kept = kept * scale[plan.low] * scale[plan.high]
        lean = float(np.finfo(known.dtype).eps) ** LEAN * (plan.weak > 0)
        fronts = fronts.at[plan.diagonal].add(-lean.astype(known.dtype))
    fronts = fronts.at[plan.entry].add(kept)
    blocks = []
    step = _by_signs if plan.weak is None else eliminate
    for batch in made.batches:
        fronts, block = _loop(functools.partial(_eliminate, step, batch), fronts, batch)
        blocks.append(block)
    return Factor(plan, values, tuple(blocks), scale)


def _numbers(values: Any) -> Any:
    """Those of a BCOO matrix, or as they are."""
    return values.data if hasattr(values, "indices") else values


def _loop(step: Any, carry: Any, batch: Batch, extra: Any = (), reverse: bool = False) -> tuple[Any, Any]:
    """`step` for each of the T steps, without a loop where T = 1."""
    arrays = tuple(map(jnp.asarray, batch[3:]))
    if len(batch.offset) == 1:
        carry, made = step(carry, (tuple(a[0] for a in arrays), jax.tree.map(lambda a: a[0], extra)))
        return carry, jax.tree.map(lambda a: a[None], made)
    return jax.lax.scan(step, carry, (arrays, extra), reverse=reverse)


def _eliminate(step: Any, batch: Batch, fronts: Array, given: Any) -> tuple[Array, Any]:
    """The columns of L for B fronts; what is left of these is added to their parents."""
    (offset, pivots, _, parent, stride, place), _ = given
    B, r, f = pivots.shape[0], batch.below, batch.plus + batch.minus + batch.below
    F = jax.lax.dynamic_slice(fronts, (offset,), (B * f * f,)).reshape(B, f, f)
    F, block = step(batch, F)
    if r:
        k = np.arange(r)
        # not to be folded into B r**2 numbers
        parent, stride, place = jax.lax.optimization_barrier((parent, stride, place))  # type: ignore[no-untyped-call]
        to = parent[:, None, None] + place[:, :, None] * stride[:, None, None] + place[:, None, :]
        real = (place < fronts.size)[:, :, None] & (k[:, None] >= k[None])[None]
        fronts = fronts.at[jnp.where(real, to, fronts.size)].add(F, mode="drop")
    return fronts, block


def _by_signs(batch: Batch, F: Array) -> tuple[Array, Block]:
    """What is left of B fronts float[B,f,f], and their columns of L."""
    columns, done = [], 0
    for w, s in ((batch.plus, 1), (batch.minus, -1)):
        if not w:
            continue
        L11 = jax.lax.linalg.cholesky(s * F[:, :w, :w], symmetrize_input=False)
        L = L11
        if F.shape[1] > w:
            L21 = s * jax.lax.linalg.triangular_solve(
                L11, F[:, w:, :w], left_side=False, lower=True, transpose_a=True
            )  # fmt: skip
            F = F[:, w:, w:] - s * jnp.matmul(L21, L21.swapaxes(1, 2), precision="highest")
            L = jnp.concatenate([L11, L21], axis=1)
        columns.append(jnp.pad(L, ((0, 0), (done, 0), (0, 0))))
        done += w
    L = jnp.concatenate(columns, axis=2) if len(columns) > 1 else columns[0]
    return F, Block(L[:, :done], L[:, done:])


def solve(factor: Factor, b: Array, *, refine: int | None = None) -> Array:
    """The solution of a symmetric system whose matrix has been factorized.

    K x = b

    factor: of `factorize`.
    b: float[n] or float[n,k].
    refine: steps of iterative refinement, x + K^-1 (b - K x), an int >= 0; None: 2 for a plan of any signs, none for
        the others, whose solutions are backward stable.

    Returns x in b's shape, NaN if there is no factor. Its derivatives by b and by the factor's values, of any order,
    are those of the equation. Raises TreeError for another number of rows. Source: see `analyze`.

    >>> plan = jo.sparse.analyze(jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> factor = jo.sparse.factorize(plan, jnp.array([2.0, 1.0, 3.0]))
    >>> [round(float(x), 4) for x in jo.sparse.solve(factor, jnp.array([5.0, 10.0]))]
    [1.0, 3.0]
    """
    if np.shape(b)[:1] != (factor.plan.n,):
        say(TreeError, "solve", f"b must be float[{factor.plan.n}] or float[{factor.plan.n},k]", describe(b))
    steps = (0 if factor.plan.weak is None else REFINE) if refine is None else refine
    flat = jnp.asarray(b, factor.values.dtype).reshape(factor.plan.n, int(np.prod(np.shape(b)[1:])))

    def product(x: Array) -> Array:
        return multiply(factor.plan, factor.values, x)

    def inverse(_: Any, b: Array) -> Array:
        x = _substitute(factor, b)
        for _ in range(steps):
            x = x + _substitute(factor, b - product(x))
        return x

    x = jax.lax.custom_linear_solve(product, flat, inverse, symmetric=True)
    return x.reshape(np.shape(b))  # type: ignore[no-any-return]


def multiply(plan: Plan, values: Any, x: Array) -> Array:
    """The product of a symmetric matrix with a vector.

    K x

    plan: of `analyze`; of two triangles the lower is read, and one triangle stands for both.
    values: float[nnz] in the order of the pattern, or a BCOO matrix with the same indices.
    x: float[n] or float[n,k].

    Returns K x in x's shape. Raises nothing of its own. Not for matrices that are not symmetric: BCOO's own product.

    >>> plan = jo.sparse.analyze(jnp.array([[2.0, 0.0], [1.0, 3.0]]))
    >>> jo.sparse.multiply(plan, jnp.array([2.0, 1.0, 3.0]), jnp.array([1.0, 3.0])).tolist()
    [5.0, 10.0]
    """
    v = jnp.asarray(_numbers(values))[plan.of].reshape(-1, *[1] * (x.ndim - 1))
    return jnp.zeros_like(x).at[plan.row].add(v * x[plan.col], indices_are_sorted=True)


def _substitute(factor: Factor, b: Array) -> Array:
    """By L, S and L'."""
    batches, signed = factor.plan.symbolic.batches, factor.plan.weak is None
    ahead, home = (_forward, _back) if signed else (forward, back)
    x = b if factor.scale is None else factor.scale[:, None] * b
    for batch, block in zip(batches, factor.blocks, strict=True):
        x, _ = _loop(functools.partial(ahead, batch), x, batch, block)
    for batch, block in zip(batches[::-1], factor.blocks[::-1], strict=True):
        x, _ = _loop(home, x, batch, block, reverse=True)
    return x if factor.scale is None else factor.scale[:, None] * x


def _forward(batch: Batch, x: Array, given: Any) -> tuple[Array, None]:
    (_, pivots, rows, *_), (L11, L21) = given
    y = solve_triangular(L11, x.at[pivots].get(mode="fill", fill_value=0), lower=True)
    if batch.below:
        x = x.at[rows].add(-jnp.matmul(L21, y, precision="highest"), mode="drop")
    if batch.minus:
        y = jnp.where((np.arange(batch.plus + batch.minus) < batch.plus)[None, :, None], y, -y)
    return x.at[pivots].set(y, mode="drop"), None


def _back(x: Array, given: Any) -> tuple[Array, None]:
    (_, pivots, rows, *_), (L11, L21) = given
    y = x.at[pivots].get(mode="fill", fill_value=0)
    if L21.shape[-2]:
        below = x.at[rows].get(mode="fill", fill_value=0)
        y = y - jnp.matmul(L21.swapaxes(-1, -2), below, precision="highest")
    y = solve_triangular(L11.swapaxes(-1, -2), y, lower=False)
    return x.at[pivots].set(y, mode="drop"), None
