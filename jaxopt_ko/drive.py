"""The loop around a method's updates, and what a solution's derivatives are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxopt_ko import errors, tree
from jaxopt_ko.compose import apply_updates
from jaxopt_ko.lift import Update, method_of, taking
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Solution, State, Status

DERIVATIVES = ("implicit", "implicit-cg", "unrolled")
MAX_STEPS = 10_000
ROW = "{:>7}  {:>9}  {:>19}  {:>12}  {:>10}"


class Carry(NamedTuple):
    """What one pass of the loop hands to the next."""

    params: Params
    state: State  # whose count is that of the updates made


def start_of(method: GradientTransformation, params: Params, words: Mapping[str, Any]) -> State | None:
    """The state that a solver starts with; None if it is none: by its record, a foreign one by its state's Info."""
    state = taking(method.init, 1)(params, **words)
    ours = isinstance(method.update, Update)
    solver = method_of(method).solver if ours else isinstance(getattr(state, "info", None), Info)
    return state if solver and isinstance(getattr(state, "info", None), Info) else None


def solve(
    method: GradientTransformation,
    params: Params,
    state: State,
    words: Mapping[str, Any],
    max_steps: Any,
    verbose: bool,
    unrolled: bool,
) -> Solution:
    """Updates until the state's status is one to stop at: in a while loop or, to be unrolled, in a scan."""

    def goes_on(carry: Carry) -> Array:
        on: Array = (carry.state.info.status.code == np.int32(Code.RUNNING)) & (carry.state.count < max_steps)
        return on

    def step(carry: Carry) -> Carry:
        at, state = carry
        updates, state = method.update(jax.tree.map(jnp.zeros_like, at), state, at, **words)
        if verbose:
            show(state.info, state.count)
        return Carry(apply_updates(at, updates), state)

    start = Carry(params, state)
    if verbose:
        jax.debug.callback(_print_head)
    if unrolled:
        end, _ = jax.lax.scan(
            lambda c, _: (jax.lax.cond(goes_on(c), step, lambda c: c, c), None), start, None, max_steps
        )
    else:
        end = jax.lax.while_loop(goes_on, step, start)
    info = end.state.info
    code = jnp.where(info.status.code == np.int32(Code.RUNNING), np.int32(Code.BUDGET_SPENT), info.status.code)
    best, aux, multipliers, kkt = (
        getattr(end.state, name, default)
        for name, default in (("best", end.params), ("aux", None), ("multipliers", None), ("kkt", None))
    )
    solution = Solution(
        best, info.value, Status(code), end.state.count, info.evaluations, end.state, aux, multipliers, kkt
    )
    if verbose:
        jax.debug.callback(_print_end, code, end.state.count, info.value, tuple(info.evaluations))
    return solution


# ---- the table ------------------------------------------------------------------------------------------


def show(info: Info, steps: Array) -> None:
    """Print a row of the table: of an update, its step taken or not."""
    row = (steps, info.evaluations.function, info.value, info.optimality, info.step_norm, info.accepted)
    jax.debug.callback(_print_row, *row)


def _print_head() -> None:
    print(ROW.format("step", "functions", "value", "optimality", "|step|"))


def _print_row(steps: Any, functions: Any, value: Any, optimality: Any, step_norm: Any, accepted: Any) -> None:
    step = f"{float(step_norm):.2e}" if accepted else "-"
    print(ROW.format(int(steps), int(functions), f"{float(value):.12e}", f"{float(optimality):.3e}", step), flush=True)


def _print_end(code: Any, steps: Any, value: Any, evaluations: Any) -> None:
    functions, gradients, products = map(int, evaluations)
    print(Code(int(code)).sentence)  # type: ignore[call-arg]
    print(
        f"value {float(value):.15g} after {int(steps)} steps: {functions} functions, {gradients} gradients, "
        f"{products} products",
        flush=True,
    )


# ---- derivatives ----------------------------------------------------------------------------------------


def implicit(
    condition: Callable[[Params, Any], Params],
    value_fn: Callable[[Params, Any], Array],
    solution: tuple[Params, Array],
    args: Any,
    fixed: Array | None = None,
    symmetric_cg: bool = False,
) -> tuple[Params, Array]:
    """The solution and its value, with the derivatives by `args` that condition(solution, args) = 0 gives them.

    dx = -(d condition / dx)^-1 (d condition / d args) d args, 0 where `fixed` (bool[n], of the solution as one
    vector); d value = value_fn's own. Forward and reverse mode, and again. The linear system is solved densely, or
    by conjugate gradients on products with a symmetric derivative.
    """
    end, value = solution
    x, unravel = tree.ravel(end)

    def equation(x: Array, args: Any) -> Array:
        return tree.ravel(condition(unravel(x), args))[0]

    @jax.custom_jvp
    def solved(x: Array, value: Array, fixed: Array, args: Any) -> tuple[Array, Array]:
        return x, value

    @solved.defjvp
    def _(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Any, Any]:
        (x, value, fixed, args), (*_, d_args) = primals, tangents
        x, value = solved(x, value, fixed, args)  # what follows may be differentiated again
        _, d_equation = jax.jvp(lambda a: equation(x, a), (args,), (d_args,))
        free = fixed == 0
        d_equation = jnp.where(free, d_equation, 0)
        if symmetric_cg:
            _, product = jax.linearize(lambda z: equation(z, args), x)
            dx = _conjugate_gradients(lambda v: jnp.where(free, product(jnp.where(free, v, 0)), v), -d_equation)
        else:
            H = jax.jacfwd(equation)(x, args)
            H = jnp.where(free[:, None] & free[None, :], H, jnp.eye(x.size, dtype=x.dtype))
            dx = -jnp.linalg.solve(H, d_equation)
        _, d_value = jax.jvp(lambda z, a: value_fn(unravel(z), a), (x, args), (dx, d_args))
        return (x, value), (dx, d_value.astype(value.dtype))

    held = jnp.zeros_like(x) if fixed is None else fixed.astype(x.dtype)
    x, value = solved(x, value, held, args)
    return unravel(x), value


def _conjugate_gradients(product: Callable[[Array], Array], b: Array) -> Array:
    """The solution of product(x) = b for a symmetric positive definite product."""

    def cg(product: Callable[[Array], Array], b: Array) -> Array:
        eps = float(np.finfo(b.dtype).eps)
        x: Array = jax.scipy.sparse.linalg.cg(product, b, tol=eps)[0]  # type: ignore[no-untyped-call]
        return x

    x: Array = jax.lax.custom_linear_solve(product, b, solve=cg, symmetric=True)
    return x


def in_this_trace(fun: Callable[..., Any], params: Params, args: tuple[Any, ...]) -> tuple[Callable[..., Any], Any]:
    """`fun` and `args`, with every tracer that fun closes over among the args: the derivative may be asked for later,
    when this trace is over."""
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(params, *args)
    own = [not isinstance(c, jax.core.Tracer) for c in closed.consts]
    foreign = tuple(c for c, mine in zip(closed.consts, own, strict=True) if not mine)

    def converted(params: Params, *args: Any) -> Any:
        given, rest = args[: len(args) - len(foreign)], iter(args[len(args) - len(foreign) :])
        consts = [c if mine else next(rest) for c, mine in zip(closed.consts, own, strict=True)]
        call = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, consts))
        return jax.tree.unflatten(jax.tree.structure(shape), call(*jax.tree.leaves((params, *given))))

    return converted, (*args, *foreign)


def settled(params: Params) -> Params:
    """Params whose weak types (`jnp.full(n, 0.5)`) are made plain: they would be compiled for once more."""

    def plain(leaf: Any) -> Any:
        weak = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.aval.weak_type
        return np.asarray(leaf) if weak else leaf

    return jax.tree.map(plain, params)


def frozen(x: PyTree) -> PyTree:
    """Without derivatives."""
    return jax.tree.map(jax.lax.stop_gradient, x)


def check_run(who: str, tol: Hyper | None, max_steps: Any, most: int) -> Any:
    """The largest number of updates; tol and it may be traced."""
    if tol is not None:
        errors.check_hyper(who, "tol", tol, errors.NONNEGATIVE)
    if max_steps is None:
        return np.int32(most)
    if isinstance(max_steps, jax.Array):
        return max_steps
    return np.int32(errors.check_size(who, "max_steps", max_steps, 0))


def check_derivative(who: str, derivative: str, max_steps: Any) -> None:
    """An unrolled run is a scan: its length must be known."""
    errors.check_choice(who, "derivative", derivative, DERIVATIVES)
    if derivative == "unrolled":
        errors.check_size(who, "max_steps", max_steps)


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(setting, *arrays)`, compiled once for every hashable setting: a second run compiles nothing.

    What is no array among the arrays (a string, a function) is part of the setting.
    """

    @jax.jit(static_argnums=(0, 1))
    def compiled(setting: Any, others: Any, arrays: list[Any]) -> Any:
        rest = iter(arrays)
        leaves = [next(rest) if leaf is _ARRAY else leaf for leaf in others.leaves]
        return function(setting, *others.treedef.unflatten(leaves))

    def run(setting: Any, *arguments: Any) -> Any:
        leaves, treedef = jax.tree.flatten(arguments)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        others = Others(tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves), treedef)
        try:
            hash((setting, others))
        except TypeError:
            return function(setting, *arguments)
        return compiled(setting, others, arrays)

    return run


class Others(NamedTuple):
    """What is no array among some arguments."""

    leaves: tuple[Any, ...]
    treedef: Any


class _Array:
    """Stands where an array was."""


_ARRAY = _Array()


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex) and not isinstance(leaf, bool)
