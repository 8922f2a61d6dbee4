"""Which outputs of a function may depend on which inputs, by its jaxpr: no evaluation, and never too few.

Each element of each array on the way has the set of the inputs that it may have a derivative by. Primitives that
move elements move the sets, elementwise ones unite them, sums unite along their axes; one that is not known here unites
all. What does not depend on the inputs (indices, constants, predicates) is evaluated when it is asked for, so that
gathers and scatters move sets exactly. Griewank & Walther 2008, Evaluating Derivatives, section 7.1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Sets = Any  # object[shape] of frozensets of inputs
EMPTY: frozenset[int] = frozenset()
ROUNDS = 64  # of a while loop until its sets stand still; after that all depends on all

ELEMENTWISE = {
    "abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh", "bessel_i0e", "bessel_i1e",
    "cbrt", "clamp", "complex", "conj", "convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "igamma", "igammac", "imag", "integer_pow", "lgamma", "log",
    "log1p", "logistic", "max", "min", "mul", "neg", "nextafter", "optimization_barrier", "polygamma", "pow", "real",
    "reduce_precision", "rem", "rsqrt", "select_n", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "zeta",
}  # fmt: skip
FLAT = {"ceil", "floor", "round", "sign", "stop_gradient"}  # derivative 0
MOVING = {
    "broadcast_in_dim", "concatenate", "dynamic_slice", "dynamic_update_slice", "expand_dims", "gather", "pad",
    "reshape", "rev", "slice", "split", "squeeze", "stack", "tile", "transpose", "unstack",
}  # fmt: skip
REDUCING = {"reduce_max", "reduce_min", "reduce_prod", "reduce_sum"}
CUMULATIVE = {"cumlogsumexp", "cummax", "cummin", "cumprod", "cumsum"}
MATRIXWISE = {"cholesky", "eigh", "householder_product", "lu", "qr", "svd", "triangular_solve"}
CALLS = {
    "checkpoint", "closed_call", "core_call", "custom_jvp_call", "custom_jvp_call_jaxpr", "custom_vjp_call",
    "custom_vjp_call_jaxpr", "jit", "pjit", "remat", "remat2", "remat_call",
}  # fmt: skip


class Traced(NamedTuple):
    """An array on the way."""

    shape: tuple[int, ...]
    sets: Sets | None  # None: it has no derivative by any input
    known: Callable[[], Any] | None  # its value, if that does not depend on the inputs


def dependence(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Any, tuple[int, int]]:
    """int32[nnz] rows and columns of dfn/dx where it may not be 0, by rows, and its shape.

    fn: float[n] -> one array.  x: float[n], of which only shape and dtype count.
    """
    closed, out = jax.make_jaxpr(fn, return_shape=True)(x)
    inputs = np.empty(x.shape, object)
    for k in range(x.size):
        inputs.reshape(-1)[k] = frozenset((k,))
    consts = [_constant(c) for c in closed.consts]
    (made,) = _walk(closed.jaxpr, [*consts, Traced(x.shape, inputs, None)])
    m = int(np.prod(out.shape))
    sets = [] if made.sets is None else made.sets.reshape(-1).tolist()
    counts = np.array([len(s) for s in sets], np.int64)
    rows = np.repeat(np.arange(len(sets), dtype=np.int32), counts)
    cols = np.array([k for s in sets for k in sorted(s)], np.int32)
    return rows, cols, (m, x.size)


def _constant(value: Any) -> Traced:
    known = None if isinstance(value, jax.core.Tracer) else lambda: value
    return Traced(np.shape(value), None, known)


def _walk(jaxpr: Any, given: Sequence[Traced]) -> list[Traced]:
    """The outputs of a jaxpr, constants first among what is given."""
    at: dict[Any, Traced] = dict(zip([*jaxpr.constvars, *jaxpr.invars], given, strict=True))

    def read(atom: Any) -> Traced:
        return _constant(atom.val) if hasattr(atom, "val") else at[atom]

    for eqn in jaxpr.eqns:
        inputs = [read(atom) for atom in eqn.invars]
        at.update(zip(eqn.outvars, _outputs(eqn, inputs), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _outputs(eqn: Any, inputs: list[Traced]) -> list[Traced]:
    name, shapes = eqn.primitive.name, [v.aval.shape for v in eqn.outvars]
    if all(a.known is not None for a in inputs):
        all_of = functools.cache(lambda: _evaluated(eqn, [a.known() for a in inputs if a.known is not None]))
        return [Traced(shape, None, functools.partial(_item, all_of, k)) for k, shape in enumerate(shapes)]
    smooth = [jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars]
    inside = name in CALLS or name in CONTROL  # where values may be known nevertheless
    if not inside and (not any(smooth) or name in FLAT or all(a.sets is None for a in inputs)):
        return [Traced(shape, None, None) for shape in shapes]
    made = _moved(name, eqn, inputs, shapes)
    if made is None:
        everything = _union(s for a in inputs for s in _flat(a))
        made = [Traced(shape, _filled(shape, everything), None) for shape in shapes]
    return [a if is_smooth else a._replace(sets=None) for a, is_smooth in zip(made, smooth, strict=True)]


def _moved(  # noqa: PLR0911  # one for each kind
    name: str, eqn: Any, inputs: list[Traced], shapes: list[tuple[int, ...]]
) -> list[Traced] | None:
    """What a primitive does with the sets; None for one that is not known, or whose indices are not."""
    if name in CALLS:
        return _called(eqn, inputs)
    if name in CONTROL:
        return CONTROL[name](eqn, inputs)
    sets: Sets | None = None
    if name == "select_n" and inputs[0].known is not None:
        return _by_numbers(eqn, inputs, list(range(1, len(inputs))))
    elif name in ELEMENTWISE:
        parts = inputs[1:] if name == "select_n" else inputs
        if len(shapes) > 1:
            return [Traced(shape, a.sets, None) for shape, a in zip(shapes, parts, strict=True)]
        sets = functools.reduce(UNITE, (_array(a) for a in parts if a.sets is not None))
        sets = np.broadcast_to(np.asarray(sets, object), shapes[0])
    elif name in MOVING:
        moves = {"gather": [0], "dynamic_slice": [0], "dynamic_update_slice": [0, 1]}
        return _by_numbers(eqn, inputs, moves.get(name, list(range(len(inputs)))))
    elif name in REDUCING:
        sets = _united(_array(inputs[0]), eqn.params["axes"])
    elif name in CUMULATIVE:
        axis, back = eqn.params["axis"], slice(None, None, -1 if eqn.params["reverse"] else 1)
        along = (slice(None),) * axis + (back,)
        sets = UNITE.accumulate(_array(inputs[0])[along], axis=axis, dtype=object)[along]
    elif name == "sort":
        axis = eqn.params["dimension"]
        joint = functools.reduce(UNITE, (_united(_array(a), (axis,)) for a in inputs))
        joint = np.broadcast_to(np.expand_dims(np.asarray(joint, object), axis), shapes[0])
        return [Traced(shape, joint, None) for shape in shapes]
    elif name == "dot_general":
        sets = _products(eqn, inputs)
    elif name in ("scatter", "scatter-add", "scatter_add"):
        sets = _scattered(eqn, inputs)
    elif name in MATRIXWISE:
        joint = functools.reduce(UNITE, (_united(_array(a), (-2, -1)) for a in inputs))
        batch = np.ndim(joint)
        return [
            Traced(shape, np.broadcast_to(
                np.asarray(joint, object).reshape(shape[:batch] + (1,) * (len(shape) - batch)), shape
            ), None)
            for shape in shapes
        ]  # fmt: skip
    return None if sets is None else [Traced(shapes[0], sets, None)]


# ---- sets -----------------------------------------------------------------------------------------------


def _unite(a: frozenset[int], b: frozenset[int]) -> frozenset[int]:
    return a if a is b or not b else b if not a else a | b


UNITE = np.frompyfunc(_unite, 2, 1)


def _union(sets: Any) -> frozenset[int]:
    return EMPTY.union(*sets)


def _filled(shape: tuple[int, ...], value: frozenset[int]) -> Sets:
    out = np.empty(shape, object)
    out[...] = value
    return out


def _array(a: Traced) -> Sets:
    return _filled(a.shape, EMPTY) if a.sets is None else a.sets


def _flat(a: Traced) -> list[frozenset[int]]:
    return [] if a.sets is None else list(set(np.asarray(a.sets, object).reshape(-1).tolist()))


def _united(sets: Sets, axes: Sequence[int]) -> Sets:
    """Along some axes."""
    axes = [axis % sets.ndim for axis in axes]
    kept = [axis for axis in range(sets.ndim) if axis not in axes]
    shape = tuple(sets.shape[axis] for axis in kept)
    lists = np.transpose(sets, [*kept, *axes]).reshape(int(np.prod(shape)), -1)
    out = np.empty(len(lists), object)
    for k, row in enumerate(lists.tolist()):
        out[k] = _union(row)
    return out.reshape(shape)


# ---- values ---------------------------------------------------------------------------------------------


def _evaluated(eqn: Any, values: list[Any]) -> list[Any]:
    with jax.ensure_compile_time_eval():
        made = _bound(eqn, values)
    return made if eqn.primitive.multiple_results else [made]


def _bound(eqn: Any, values: list[Any], **changed: Any) -> Any:
    given = eqn.primitive.get_bind_params({**eqn.params, **changed})
    subfuns, params = given if isinstance(given, tuple) else ([], given)
    return eqn.primitive.bind(*subfuns, *values, **params)


def _item(all_of: Callable[[], list[Any]], k: int) -> Any:
    return all_of()[k]


def _by_numbers(eqn: Any, inputs: list[Traced], moves: list[int]) -> list[Traced] | None:
    """By moving the numbers of elements: of the operands in `moves`; the values of the others must be known."""
    if any(a.known is None for k, a in enumerate(inputs) if k not in moves):
        return None
    values, pool = [], [np.array([EMPTY], object)]
    count = 1
    for k, a in enumerate(inputs):
        if k not in moves:
            values.append(a.known())  # type: ignore[misc]
            continue
        size = int(np.prod(a.shape))
        values.append(np.arange(count, count + size, dtype=np.int32).reshape(a.shape))
        pool.append(_array(a).reshape(-1))
        count += size
    changed = {"fill_value": 0} if eqn.primitive.name == "gather" else {}
    with jax.ensure_compile_time_eval():
        made = _bound(eqn, [jnp.asarray(v) for v in values], **changed)
        numbers = [np.asarray(a) for a in (made if eqn.primitive.multiple_results else [made])]
    sets = np.concatenate(pool)
    return [Traced(a.shape, np.asarray(sets[a], object), None) for a in numbers]


def _products(eqn: Any, inputs: list[Traced]) -> Sets:
    """Of matrices: rows of one, columns of the other; where one is known, its zeros count."""
    (contract, batch), (a, b) = eqn.params["dimension_numbers"], inputs
    sides: list[Sets | None] = []
    for side, one, other in ((0, a, b), (1, b, a)):
        if one.sets is None:
            sides.append(None)
            continue
        own = _matrices(one.sets, batch[side], contract[side])  # [batch, free, contracted]
        if other.known is None:
            sides.append(_united(own, (2,)))
            continue
        there = _matrices(np.asarray(other.known()) != 0, batch[1 - side], contract[1 - side])
        sides.append(_where(own, there) if side == 0 else _where(own, there).transpose(0, 2, 1))
    left, right = sides
    if left is not None and left.ndim == 2:
        left = left[:, :, None]
    if right is not None and right.ndim == 2:
        right = right[:, None, :]
    joint: Any = left if right is None else right if left is None else UNITE(left, right)
    shape = eqn.outvars[0].aval.shape
    free = [int(np.prod(_free(x.shape, batch[k], contract[k]))) for k, x in enumerate((a, b))]
    batches = int(np.prod([a.shape[axis] for axis in batch[0]]))
    return np.broadcast_to(joint, (batches, *free)).reshape(shape)


def _free(shape: tuple[int, ...], batch: Sequence[int], contract: Sequence[int]) -> list[int]:
    return [size for axis, size in enumerate(shape) if axis not in batch and axis not in contract]


def _matrices(values: Any, batch: Sequence[int], contract: Sequence[int]) -> Any:
    free = [axis for axis in range(values.ndim) if axis not in batch and axis not in contract]
    sizes = [int(np.prod([values.shape[axis] for axis in axes])) for axes in (batch, free, contract)]
    return np.transpose(values, [*batch, *free, *contract]).reshape(sizes)


def _where(own: Sets, there: Any) -> Sets:
    """object[batch, free of own, free of there]: the union over what is contracted and there."""
    out = np.empty((own.shape[0], own.shape[1], there.shape[1]), object)
    for index in np.ndindex(own.shape[0], there.shape[1]):
        kept = own[index[0]][:, there[index]].tolist()
        for k, row in enumerate(kept):
            out[index[0], k, index[1]] = _union(row)
    return out


def _scattered(eqn: Any, inputs: list[Traced]) -> Sets | None:
    """What was there before is united with what comes, also where it is replaced."""
    operand, indices, updates = inputs
    size = int(np.prod(operand.shape))
    if indices.known is None or size >= 2**24:  # numbers are held in float32
        return None
    with jax.ensure_compile_time_eval():
        where = jnp.asarray(indices.known())
        given = jnp.zeros(updates.shape, jnp.float32)
        put = functools.partial(_add_at, eqn, jnp.zeros(operand.shape, jnp.float32), where)
        (target,) = jax.linear_transpose(put, given)(jnp.arange(1, size + 1, dtype=jnp.float32).reshape(operand.shape))
    out, targets = _array(operand).reshape(-1).copy(), np.asarray(target).reshape(-1).astype(np.int64)
    for to, value in zip(targets.tolist(), _array(updates).reshape(-1).tolist(), strict=True):
        if to:
            out[to - 1] = _unite(out[to - 1], value)
    return out.reshape(operand.shape)


def _add_at(eqn: Any, operand: Any, indices: Any, updates: Any) -> Any:
    dims, mode = eqn.params["dimension_numbers"], eqn.params["mode"]
    return jax.lax.scatter_add(operand, indices, updates, dims, mode=mode)


# ---- control flow ---------------------------------------------------------------------------------------


def _called(eqn: Any, inputs: list[Traced]) -> list[Traced] | None:
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in eqn.params:
            inner = eqn.params[key]
            consts = [_constant(c) for c in getattr(inner, "consts", ())]
            return _walk(getattr(inner, "jaxpr", inner), [*consts, *inputs])
    return None


def _inner(closed: Any, inputs: list[Traced]) -> list[Traced]:
    return _walk(closed.jaxpr, [*map(_constant, closed.consts), *inputs])


def _either(a: Traced, b: Traced) -> Traced:
    """What may be one or the other."""
    if a.sets is None or b.sets is None:
        return Traced(a.shape, b.sets if a.sets is None else a.sets, None)
    return Traced(a.shape, np.asarray(UNITE(a.sets, b.sets), object), None)


def _cond(eqn: Any, inputs: list[Traced]) -> list[Traced]:
    which, *rest = inputs
    branches = eqn.params["branches"]
    if which.known is not None:
        return _inner(branches[int(np.clip(np.asarray(which.known()), 0, len(branches) - 1))], rest)
    found = [_inner(branch, rest) for branch in branches]
    return [functools.reduce(_either, outs) for outs in zip(*found, strict=True)]


def _scan(eqn: Any, inputs: list[Traced]) -> list[Traced]:
    """Step by step."""
    body, length = eqn.params["jaxpr"], eqn.params["length"]
    fixed, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    consts, carry, xs = inputs[:fixed], inputs[fixed : fixed + carried], inputs[fixed + carried :]
    steps = range(length)[::-1] if eqn.params["reverse"] else range(length)
    rows: dict[int, list[Traced]] = {}
    for t in steps:
        outs = _inner(body, [*consts, *carry, *(_row(x, t) for x in xs)])
        carry, rows[t] = outs[:carried], outs[carried:]
    ys = []
    for k, v in enumerate(eqn.outvars[carried:]):
        sets = None
        if any(row[k].sets is not None for row in rows.values()):
            sets = np.stack([_array(rows[t][k]) for t in range(length)])
        ys.append(Traced(v.aval.shape, sets, None))
    return [*carry, *ys]


def _row(a: Traced, t: int) -> Traced:
    known = a.known
    return Traced(
        a.shape[1:], None if a.sets is None else np.asarray(a.sets[t], object),
        None if known is None else functools.partial(lambda known, t: np.asarray(known())[t], known, t),
    )  # fmt: skip


def _while(eqn: Any, inputs: list[Traced]) -> list[Traced] | None:
    """Until the sets stand still."""
    first, second = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    consts, carry = inputs[first : first + second], [a._replace(known=None) for a in inputs[first + second :]]
    for _ in range(ROUNDS):
        outs = _inner(eqn.params["body_jaxpr"], [*consts, *carry])
        joint = [_either(a, b) for a, b in zip(carry, outs, strict=True)]
        if all(_same(a.sets, b.sets) for a, b in zip(joint, carry, strict=True)):
            return joint
        carry = joint
    return None


def _same(a: Sets | None, b: Sets | None) -> bool:
    if a is None or b is None:
        return a is b
    return bool(np.all(np.asarray(a == b)))


CONTROL: dict[str, Callable[[Any, list[Traced]], list[Traced] | None]] = {
    "cond": _cond, "scan": _scan, "while": _while,
}  # fmt: skip
