"""The loop around a method's updates, and what a solution's derivatives are."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core import tree
from jaxopt_ko.core.method import Update, filter_kwargs, is_plain, method_of, name_of
from jaxopt_ko.core.numerics import ratio
from jaxopt_ko.errors import TransformationError, say
from jaxopt_ko.linalg.least_norm import condition as condition_of
from jaxopt_ko.linalg.least_norm import shortest
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Solution, State, Status

DERIVATIVES = ("implicit", "implicit-cg", "unrolled")
MAX_STEPS = 10_000
BLURRED = 0.25  # 1/eps to this power: a condition from which on what a run left may hide that H is singular
FLAT = 10.0  # times eps: a bend that is that part of the steepest is none
ROW = "{:>7}  {:>9}  {:>19}  {:>12}  {:>10}"


class Carry(NamedTuple):
    """What one pass of the loop hands to the next."""

    params: Params
    state: State  # whose count is that of the updates made


def start_of(method: GradientTransformation, params: Params, extra_args: Mapping[str, Any]) -> State | None:
    """The state that a solver starts with; None if it is none: by its record, a foreign one by its state's Info."""
    if method_of(method).ascends:
        _goes_up(name_of(method))
    state = filter_kwargs(method.init, 1)(params, **extra_args)
    ours = isinstance(method.update, Update)
    solver = method_of(method).solver if ours else isinstance(getattr(state, "info", None), Info)
    return state if solver and isinstance(getattr(state, "info", None), Info) else None


def _goes_up(method: str) -> NoReturn:
    """A driver minimizes."""
    say(TransformationError, "minimize", "the method must go down", method,
        "To maximize a function here, give its negative and the method without maximize")  # fmt: skip


def solve(
    method: GradientTransformation,
    params: Params,
    state: State,
    extra_args: Mapping[str, Any],
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
        updates, state = method.update(jax.tree.map(jnp.zeros_like, at), state, at, **extra_args)
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


class Held(NamedTuple):
    """Elements of a solution that go where its data go, such as bounds; of the solution as one vector."""

    which: Array  # bool[n]
    at: Callable[[Any], Array] | None  # args -> float[n], where they are held; None if nothing moves them
    firmly: Array  # bool[n]  the equations move none of these any further


def implicit(
    condition: Callable[[Params, Any], Params],
    value_fn: Callable[[Params, Any], PyTree],
    solution: tuple[Params, PyTree],
    args: Any,
    held: Held | None = None,
    symmetric_cg: bool = False,
) -> tuple[Params, PyTree]:
    """The solution and what value_fn makes of it, with the derivatives by `args` that E(x, args) = 0 gives them.

    E: condition
    dx = d held - H+ (H d held + dE/dargs d args)    H = dE/dx, without rows and columns of what is held firmly

    H+ takes of many dx the shortest (`shortest`): where H is singular, along which a model does not change at all, say,
    x stays; d value is value_fn's own. Forward and reverse mode, and again. The linear system is solved densely, or by
    conjugate residuals on products with a symmetric derivative.
    """
    end, value = solution
    x, unravel = tree.ravel(end)
    at = None if held is None else held.at

    def equation(x: Array, args: Any) -> Array:
        return tree.ravel(condition(unravel(x), args))[0]

    @jax.custom_jvp
    def solved(x: Array, value: PyTree, marks: Array, args: Any) -> tuple[Array, PyTree]:
        return x, value

    @solved.defjvp
    def _(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
        (x, value, marks, args), (*_, d_args) = primals, tangents
        x, value = solved(x, value, marks, args)  # what follows may be differentiated again
        (which, firmly), eye = marks == 1, jnp.eye(x.size, dtype=x.dtype)
        d_held = jnp.zeros_like(x)
        if at is not None:
            d_held = jnp.where(which, jax.jvp(at, (args,), (d_args,))[1], 0)

        def of_free(v: Array) -> Array:
            return jnp.where(firmly, 0, v)

        def matrix(x: Array) -> Array:
            H = jax.jacfwd(equation)(x, args)
            return jnp.where(firmly[:, None] | firmly[None, :], eye, H)

        def by_products(x: Array, args: Any) -> Callable[[Array], Array]:
            _, H = jax.linearize(lambda z: equation(z, args), x)
            return lambda b: _conjugate_residuals(lambda v: jnp.where(firmly, v, H(of_free(v))), b)

        there, fixed = frozen((x, args))
        off = lambda x: of_free(equation(x, fixed))  # noqa: E731
        if symmetric_cg:
            near = x + _nearer(off, by_products(there, fixed), there, jnp.ones((), bool))
            inverse = by_products(near, args)
        else:
            H = frozen(matrix(there))
            blurred = ~(condition_of(H) < max(x.size, float(np.finfo(x.dtype).eps) ** -BLURRED))
            near = x + _nearer(off, shortest(H), there, blurred)
            inverse = shortest(matrix(near))
        _, d_equation = jax.jvp(equation, (near, args), (d_held, d_args))
        dx = d_held - inverse(of_free(d_equation))
        _, d_value = jax.jvp(lambda z, a: value_fn(unravel(z), a), (x, args), (dx, d_args))
        return (x, value), (dx, jax.tree.map(lambda d, v: d.astype(v.dtype), d_value, value))

    none = jnp.zeros(x.shape, bool)
    marks = jnp.stack([none, none] if held is None else [held.which, held.firmly]).astype(x.dtype)
    x, value = solved(x, value, marks, args)
    return unravel(x), value


def _nearer(off: Callable[[Array], Array], inverse: Callable[[Array], Array], x: Array, wanted: Array) -> Array:
    """The step from x to where |off| is least, as far as rounding lets `inverse`, that of its derivative, go.

    A run ends with some |off| left, and H has an error of its size: it hides that H is singular.
    """

    def go(carry: tuple[Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
        step, left, size, _ = carry
        new = step - inverse(left)
        left_new = off(x + new)
        size_new = jnp.max(jnp.abs(left_new), initial=0.0)
        falls = size_new < 0.5 * size
        step, left, size = jax.tree.map(lambda a, b: jnp.where(falls, a, b), (new, left_new, size_new), carry[:3])
        return step, left, size, falls

    left = off(x)
    start = (jnp.zeros_like(x), left, jnp.max(jnp.abs(left), initial=0.0), wanted)
    return frozen(jax.lax.while_loop(lambda carry: carry[3], go, start)[0])  # type: ignore[no-any-return]


def _conjugate_residuals(product: Callable[[Array], Array], b: Array) -> Array:
    """H+ b for a symmetric positive semidefinite H, by its products (Stiefel 1955, doi:10.1007/BF02564277).

    |b - H x| is least over Krylov's spaces. Where H is singular what is left of b in the end is its share that no H x
    makes, and only along that x is longer than it has to be.
    """

    def cr(product: Callable[[Array], Array], b: Array) -> Array:
        eps, size = float(np.finfo(b.dtype).eps), b @ b

        def flat(rr: Array, rHr: Array, steepest: Array) -> Array:
            return rHr <= FLAT * eps * steepest * rr

        def go(carry: Any) -> Any:
            x, r, p, Hp, rHr, steepest, count = carry
            a = ratio(rHr, Hp @ Hp)
            x, r = x + a * p, r - a * Hp
            Hr = product(r)
            new = r @ Hr
            beta = ratio(new, rHr)
            return x, r, r + beta * p, Hr + beta * Hp, new, jnp.maximum(steepest, ratio(new, r @ r)), count + 1

        def goes_on(carry: Any) -> Array:
            _, r, _, _, rHr, steepest, count = carry
            rr = r @ r
            on: Array = (rr > eps * eps * size) & ~flat(rr, rHr, steepest) & (count < 10 * b.size)
            return on

        Hb = product(b)
        bend = b @ Hb
        start = (jnp.zeros_like(b), b, b, Hb, bend, ratio(bend, size), jnp.zeros((), jnp.int32))
        x, r, _, _, rHr, steepest, _ = jax.lax.while_loop(goes_on, go, start)
        rr = r @ r
        beyond = (rr > eps * size) & flat(rr, rHr, eps**-0.5 * steepest)
        return x - jnp.where(beyond, ratio(x @ r, rr), 0) * r

    x: Array = jax.lax.custom_linear_solve(product, b, solve=cr, symmetric=True)
    return x


def closure_convert(fun: Callable[..., Any], params: Params, args: tuple[Any, ...]) -> tuple[Callable[..., Any], Any]:
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


def of_arrays(
    functions: Sequence[Callable[..., Any] | None], args: tuple[Any, ...]
) -> tuple[list[Any], tuple[Any, ...]]:
    """The functions of (params, *args) and args without what is no array, such as a string: that is a constant."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(args)
    if all(_is_array(leaf) or isinstance(leaf, bool) for leaf in leaves):
        return list(functions), args
    constant = [None if _is_array(leaf) else leaf for leaf in leaves]

    def with_constants(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(params: Params, *arrays: Any) -> Any:
            rest = iter(arrays)
            return function(params, *treedef.unflatten(next(rest) if c is None else c for c in constant))

        return call

    arrays = tuple(leaf for leaf in leaves if _is_array(leaf))
    return [None if f is None else with_constants(f) for f in functions], arrays


def drop_weak_types(params: Params) -> Params:
    """Params whose weak types (`jnp.full(n, 0.5)`) are made plain: they would be compiled for once more."""

    def plain(leaf: Any) -> Any:
        weak = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer) and leaf.aval.weak_type
        return np.asarray(leaf) if weak else leaf

    return jax.tree.map(plain, params)


def frozen(x: PyTree) -> PyTree:
    """Without derivatives."""
    return jax.tree.map(jax.lax.stop_gradient, x)


def check_run(name: str, tol: Hyper | None, max_steps: Any, most: int) -> Any:
    """The largest number of updates; tol and it may be traced."""
    if tol is not None:
        errors.check_hyper(name, "tol", tol, errors.NONNEGATIVE)
    if max_steps is None:
        return np.int32(most)
    if isinstance(max_steps, jax.Array):
        return max_steps
    return np.int32(errors.check_size(name, "max_steps", max_steps, 0))


def check_derivative(name: str, derivative: str, max_steps: Any) -> None:
    """An unrolled run is a scan: its length must be known."""
    errors.check_choice(name, "derivative", derivative, DERIVATIVES)
    if derivative == "unrolled":
        errors.check_size(name, "max_steps", max_steps)


def jitted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function(setting, *arrays)`, compiled once for every hashable setting: a second run compiles nothing.

    What is no array among the arrays (a string, a function) is part of the setting. What is compiled for a function
    that holds arrays, or anything else that is not plain, goes when that function goes.
    """

    @functools.partial(jax.jit, static_argnums=(0, 1))  # before jax 0.8.1 jit must be given its function
    def compiled(setting: Any, others: Others, arrays: list[Any]) -> Any:
        return function(setting, *others.filled(arrays))

    programs: weakref.WeakKeyDictionary[Any, dict[Any, Any]] = weakref.WeakKeyDictionary()

    def run(setting: Any, *arguments: Any) -> Any:
        leaves, treedef = jax.tree.flatten(arguments)
        arrays = [leaf for leaf in leaves if _is_array(leaf)]
        others = Others(tuple(_ARRAY if _is_array(leaf) else leaf for leaf in leaves), treedef)
        try:
            hash((setting, others))
        except TypeError:
            return function(setting, *arguments)
        parts, structure = jax.tree.flatten((setting, others.leaves), is_leaf=callable)
        held = [None if is_plain(part) else part for part in parts]
        owner = next((_owner(part) for part in held if part is not None), None)
        try:
            kept = None if owner is None else programs.setdefault(owner, {})
            refs = tuple(part if no is None else _weak(part) for part, no in zip(parts, held, strict=True))
        except TypeError:  # no weak reference can be had
            kept = None
        if kept is None:
            return compiled(setting, others, arrays)
        key = refs, structure, treedef
        if key not in kept:

            def program(arrays: list[Any]) -> Any:
                alive = [part() if isinstance(part, weakref.ref) else part for part in refs]
                setting, leaves = jax.tree.unflatten(structure, alive)
                return function(setting, *Others(leaves, treedef).filled(arrays))

            kept[key] = jax.jit(program)
        return kept[key](arrays)

    return run


def _owner(part: Any) -> Any:
    """The object whose end is that of a function: itself, or whose method it is."""
    return getattr(part, "__self__", part)


def _weak(part: Any) -> Any:
    return weakref.WeakMethod(part) if hasattr(part, "__self__") else weakref.ref(part)


class Others(NamedTuple):
    """What is no array among some arguments."""

    leaves: tuple[Any, ...]
    treedef: Any

    def filled(self, arrays: Sequence[Any]) -> Any:
        """The arguments again, with these arrays."""
        rest = iter(arrays)
        leaves = [next(rest) if leaf is _ARRAY else leaf for leaf in self.leaves]
        return self.treedef.unflatten(leaves)


class _Array:
    """Stands where an array was."""


_ARRAY = _Array()


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, np.ndarray | np.generic):
        return leaf.dtype.kind not in "OSUMm"  # objects, strings and dates
    return isinstance(leaf, jax.Array | int | float | complex) and not isinstance(leaf, bool)
