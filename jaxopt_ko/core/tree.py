"""Arithmetic over pytrees: compute in float32 at least, store in the leaf's dtype.

`tree.x` is also what `core.leaves` says of one leaf, `core.left_out` of what a tree leaves out, `core.moments` and
`core.tree_fields` under optax's names. `__all__` is the public module, `jaxopt_ko.tree`.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import placement
from jaxopt_ko.core.checks import check_same_trees
from jaxopt_ko.core.leaves import *
from jaxopt_ko.core.left_out import *
from jaxopt_ko.core.moments import *
from jaxopt_ko.core.numerics import abs_sq, is_complex, joined, joint_length, narrowed, real_dtype, scalar_dtype
from jaxopt_ko.core.tree_fields import NamedTupleKey, get, get_all_with_path, map_params, set
from jaxopt_ko.types import DType, PyTree

AxisName = str | tuple[str, ...] | None  # of jax.shard_map or jax.vmap; several as one
__all__ = [
    "NamedTupleKey", "add", "add_scale", "allclose", "batch_shape", "bias_correction", "cast", "cast_like", "clip",
    "conj", "div", "dtype", "full_like", "get", "get_all_with_path", "map_params", "max", "min", "mul", "norm",
    "ones_like", "random_like", "real", "scale", "set", "size", "split_key_like", "sub", "sum",
    "unwrap_random_key_data", "update_infinity_moment", "update_moment", "update_moment_per_elem_norm", "vdot",
    "where", "zeros_like",
]  # fmt: skip


def ravel(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """All leaves as one real vector, float32 at least, and the function that makes trees like this one of such vectors.

    A complex leaf is its real parts, then its imaginary parts: the vectors of two trees have the inner product of the
    trees, and a derivative by the vector is one by both parts.
    """
    leaves, treedef = flatten(tree)
    kinds = [dtype_of(leaf) for leaf in leaves]
    if not any(map(is_complex, kinds)):
        return ravel_leaves(tree)
    pairs = [(jnp.real(leaf), jnp.imag(leaf)) if is_complex(d) else leaf for leaf, d in zip(leaves, kinds, strict=True)]
    vector, unravel_pairs = ravel_leaves(pairs)

    def unravel(vector: jax.Array) -> PyTree:
        pairs = unravel_pairs(vector)
        return treedef.unflatten([
            jax.lax.complex(*part).astype(d) if is_complex(d) else part for part, d in zip(pairs, kinds, strict=True)
        ])  # fmt: skip

    return vector, unravel


def ravel_leaves(tree: PyTree) -> tuple[jax.Array, Callable[[jax.Array], PyTree]]:
    """The same, but the vector is complex where a leaf is."""
    leaves, treedef = flatten(tree)
    shapes, dtypes = [np.shape(leaf) for leaf in leaves], [dtype_of(leaf) for leaf in leaves]
    wide = compute_dtype(*dtypes)
    sizes = tuple(math.prod(shape) for shape in shapes)

    def unravel(vector: jax.Array) -> PyTree:
        parts = jax.lax.split(vector, sizes) if len(sizes) != 1 else [vector]
        made = [narrowed(p.reshape(s), d) for p, s, d in zip(parts, shapes, dtypes, strict=True)]
        return treedef.unflatten(map(placement.placed_as, made, leaves))

    vectors = [placement.whole(jnp.asarray(leaf)).astype(wide).reshape(-1) for leaf in leaves]
    if not vectors:
        return jnp.zeros(0, wide), lambda _: treedef.unflatten([])
    return joined(vectors), unravel


def alike(tree: PyTree, other: PyTree) -> bool:
    """Of one structure, leaf by leaf of one shape?"""
    return structure(tree) == structure(other) and all(
        np.shape(a) == np.shape(b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True)
    )


def sum_of_squares(tree: PyTree) -> jax.Array:
    """The sum of |x|**2 over every element of every leaf; float32[] at least, 0 for an empty tree."""
    terms = [_leaf_square(leaf) for leaf in jax.tree.leaves(tree)]
    wide = compute_dtype(*(term.dtype for term in terms))
    return builtins.sum((term.astype(wide) for term in terms), start=jnp.zeros((), wide))


@jax.jit
def _leaf_square(x: jax.Array) -> jax.Array:
    return jnp.sum(abs_sq(x.astype(compute_dtype(x.dtype))))


def global_norm(updates: PyTree, *, axis_name: AxisName = None) -> jax.Array:
    """The Euclidean norm of all leaves taken as one vector; 0 for an empty tree.

    updates: the gradients, or what the transformation before made of them, a tree like params.
    axis_name: within `jax.shard_map` or `jax.vmap`, the axes that the vector is cut along: each device has a part of
        every leaf, and one collective of a number makes the norm of the whole. A leaf that several devices have as a
        copy would count several times. None: where arrays are sharded by their type or by the compiler, or not at all.

    Returns float[], float32 at least; no square overflows or vanishes, and the derivative at 0 is 0.

    >>> float(jo.global_norm({"a": jnp.array([3.0]), "b": jnp.array([[4.0]])}))
    5.0
    """
    own = joint_length([jnp.asarray(leaf) for leaf in jax.tree.leaves(updates)])
    return own if axis_name is None else joint_length([jax.lax.all_gather(own, axis_name)])


def scalar_dtype_like(tree: PyTree) -> jnp.dtype:
    """The dtype of a real scalar kept beside such a tree: complex, as optax has it, where a leaf is complex."""
    kinds = [dtype_of(leaf) for leaf in jax.tree.leaves(tree) if is_floating(leaf)]
    return common_dtype(scalar_dtype(), np.complex64) if any(map(is_complex, kinds)) else scalar_dtype()


def ascent(grads: PyTree) -> PyTree:
    """The direction of steepest ascent that jax.grad's result stands for: of a complex leaf, its conjugate.

    grads: gradients as jax.grad gives them, a tree of arrays.

    Returns a tree like it.

    >>> jo.tree.ascent(jnp.array([1.0 + 2.0j])).tolist()
    [(1-2j)]
    """
    return jax.tree.map(lambda g: jnp.conj(g) if is_complex(dtype_of(g)) else g, grads)


def zeros_vector(tree: PyTree) -> jax.Array:
    """The vector that `ravel` makes of such a tree, all zero; its leaves may be abstract."""
    leaves = jax.tree.leaves(tree)
    kinds = [dtype_of(leaf) for leaf in leaves]
    return jnp.zeros(real_size(tree), real_dtype(compute_dtype(*kinds)))


# ---- the names of optax.tree ----------------------------------------------------------------------------


def add(tree_x: PyTree, tree_y: PyTree, *other_trees: PyTree) -> PyTree:
    """x + y + …, leaf by leaf; None stays None.

    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure, of shapes that broadcast.
    *other_trees: more of them.

    Returns a tree like x, each leaf in the dtype that JAX gives the sum.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.add({"a": 1.0}, {"a": 2.0}, {"a": 3.0})
    {'a': 6.0}
    """
    return jax.tree.map(lambda *xs: functools.reduce(_plus, xs), tree_x, tree_y, *other_trees)


def _plus(x: Any, y: Any) -> Any:
    return x + y


def sub(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """x - y, leaf by leaf.

    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure, of shapes that broadcast.

    Returns a tree like x, each leaf in the dtype that JAX gives the difference.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.sub({"a": 3.0}, {"a": 1.0})
    {'a': 2.0}
    """
    return jax.tree.map(lambda x, y: x - y, tree_x, tree_y)


def mul(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """x y, leaf by leaf.

    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure, of shapes that broadcast.

    Returns a tree like x, each leaf in the dtype that JAX gives the product.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.mul({"a": 3.0}, {"a": 2.0})
    {'a': 6.0}
    """
    return jax.tree.map(lambda x, y: x * y, tree_x, tree_y)


def div(tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """x / y, leaf by leaf.

    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure, of shapes that broadcast.

    Returns a tree like x, each leaf in the dtype that JAX gives the quotient.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.div({"a": 3.0}, {"a": 2.0})
    {'a': 1.5}
    """
    return jax.tree.map(lambda x, y: x / y, tree_x, tree_y)


def scale(scalar: Any, tree: PyTree) -> PyTree:
    """s x, leaf by leaf.

    scalar: s, a number or an array of shape (), which may be traced.
    tree: a tree of arrays or numbers.

    Returns a tree like it, in each leaf's own dtype, multiplied in float32 at least, and left so for integers.

    >>> jo.tree.scale(0.5, {"a": jnp.array([2.0, 4.0])})["a"].tolist()
    [1.0, 2.0]
    """
    return jax.tree.map(lambda x: _scaled(scalar, x), tree)


def add_scale(tree_x: PyTree, scalar: Any, tree_y: PyTree) -> PyTree:
    """x + s y, leaf by leaf; None for None.

    tree_x: x, a tree of arrays or numbers.
    scalar: s, a number or an array of shape (), which may be traced.
    tree_y: y, a tree of the same structure, of shapes that broadcast.

    Returns a tree like x, in x's dtypes, computed in float32 at least and left so for integer x.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.add_scale({"a": jnp.array([1.0])}, -0.5, {"a": jnp.array([4.0])})["a"].tolist()
    [-1.0]
    """

    def leaf(x: Any, y: Any) -> jax.Array:
        wide = compute_dtype(dtype_of(x), dtype_of(y))
        total: jax.Array = jnp.asarray(x).astype(wide) + _scaled(scalar, jnp.asarray(y).astype(wide))
        return total.astype(dtype_of(x)) if is_floating(x) else total

    return map_given(leaf, tree_x, tree_y)


def _scaled(scalar: Any, x: Any) -> jax.Array:
    wide = compute_dtype(dtype_of(x))
    scaled: jax.Array = jnp.asarray(scalar).astype(wide) * jnp.asarray(x).astype(wide)
    return scaled.astype(dtype_of(x)) if is_floating(x) else scaled


def _terms(function: Callable[..., jax.Array], *trees: PyTree) -> tuple[list[jax.Array], jnp.dtype]:
    """What a function makes of the leaves in float32 at least, and the dtype of all together."""
    columns = zip(*(jax.tree.leaves(tree) for tree in trees), strict=True)
    wide = [[jnp.asarray(x).astype(compute_dtype(*map(dtype_of, xs))) for x in xs] for xs in columns]
    terms = [function(*xs) for xs in wide]
    return terms, compute_dtype(*(term.dtype for term in terms))


def vdot(tree_x: PyTree, tree_y: PyTree) -> jax.Array:
    """The inner product of two trees as vectors, sum of conj(x) y.

    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure and shapes.

    Returns float[], float32 at least; complex if a leaf is.
    Raises TreeError for another structure or another shape.

    >>> float(jo.tree.vdot({"a": jnp.array([1.0, 2.0])}, {"a": jnp.array([3.0, 4.0])}))
    11.0
    """
    check_same_trees("tree.vdot", "tree_x", tree_x, "tree_y", tree_y)
    terms, wide = _terms(lambda x, y: jnp.sum((jnp.conj(x) if is_complex(x.dtype) else x) * y), tree_x, tree_y)
    return builtins.sum((term.astype(wide) for term in terms), start=jnp.zeros((), wide))


def sum(tree: PyTree, associative_reduction: bool = False, *, axis_name: AxisName = None) -> jax.Array:
    """The sum of all elements of all leaves.

    tree: a tree of arrays or numbers.
    associative_reduction: taken for optax's sake, and without effect here.
    axis_name: as of `global_norm`; divided by the sum of the sizes it is the mean of what the devices have parts of.

    Returns float[], float32 at least; complex if a leaf is; 0 of an empty tree.

    >>> float(jo.tree.sum({"a": jnp.array([1.0, 2.0]), "b": 3.0}))
    6.0
    """
    terms, wide = _terms(jnp.sum, tree)
    own = builtins.sum((term.astype(wide) for term in terms), start=jnp.zeros((), wide))
    return own if axis_name is None else jax.lax.psum(own, axis_name)  # type: ignore[no-untyped-call]


def max(tree: PyTree) -> jax.Array:
    """The largest element, -inf of an empty tree.

    tree: a tree of arrays or numbers, all real.

    Returns an array of shape (), in the smallest dtype that holds all leaves'.

    >>> float(jo.tree.max({"a": jnp.array([1.0, 5.0]), "b": 3.0}))
    5.0
    """
    parts = [jnp.max(jnp.asarray(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    return functools.reduce(jnp.maximum, _common(parts)) if parts else jnp.asarray(-jnp.inf)


def min(tree: PyTree) -> jax.Array:
    """The smallest element, inf of an empty tree.

    tree: a tree of arrays or numbers, all real.

    Returns an array of shape (), in the smallest dtype that holds all leaves'.

    >>> float(jo.tree.min({"a": jnp.array([1.0, 5.0]), "b": 3.0}))
    1.0
    """
    parts = [jnp.min(jnp.asarray(x)) for x in jax.tree.leaves(tree) if np.size(x)]
    return functools.reduce(jnp.minimum, _common(parts)) if parts else jnp.asarray(jnp.inf)


def _common(parts: list[jax.Array]) -> list[jax.Array]:
    wide = common_dtype(*(part.dtype for part in parts))
    return [part.astype(wide) for part in parts]


def norm(
    tree: PyTree, ord: int | str | float | None = None, squared: bool = False, *, axis_name: AxisName = None
) -> jax.Array:
    """The norm of a tree as a vector, or its square.

    tree: a tree of arrays or numbers.
    ord: None or 2, Euclid's; 1, the sum of lengths; "inf" or infinity, the largest.
    squared: return the square of it.
    axis_name: as of `global_norm`.

    Returns float[], float32 at least; no square of an element overflows where the norm is asked for, and is a number.
    Raises HyperparameterError for another ord.

    >>> x = {"a": jnp.array([3.0]), "b": jnp.array([-4.0])}
    >>> [float(jo.tree.norm(x, ord)) for ord in (2, 1, "inf")], float(jo.tree.norm(x, squared=True))
    ([5.0, 7.0, 4.0], 25.0)
    """
    kinds: dict[Any, Callable[[], jax.Array]] = {
        None: lambda: global_norm(tree, axis_name=axis_name),
        2: lambda: global_norm(tree, axis_name=axis_name),
        1: lambda: sum(jax.tree.map(jnp.abs, tree), axis_name=axis_name),
        "inf": lambda: _largest(tree, axis_name),
        np.inf: lambda: _largest(tree, axis_name),
    }
    if ord not in kinds:
        errors.say(errors.HyperparameterError, "tree.norm", "ord must be None, 1, 2, or inf", repr(ord))
    if squared and ord in (None, 2) and axis_name is None:
        return sum_of_squares(tree)
    length = kinds[ord]()
    return jnp.square(length) if squared else length


def _largest(tree: PyTree, axis_name: AxisName) -> jax.Array:
    own = max(jax.tree.map(lambda x: jnp.abs(jnp.asarray(x).astype(compute_dtype(dtype_of(x)))), tree))
    most: jax.Array = own if axis_name is None else jax.lax.pmax(own, axis_name)  # type: ignore[no-untyped-call]
    return most


def size(tree: PyTree) -> int:
    """How many elements there are.

    tree: a tree of arrays or numbers.

    Returns an int.

    >>> jo.tree.size({"a": jnp.ones((2, 3)), "b": 1.0})
    7
    """
    return builtins.sum(int(np.size(leaf)) for leaf in jax.tree.leaves(tree))


def real_size(tree: PyTree) -> int:
    """How many real numbers there are: a complex element is two."""
    return builtins.sum(math.prod(np.shape(x)) * (1 + is_complex(dtype_of(x))) for x in jax.tree.leaves(tree))


def cast(tree: PyTree, dtype: DType | None) -> PyTree:
    """Leaf by leaf in another dtype; as it is for None.

    tree: a tree of arrays or numbers.
    dtype: of all leaves, those of integers too; None: the tree stays as it is.

    Returns a tree like it.

    >>> str(jo.tree.cast({"a": jnp.ones(2)}, jnp.bfloat16)["a"].dtype)
    'bfloat16'
    """
    return tree if dtype is None else jax.tree.map(lambda x: jnp.asarray(x).astype(dtype), tree)


def cast_like(tree: PyTree, other_tree: PyTree) -> PyTree:
    """Each leaf in the dtype that the other tree's has.

    tree: a tree of arrays or numbers.
    other_tree: a tree of the same structure.

    Returns a tree like the first, in the dtypes of the second.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.cast_like({"a": jnp.ones(2)}, {"a": jnp.ones(2, jnp.float16)})["a"].dtype
    dtype('float16')
    """
    return jax.tree.map(lambda x, y: jnp.asarray(x).astype(dtype_of(y)), tree, other_tree)


def dtype(tree: PyTree, mixed_dtype_handler: str | None = None) -> DType:
    """The dtype of all leaves; of no leaf float32, or float64 with x64.

    tree: a tree of arrays or numbers.
    mixed_dtype_handler: if they differ, "promote" to what holds all, "lowest" or "highest" of them; None: refuse.

    Returns a dtype.
    Raises TreeError for different dtypes without a handler, and where none of them is the lowest or highest, as of
    float16 and bfloat16; HyperparameterError for another handler.

    >>> x = {"a": jnp.ones(2), "b": jnp.ones(2, jnp.float16)}
    >>> str(jo.tree.dtype(x, "lowest")), str(jo.tree.dtype(x, "promote"))
    ('float16', 'float32')
    """
    kinds = {dtype_of(leaf) for leaf in jax.tree.leaves(tree)}
    if not kinds:
        return scalar_dtype()
    if mixed_dtype_handler is None:
        if len(kinds) > 1:
            errors.say(errors.TreeError, "tree.dtype", "all leaves must have one dtype", f"{sorted(map(str, kinds))}",
                       "Name a mixed_dtype_handler")  # fmt: skip
        return kinds.pop()
    errors.check_choice("tree.dtype", "mixed_dtype_handler", mixed_dtype_handler, ("promote", "lowest", "highest"))
    whole = common_dtype(*kinds)
    if mixed_dtype_handler == "promote":
        return whole
    wanted = (
        d for d in kinds if all(common_dtype(d, e) == (e if mixed_dtype_handler == "lowest" else d) for e in kinds)
    )
    found = next(wanted, None)
    if found is None:
        errors.say(errors.TreeError, "tree.dtype", f"one dtype must be the {mixed_dtype_handler}",
                   f"{sorted(map(str, kinds))}", "Use 'promote'")  # fmt: skip
    return found


def clip(tree: PyTree, min_value: Any = None, max_value: Any = None) -> PyTree:
    """Every element brought into [min_value, max_value].

    tree: a tree of arrays or numbers.
    min_value: the least, a number or an array that broadcasts to every leaf; None: no bound.
    max_value: the most, likewise.

    Returns a tree like it.

    >>> jo.tree.clip({"a": jnp.array([-2.0, 0.5, 3.0])}, -1.0, 1.0)["a"].tolist()
    [-1.0, 0.5, 1.0]
    """
    return jax.tree.map(lambda x: jnp.clip(x, min_value, max_value), tree)


def conj(tree: PyTree) -> PyTree:
    """Complex conjugates, leaf by leaf.

    tree: a tree of arrays or numbers.

    Returns a tree like it.

    >>> jo.tree.conj(jnp.array([1.0 + 2.0j])).tolist()
    [(1-2j)]
    """
    return jax.tree.map(jnp.conj, tree)


def real(tree: PyTree) -> PyTree:
    """Real parts, leaf by leaf.

    tree: a tree of arrays or numbers.

    Returns a tree like it, of real arrays.

    >>> jo.tree.real(jnp.array([1.0 + 2.0j])).tolist()
    [1.0]
    """
    return jax.tree.map(jnp.real, tree)


def where(condition: Any, tree_x: PyTree, tree_y: PyTree) -> PyTree:
    """x where the condition holds, y elsewhere; one condition for all leaves.

    A gradient of an integer or of a key (float0) has no value: it stays as it is.

    condition: bool[], or of a shape that broadcasts to every leaf; it may be traced.
    tree_x: x, a tree of arrays or numbers.
    tree_y: y, a tree of the same structure, of shapes that broadcast.

    Returns a tree like x, each leaf in the dtype that JAX gives the two.
    Raises ValueError, JAX's, for another structure.

    >>> jo.tree.where(jnp.array(False), {"a": jnp.ones(2)}, {"a": jnp.zeros(2)})["a"].tolist()
    [0.0, 0.0]
    """
    return jax.tree.map(lambda x, y: x if is_float0(x) else jnp.where(condition, x, y), tree_x, tree_y)


def zeros_like(tree: PyTree, dtype: DType | None = None) -> PyTree:
    """Zeros in the shape, dtype and place of each leaf.

    tree: a tree of arrays or numbers.
    dtype: of all leaves; None: each leaf's own.

    Returns a tree like it, of arrays; leaves may be abstract (jax.ShapeDtypeStruct).

    >>> str(jo.tree.zeros_like({"a": jnp.ones(2)}, jnp.bfloat16)["a"].dtype)
    'bfloat16'
    """
    return jax.tree.map(lambda leaf: full_like(leaf, 0, dtype), tree)


def ones_like(tree: PyTree, dtype: DType | None = None) -> PyTree:
    """Ones in the shape, dtype and place of each leaf.

    tree: a tree of arrays or numbers.
    dtype: of all leaves; None: each leaf's own.

    Returns a tree like it, of arrays; leaves may be abstract (jax.ShapeDtypeStruct).

    >>> jo.tree.ones_like({"a": jnp.zeros(2)})["a"].tolist()
    [1.0, 1.0]
    """
    return jax.tree.map(lambda leaf: full_like(leaf, 1, dtype), tree)


def allclose(a: PyTree, b: PyTree, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> jax.Array:
    """|a - b| <= atol + rtol |b| everywhere.

    a, b: trees of arrays or numbers of one structure.
    rtol: relative tolerance, >= 0; 1e-5 as in NumPy.
    atol: absolute tolerance, >= 0; 1e-8 as in NumPy.
    equal_nan: does NaN agree with NaN?

    Returns bool[]; True of trees without leaves.
    Raises ValueError, JAX's, for another structure.

    >>> bool(jo.tree.allclose({"a": jnp.array([1.0])}, {"a": jnp.array([1.000001])}))
    True
    """
    close = jax.tree.map(lambda x, y: jnp.allclose(x, y, rtol, atol, equal_nan), a, b)
    return functools.reduce(jnp.logical_and, jax.tree.leaves(close), jnp.asarray(True))


def batch_shape(tree: PyTree, shape: tuple[int, ...] = ()) -> PyTree:
    """Each leaf repeated along more axes in front: of leaves [*s], [*shape, *s].

    tree: a tree of arrays or numbers.
    shape: the axes; (), none.

    Returns a tree like it.

    >>> jo.tree.batch_shape({"a": jnp.ones(3)}, (2,))["a"].shape
    (2, 3)
    """
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (*shape, *np.shape(x))), tree)


def split_key_like(rng_key: jax.Array, target_tree: PyTree) -> PyTree:
    """A PRNG key for each leaf.

    rng_key: one PRNG key, typed or raw.
    target_tree: any tree; its structure alone counts.

    Returns a tree like it, of keys.

    >>> keys = jo.tree.split_key_like(jax.random.key(0), {"a": 1.0, "b": 2.0})
    >>> sorted(keys), keys["a"].shape
    (['a', 'b'], ())
    """
    treedef = structure(target_tree)
    keys = jax.random.split(rng_key, builtins.max(treedef.num_leaves, 1))
    return treedef.unflatten(list(keys)[: treedef.num_leaves])


def random_like(
    rng_key: jax.Array,
    target_tree: PyTree,
    sampler: Callable[..., jax.Array] = jax.random.normal,
    dtype: DType | None = None,
) -> PyTree:
    """sampler(key, shape, dtype) of each leaf, each with a key of its own.

    rng_key: one PRNG key, typed or raw.
    target_tree: a tree of arrays or numbers, whose shapes and dtypes count.
    sampler: a function (key, shape, dtype) -> array: jax.random.normal, uniform, rademacher and the like.
    dtype: of all leaves; None: each leaf's own.

    Returns a tree like it, of arrays.

    >>> x = jo.tree.random_like(jax.random.key(0), {"a": jnp.zeros((2, 3))}, jax.random.uniform)
    >>> x["a"].shape
    (2, 3)
    """

    def leaf(x: Any, key: jax.Array) -> jax.Array:
        return sampler(key, np.shape(x), dtype_of(x) if dtype is None else dtype)

    return jax.tree.map(leaf, target_tree, split_key_like(rng_key, target_tree))


def unwrap_random_key_data(input_tree: PyTree) -> PyTree:
    """Typed PRNG keys as the numbers in them, to be compared or saved.

    input_tree: any tree; leaves that are no typed keys stay as they are.

    Returns a tree like it, with uint32[..., n] for each array of keys.

    >>> jo.tree.unwrap_random_key_data({"key": jax.random.key(0)})["key"].dtype
    dtype('uint32')
    """

    def leaf(x: Any) -> Any:
        typed = isinstance(x, jax.Array) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        return jax.random.key_data(x) if typed else x

    return jax.tree.map(leaf, input_tree)
