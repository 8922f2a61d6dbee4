"""A function of a batch, evaluated on small parts one after the other: less memory, the same result."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import placement, tree
from jaxopt_ko.core.checks import check_leaves
from jaxopt_ko.core.numerics import scalar_dtype
from jaxopt_ko.core.signature import options
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, TreeError, describe, say
from jaxopt_ko.types import PyTree

__all__ = ["AccumulationType", "Accumulator", "micro_grad", "micro_vmap", "microbatch", "reshape_batch_axis"]

Function = Callable[..., Any]


@dataclass(frozen=True)
class Accumulator:
    """How the results x_0, x_1, … of the parts become one: finalize(update(… update(init(x_0), x_0, 0) …))."""

    init: Callable[[PyTree], PyTree]  # abstract x_0 -> carry
    update: Callable[[PyTree, PyTree, Any], PyTree]  # (carry, x_i, i) -> carry
    finalize: Callable[[PyTree], PyTree]  # carry -> result
    aggregate: Callable[[PyTree], PyTree]  # x with examples first -> x, within one part; for `micro_vmap`


class AccumulationType(enum.Enum):
    """The usual accumulators; sums and means are kept in float32 at least, whatever the results' dtype."""

    MEAN = enum.auto()  # sum over the parts / number of parts
    SUM = enum.auto()  # sum over the parts
    RUNNING_MEAN = enum.auto()  # mean of the parts seen, for num_real_microbatches
    CONCAT = enum.auto()  # one after the other along the first axis, in the batch's order


class IndividualOutputs(NamedTuple):
    """What `micro_grad` returns beside the gradient, examples first."""

    values: Any  # of the function
    metrics: PyTree  # of the gradients
    aux: PyTree  # of the function


def reshape_batch_axis(tree: PyTree, microbatch_size: int, axis: int = 0) -> PyTree:
    """The batch axis of every leaf as two, (parts, microbatch_size).

    x[…, i, …] -> y[…, i % parts, i // parts, …]

    tree: a tree of arrays; each has the batch on that axis.
    microbatch_size: examples in a part, an int >= 1 that divides the batch.
    axis: the batch axis of every leaf; 0, the first.

    Returns a tree of arrays with one axis more. Example i goes to part i % parts: a batch sharded over devices keeps
    each part on all of them. Raises TypeError, of JAX's, where the size does not divide. Not for parts in the batch's
    order.

    >>> jo.microbatching.reshape_batch_axis(jnp.arange(4), 2).tolist()
    [[0, 2], [1, 3]]
    """

    def split(x: Any) -> Array:
        shape = (*x.shape[:axis], microbatch_size, x.shape[axis] // microbatch_size, *x.shape[axis + 1 :])
        given = placement.explicit_sharding(x)
        if given is None:
            return jnp.swapaxes(jnp.asarray(x).reshape(shape), axis, axis + 1)
        axes = placement.axes_of(given, x.ndim)
        cut = type(given)(given.mesh, placement.spec_of([*axes[: axis + 1], (), *axes[axis + 1 :]]))
        return jnp.swapaxes(jax.lax.reshape(x, shape, out_sharding=cut), axis, axis + 1)

    return jax.tree.map(split, tree)


@options
def microbatch(
    fun: Function,
    argnums: int | Sequence[int],
    microbatch_size: int | None,
    accumulator: Any = AccumulationType.SUM,
    *,
    argnames: str | Sequence[str] = (),
    in_axes: int | Sequence[int] = 0,
    num_real_microbatches: int | Array | None = None,
) -> Function:
    """A function of a batch, evaluated on parts in turn: less memory, the same result.

    result = accumulator over i of fun(part i)

    fun: a function whose results can be put together, a sum over examples say.
    argnums: the positions of the arguments with a batch axis, an int or several.
    microbatch_size: examples in a part, an int >= 1 that divides the batch; None: fun itself, on the whole batch.
    accumulator: an AccumulationType or Accumulator, or a prefix of the result's tree with one at each leaf; SUM.
    argnames: keyword arguments with a batch axis, a name or several.
    in_axes: which axis it is, an int for all or one for each of argnums, then argnames.
    num_real_microbatches: stop after so many parts, traced too; without it the result has derivatives in reverse mode.

    Returns a function as fun. Raises HyperparameterError for a size < 1; TreeError, when called, for batch axes of
    different sizes or not divided by it. Source: optax's microbatch. Not where the whole batch is looked at (batch
    norm).

    >>> total = jo.microbatch(lambda x: jnp.sum(x**2), 0, 2)
    >>> float(total(jnp.arange(4.0)))
    14.0
    """
    if microbatch_size is None:
        return fun
    size = errors.check_size("microbatch", "microbatch_size", microbatch_size)
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)
    names = [argnames] if isinstance(argnames, str) else list(argnames)
    where: list[int | str] = [*numbers, *names]
    axes = [in_axes] * len(where) if isinstance(in_axes, int) else list(in_axes)

    def in_parts(*args: Any, **kwargs: Any) -> Any:
        def given(place: int | str) -> Any:
            return kwargs[place] if isinstance(place, str) else args[place]

        sizes = [x.shape[axis] for place, axis in zip(where, axes, strict=True) for x in jax.tree.leaves(given(place))]
        _check_parts("microbatch", sizes, size)
        parts = sizes[0] // size
        split = [reshape_batch_axis(given(place), size, axis) for place, axis in zip(where, axes, strict=True)]

        def part(i: Any) -> Any:
            new_args, new_kwargs = list(args), dict(kwargs)
            for place, axis, full in zip(where, axes, split, strict=True):
                mine = jax.tree.map(lambda x, a=axis: jax.lax.dynamic_index_in_dim(x, i, a, keepdims=False), full)
                if isinstance(place, str):
                    new_kwargs[place] = mine
                else:
                    new_args[place] = mine
            return fun(*new_args, **new_kwargs)

        shapes = jax.eval_shape(part, jnp.zeros((), jnp.int32))
        seen = parts if num_real_microbatches is None else num_real_microbatches
        whole = _composed(accumulator, shapes, parts, seen)
        carry = jax.lax.fori_loop(0, seen, lambda i, c: whole.update(c, part(i), i), whole.init(shapes))
        return whole.finalize(carry)

    return in_parts


def _check_parts(name: str, sizes: Sequence[int], size: int) -> None:
    """Batches of one size, divided by that of their parts."""
    if len(set(sizes)) != 1 or sizes[0] % size or not sizes[0]:
        say(TreeError, name, f"the batch axes must have one size, divisible by {size}", f"sizes {sorted(set(sizes))}",
            "See argnums, argnames and in_axes; leave some examples out, or fill the batch up")  # fmt: skip


@options
def micro_vmap(
    fun: Function,
    in_axes: int | Sequence[int | None] = 0,
    out_axes: Any = 0,
    *,
    microbatch_size: int | None = None,
    vmap_fn: Callable[..., Function] = jax.vmap,
    accumulator: Any = AccumulationType.CONCAT,
    num_real_microbatches: int | Array | None = None,
) -> Function:
    """jax.vmap in parts, with the results concatenated, or summed or averaged as they come.

    result = accumulator over i of vmap(fun)(part i)

    fun: a function of one example.
    in_axes: for each argument its axis or None, no trees; keyword arguments are mapped over their first.
    out_axes: 0, the only one that there is.
    microbatch_size: examples in a part, an int >= 1 that divides the batch; None: all at once.
    vmap_fn: what maps, jax.vmap or a function with its first three arguments.
    accumulator: an AccumulationType or Accumulator, or a prefix of the result's tree; CONCAT, as jax.vmap returns.
    num_real_microbatches: stop after so many parts, traced too; None: all.

    Returns a function of batches. Raises HyperparameterError for other out_axes, and what `microbatch` raises. Source:
    optax's micro_vmap. Not for a reduction that fun itself makes over the batch: `microbatch`.

    >>> jo.microbatching.micro_vmap(jnp.square, microbatch_size=2)(jnp.arange(4.0)).tolist()
    [0.0, 1.0, 4.0, 9.0]
    """
    _check_first_axis("micro_vmap", "out_axes", out_axes)
    axes = [in_axes] if isinstance(in_axes, int) else list(in_axes)

    def mapped(*args: Any, kwargs: dict[str, Any]) -> Any:
        output = vmap_fn(fun, axes if len(axes) > 1 else axes[0], 0)(*args, **kwargs)
        return _composed(accumulator, output, 1, 1).aggregate(output)

    numbers = [i for i, axis in enumerate(axes) if axis is not None]
    in_parts = microbatch(
        mapped,
        numbers,
        microbatch_size,
        accumulator,
        argnames="kwargs",
        in_axes=[axis for axis in axes if axis is not None] + [0],
        num_real_microbatches=num_real_microbatches,
    )

    def whole(*args: Any, **kwargs: Any) -> Any:
        return in_parts(*args, kwargs=kwargs)

    return whole


def _check_first_axis(name: str, argument: str, axis: Any) -> None:
    """Refuse a batch axis that is not the first."""
    if isinstance(axis, bool) or axis != 0:
        say(HyperparameterError, name, f"{argument} must be 0", repr(axis), "Move the axis afterwards: jnp.moveaxis")


@options
def micro_grad(
    fun: Function,
    has_aux: bool = False,
    argnums: int | Sequence[int] = 0,
    *,
    batch_argnums: int | Sequence[int] = 1,
    keep_batch_dim: bool = True,
    microbatch_size: int | None = None,
    accumulator: Any = AccumulationType.SUM,
    transform_fn: Callable[[PyTree], PyTree] = lambda x: x,
    metrics_fn: Callable[[PyTree], PyTree] = lambda x: None,
    num_real_microbatches: int | Array | None = None,
) -> Callable[..., tuple[PyTree, IndividualOutputs]]:
    """Gradients of single examples, transformed (clipped, squared), then summed.

    gradient = accumulator over examples of transform_fn(grad fun(params, example))

    fun: (params, batch, …) -> value, or (value, aux); it sees batches of one.
    has_aux: does fun return a pair?
    argnums, batch_argnums: what the gradient is by, and what has a batch axis, the first; an int or several.
    keep_batch_dim: False: fun sees examples without a batch axis.
    microbatch_size: examples at a time, an int >= 1 that divides the batch; None: all.
    accumulator: of the gradients, an AccumulationType or Accumulator; SUM.
    transform_fn, metrics_fn: functions of an example's gradient: what is accumulated, and what is kept for each.
    num_real_microbatches: stop after so many parts, traced too; None: all.

    Returns a function to (gradient, IndividualOutputs(values, metrics, aux), examples first). Raises what `microbatch`
    raises. Source: optax's micro_grad. Not for a sum of plain gradients, which one reverse pass makes: `microbatched`.

    >>> gradient = jo.microbatching.micro_grad(lambda w, x: jnp.sum((w * x) ** 2))
    >>> total, each = gradient(1.0, jnp.array([1.0, 2.0]))
    >>> float(total)
    10.0
    """
    numbers = [batch_argnums] if isinstance(batch_argnums, int) else list(batch_argnums)
    with_aux = fun if has_aux else lambda *args, **kwargs: (fun(*args, **kwargs), None)
    value_and_grad = jax.value_and_grad(with_aux, argnums, has_aux=True)

    def one(*args: Any, **kwargs: Any) -> Any:
        (value, aux), grad = value_and_grad(*args, **kwargs)
        return transform_fn(grad), IndividualOutputs(value, metrics_fn(grad), aux)

    axes = [0 if i in numbers else None for i in range(max(numbers) + 1)]
    kinds = (accumulator, AccumulationType.CONCAT)

    def whole(*args: Any, **kwargs: Any) -> Any:
        given = list(args)
        if keep_batch_dim:
            for i in numbers:
                given[i] = jax.tree.map(lambda x: jnp.expand_dims(x, 1), args[i])
        rest = axes + [None] * (len(args) - len(axes))
        return micro_vmap(
            one,
            rest,
            microbatch_size=microbatch_size,
            accumulator=kinds,
            num_real_microbatches=num_real_microbatches,
        )(*given, **kwargs)

    return whole


# ---- sums of losses ------------------------------------------------------------------------------------


class SummedLoss:
    """What `microbatched` returns: called, ((sum, count), gradient of the sum)."""

    def __init__(self, gradient: Function, totals: Function) -> None:
        self._gradient, self._totals = gradient, totals

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[tuple[Array, Array], PyTree]:
        """((sum, count), gradient of the sum), each in float32 at least."""
        result: tuple[tuple[Array, Array], PyTree] = self._gradient(*args, **kwargs)
        return result

    def mean(self, *args: Any, **kwargs: Any) -> Array:
        """sum / count; NaN where nothing was counted."""
        total, count = self._totals(*args, **kwargs)
        mean: Array = total / count.astype(total.dtype)
        return mean


@options
def microbatched(
    loss_fn: Function,
    microbatch_size: int | None = None,
    *,
    argnums: int | Sequence[int] = 0,
    batch_argnums: int | Sequence[int] = 1,
    in_axes: int | Sequence[int] = 0,
    axis_name: tree.AxisName = None,
) -> SummedLoss:
    """The sum of a loss over a batch, how many were summed, and the gradient of the sum, in micro-batches.

    (sum, count) = sums of loss_fn(params, part) over the parts of the batch;   g = d sum / d params

    loss_fn: (params, batch, …) -> (sum, count), two numbers: of the losses of valid examples or tokens, and how many
        those are, 0 allowed; or the loss of each example, float[…], all of them valid.
    microbatch_size: examples in a part, which must divide the batch; None: all. Example i goes to part i % parts.
    argnums: what the gradient is by, an int or several.
    batch_argnums, in_axes: the arguments with a batch axis, and which it is; others are the same for each part.
    axis_name: within `jax.shard_map`, the axis that the batch is cut along: parameters are the same on all devices,
        and what each has summed over its parts is summed over the devices once, in one reduction. None: none.

    Returns a function as jax.value_and_grad(loss_fn, has_aux=True): ((sum, count), g), in float32 at least, 4 bytes a
    parameter. `MultiSteps(…, weighted=True)` takes it: update(g, state, params, weight=count), whatever of a batch is
    padding; `train_step` and `fit` take the function in place of a loss. Raises, when traced: TreeError for another
    result of loss_fn, or batch axes that cannot be divided so. Not for a loss that is a mean: the mean of means weighs
    a token of a short batch more; nor for losses that look at the whole batch, as batch normalization does.

    >>> loss = lambda w, batch: (jnp.sum((w * batch["x"]) ** 2 * batch["valid"]), jnp.sum(batch["valid"]))
    >>> batch = {"x": jnp.arange(4.0), "valid": jnp.array([1.0, 1.0, 1.0, 0.0])}
    >>> (total, count), g = jo.loop.microbatched(loss, 2)(1.0, batch)
    >>> float(total), float(count), float(g)
    (5.0, 3.0, 10.0)
    """
    errors.check_function("microbatched", "loss_fn", loss_fn)
    numbers = [argnums] if isinstance(argnums, int) else list(argnums)

    def summed(*args: Any, **kwargs: Any) -> tuple[Array, Array]:
        return _sum_and_count(loss_fn(*args, **kwargs))

    def of_all(function: Function) -> Function:
        in_parts = microbatch(function, batch_argnums, microbatch_size, WIDE_SUM, in_axes=in_axes)

        def whole(*args: Any, **kwargs: Any) -> Any:
            if axis_name is None:
                return _all_wide(in_parts(*args, **kwargs))
            own = [_own_copy(arg, axis_name) if i in numbers else arg for i, arg in enumerate(args)]
            return jax.lax.psum(_all_wide(in_parts(*own, **kwargs)), axis_name)  # type: ignore[no-untyped-call]

        return whole

    return SummedLoss(of_all(jax.value_and_grad(summed, argnums, has_aux=True)), of_all(summed))


def _sum_and_count(result: Any) -> tuple[Array, Array]:
    """Of what a loss returns: (sum, count), or the loss of each example."""
    if isinstance(result, tuple) and len(result) == 2:
        total, count = result
    else:
        total = count = result
    real = hasattr(total, "dtype") and jnp.issubdtype(total.dtype, jnp.floating)
    if real and total is result and jnp.ndim(total):
        return jnp.sum(_wide(total)), jnp.asarray(total.size, scalar_dtype())
    known = isinstance(count, int | float) or getattr(count, "dtype", None) == np.bool_ or errors.is_number(count)
    if total is result or not real or jnp.ndim(total) or not known or jnp.ndim(count):
        say(TreeError, "microbatched", "loss_fn must return (sum, count), two numbers, or the loss of each example",
            describe(result), "Return jnp.sum(losses * valid), jnp.sum(valid)")  # fmt: skip
    return total, jnp.asarray(count, scalar_dtype())


def _own_copy(params: PyTree, axis_name: tree.AxisName) -> PyTree:
    """Parameters as each device's own, so that their gradient is of its own examples, and not summed yet."""
    names = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name or ())
    of_mesh = jax.sharding.get_abstract_mesh().axis_names  # lanes of vmap have copies of their own as it is

    def own(x: Any) -> Any:
        missing = tuple(n for n in names if n in of_mesh and n not in getattr(jax.typeof(x), "vma", ()))
        if not missing:
            return x
        if hasattr(jax.lax, "pcast"):
            return jax.lax.pcast(x, missing, to="varying")
        return jax.lax.pvary(x, missing)  # type: ignore[attr-defined]  # its name before jax 0.8

    return jax.tree.map(own, params)


# ---- accumulators ---------------------------------------------------------------------------------------


def _composed(kinds: Any, like: PyTree, parts: int, seen: Any) -> Accumulator:
    """One accumulator for a whole result from those of a prefix of its tree."""
    flat, treedef = tree.flatten(kinds)
    branches = treedef.flatten_up_to(like)
    for kind in flat:
        _check_accumulator("microbatch", kind, (Accumulator, AccumulationType))
    each = [k if isinstance(k, Accumulator) else _usual(k, x, parts, seen) for k, x in zip(flat, branches, strict=True)]
    return Accumulator(
        init=lambda x: [a.init(y) for a, y in zip(each, treedef.flatten_up_to(x), strict=True)],
        update=lambda c, x, i: [a.update(b, y, i) for a, b, y in zip(each, c, treedef.flatten_up_to(x), strict=True)],
        finalize=lambda c: treedef.unflatten([a.finalize(b) for a, b in zip(each, c, strict=True)]),
        aggregate=lambda x: treedef.unflatten(
            [a.aggregate(y) for a, y in zip(each, treedef.flatten_up_to(x), strict=True)]
        ),
    )


def _check_accumulator(name: str, kind: Any, kinds: tuple[type, ...]) -> None:
    """How results of parts become one."""
    if not isinstance(kind, kinds):
        say(HyperparameterTypeError, name, "accumulator must be an AccumulationType or Accumulator, or a tree of them",
            describe(kind), "Give AccumulationType.SUM for one")  # fmt: skip


def _usual(kind: AccumulationType, like: PyTree, parts: int, seen: Any) -> Accumulator:
    """The accumulator of that name for results of these shapes."""
    if kind is AccumulationType.CONCAT:
        return Accumulator(
            init=lambda x: jax.tree.map(lambda y: jnp.zeros((parts, *y.shape), y.dtype), x),
            update=lambda c, x, i: jax.tree.map(lambda b, y: b.at[i].set(y), c, x),
            finalize=lambda c: jax.tree.map(lambda b: jnp.swapaxes(b, 0, 1).reshape(-1, *b.shape[2:]), c),
            aggregate=lambda x: x,
        )
    if kind is not AccumulationType.SUM:
        check_leaves("microbatch", "averaged results", like)

    def add(c: Array, x: Array, i: Any) -> Array:
        x = _wide(x)
        return c + (x - c) / jnp.asarray(i + 1).astype(c.dtype) if kind is AccumulationType.RUNNING_MEAN else c + x

    def end(c: Array, x: Any) -> Array:
        return (c / jnp.asarray(seen).astype(c.dtype) if kind is AccumulationType.MEAN else c).astype(x.dtype)

    reduce = jnp.sum if kind is AccumulationType.SUM else jnp.mean
    return Accumulator(
        init=lambda x: jax.tree.map(lambda y: jnp.zeros(y.shape, _wide_dtype(y)), x),
        update=lambda c, x, i: jax.tree.map(lambda b, y: add(b, y, i), c, x),
        finalize=lambda c: jax.tree.map(end, c, like),
        aggregate=lambda x: jax.tree.map(lambda y: reduce(y, axis=0), x),
    )


WIDE_SUM = Accumulator(  # in float32 at least, and left so
    init=lambda x: jax.tree.map(lambda y: tree.full_like(y, 0, _wide_dtype(y)), x),
    update=lambda c, x, i: jax.tree.map(lambda b, y: b + y.astype(b.dtype), c, x),
    finalize=lambda c: c,
    aggregate=lambda x: jax.tree.map(lambda y: jnp.sum(y, axis=0), x),
)


def _all_wide(full: PyTree) -> PyTree:
    return jax.tree.map(_wide, full)


def _wide_dtype(x: Any) -> Any:
    return tree.compute_dtype(x.dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x.dtype


def _wide(x: Array) -> Array:
    return x.astype(_wide_dtype(x))
