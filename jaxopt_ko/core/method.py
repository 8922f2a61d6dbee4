"""What a method is: the pair (init, update), and one record of all else that other code may ask of it."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core.signature import signature_check
from jaxopt_ko.types import GradientTransformation, GradientTransformationExtraArgs, Params, State, Updates

P = ParamSpec("P")


@dataclasses.dataclass(frozen=True, eq=False)
class Method:
    """What there is to know of a method beside its two functions; a wrapper that keeps its state passes it on."""

    name: str  # how errors call it
    solver: bool = False  # its state has `count`, and `info` says how it stands: a driver may run it
    prox: Callable[..., Any] | None = None  # (x, s) -> prox_h(x, s): at a solution x = prox_h(x - grad f(x), 1)
    search: Any = None  # of a line search: its forms for a direction, nested and flat
    ascends: bool = False  # does it maximize? No driver does
    lands: np.dtype[Any] | None = None  # of its steps, if they lead exactly to 16-bit numbers: nothing may change them
    passes: bool = False  # do its updates pass as they are? Then it may stand behind such steps


class Update:
    """The update of a transformation: a function (updates, state, params, **extra_args), and its record.

    A tree to JAX, with what the functions close over within reach of what walks closures (equinox, optimistix), so
    that another learning rate is another leaf there and not another program.
    """

    def __init__(self, function: Callable[..., tuple[Updates, State]], method: Method) -> None:
        self.function, self.method = function, method

    def __call__(
        self, updates: Updates, state: State, params: Params = None, **extra_args: Any
    ) -> tuple[Updates, State]:
        """One step."""
        return self.function(updates, state, params, **extra_args)

    @property
    def __name__(self) -> str:
        """How errors and jaxprs call it."""
        return self.method.name

    def __repr__(self) -> str:
        return self.method.name

    def with_record(self, method: Method) -> Update:
        """The same function with another record."""
        return type(self)(self.function, method)


jax.tree_util.register_dataclass(
    Method, data_fields=["prox", "search"], meta_fields=["name", "solver", "ascends", "lands", "passes"]
)
jax.tree_util.register_pytree_node(
    Update, lambda update: ((update.function, update.method), None), lambda _, parts: Update(*parts)
)


C = TypeVar("C", bound=type)


def pytree_class(*fields: str) -> Callable[[C], C]:
    """A class whose objects are trees to JAX, these attributes their parts: what walks closures reaches within."""

    def declared(cls: C) -> C:
        def flatten(one: Any) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
            own = vars(one)
            rest = tuple((name, own[name]) for name in sorted(own) if name not in fields)
            return tuple(own[name] for name in fields), rest

        def again(rest: tuple[tuple[str, Any], ...], parts: tuple[Any, ...]) -> Any:
            one: Any = object.__new__(cls)
            vars(one).update(dict(rest), **dict(zip(fields, parts, strict=True)))
            return one

        jax.tree_util.register_pytree_node(cls, flatten, again)
        return cls

    return declared


def method_of(pair: Any) -> Method:
    """The record of a transformation; of a foreign one its name alone.

    pair: a transformation, an (init, update) pair, ours or optax's.

    Returns a `Method`.

    >>> from jaxopt_ko.core.method import method_of
    >>> method_of(jo.lbfgs()).solver, method_of(jo.adam(0.1)).solver
    (True, False)
    """
    if isinstance(pair.update, Update):
        return pair.update.method
    name = str(getattr(pair.update, "__name__", type(pair).__name__))
    if name in ("update", "update_fn", "<lambda>"):  # says less than the function that it was made in
        name = str(pair.update.__qualname__).partition(".<locals>")[0]
    return Method(name)


def name_of(pair: Any) -> str:
    """How errors call a transformation, ours or foreign.

    pair: a transformation, an (init, update) pair, ours or optax's.

    Returns a string.

    >>> from jaxopt_ko.core.method import name_of
    >>> name_of(jo.adam(0.1))
    'adam'
    """
    return method_of(pair).name


def make_transformation(
    name: str | Method, init: Callable[..., State], update: Callable[..., tuple[Updates, State]]
) -> GradientTransformation:
    """A transformation from two functions, by name or with the record of the method that they wrap; without checks.

    name: how errors call it, or the `Method` of a transformation that is wrapped.
    init: init(params, **extra_args) -> state.
    update: update(updates, state, params, **extra_args) -> (updates, state).

    Returns a GradientTransformation.
    Not for rules of one's own: `transform` checks what goes in and out.

    >>> from jaxopt_ko.core.method import make_transformation
    >>> opt = make_transformation("twice", lambda params: (), lambda g, state, params: (2 * g, state))
    >>> opt.update(3.0, opt.init(None))
    (6.0, ())
    """
    return GradientTransformationExtraArgs(init, Update(update, Method(name) if isinstance(name, str) else name))


def with_record(pair: GradientTransformation, **changed: Any) -> GradientTransformation:
    """The same pair with something else in its record: another name, say."""
    method = dataclasses.replace(method_of(pair), **changed)
    update = pair.update.with_record(method) if isinstance(pair.update, Update) else Update(pair.update, method)
    return pair._replace(update=update)


def filter_kwargs(function: Callable[..., Any], positional: int) -> Callable[..., Any]:
    """`function` with the keyword arguments that its signature does not take dropped.

    function: the function; of a builtin, whose signature is not known, no keyword argument is passed.
    positional: how many arguments are passed by place; what is beyond is dropped, too.

    Returns a function of the same results.

    >>> from jaxopt_ko.core.method import filter_kwargs
    >>> filter_kwargs(lambda x, scale=1.0: scale * x, 1)(2.0, scale=3.0, other=4.0)
    6.0
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # a builtin: nothing is known, so nothing extra is passed
        return lambda *args, **_: function(*args)
    kinds = {p.kind for p in parameters}
    if inspect.Parameter.VAR_KEYWORD in kinds:
        return function
    takes = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        given = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        positional = min(positional, len(given))
        takes -= {p.name for p in given[:positional]}
    words = tuple(sorted(takes))

    def selected(*args: Any, **extra: Any) -> Any:
        return function(*args[:positional], **{k: v for k, v in extra.items() if k in words})

    return selected


def takes(function: Callable[..., Any], word: str) -> bool:
    """Does its signature name this argument?"""
    try:
        return word in inspect.signature(function).parameters
    except (TypeError, ValueError):  # a builtin
        return False


def required(function: Callable[..., Any]) -> list[str]:
    """The arguments that its signature wants by name or place, without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin
        return []
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in several]


# ---- what may be remembered for ever --------------------------------------------------------------------


def is_plain(x: Any, within: frozenset[int] = frozenset()) -> bool:
    """Is it a value that a cache may keep: numbers and words, and functions that hold no more than those?

    Anything else may hold an array, whose memory would stay taken, or a tracer, which must not outlive its trace.
    """
    if x is None or isinstance(x, _PLAIN):
        return True
    if id(x) in within:  # a function that calls itself
        return True
    within = within | {id(x)}
    parts: Any
    if isinstance(x, frozenset):
        parts = x
    elif isinstance(x, functools.partial):
        parts = (x.func, *x.args, *x.keywords.values())
    elif isinstance(x, types.FunctionType):
        parts = captured_values(x)
    elif callable(x) and hasattr(x, "__wrapped__"):  # jitted, or with a derivative of its own
        parts = (x.__wrapped__,)
    elif jax.tree_util.all_leaves([x]):
        if not dataclasses.is_dataclass(x):
            return False
        parts = [getattr(x, field.name) for field in dataclasses.fields(x)]
    else:  # a tree of such
        parts = jax.tree.leaves(x, is_leaf=lambda part: part is not x)
    return all(is_plain(part, within) for part in parts)


_PLAIN = (
    bool, int, float, str, bytes, type, type(...), np.dtype, np.generic, np.ufunc, types.ModuleType,
    types.BuiltinFunctionType,
)  # fmt: skip


def captured_values(function: types.FunctionType) -> tuple[Any, ...]:
    """What a function holds beside its code: closure and defaults."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet: a function that calls itself
            continue
    return (*cells, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())


def cached_factory(factory: Callable[P, GradientTransformation]) -> Callable[P, GradientTransformation]:
    """The same pair for equal plain arguments, so that a driver compiled for it is found again."""
    remembered, check = functools.lru_cache(maxsize=256, typed=True)(factory), signature_check(factory)

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> GradientTransformation:
        check(*args, **kwargs)
        given = (*args, *kwargs.values())
        if all(map(is_plain, given)):
            try:
                return remembered(*args, **kwargs)  # type: ignore[arg-type]
            except TypeError:
                if _is_hashable(given):
                    raise
        return factory(*args, **kwargs)  # an array, a tracer, or a function that holds one

    return make


def _is_hashable(x: Any) -> bool:
    try:
        hash(x)
    except TypeError:
        return False
    return True


def recipe(factory: Callable[P, GradientTransformation]) -> Callable[P, GradientTransformation]:
    """A named method put together from parts: what is wrong with a part is said in the method's name."""
    name, check = factory.__name__, signature_check(factory)

    @functools.wraps(factory)
    def make(*args: P.args, **kwargs: P.kwargs) -> GradientTransformation:
        check(*args, **kwargs)
        try:
            pair = factory(*args, **kwargs)
        except errors.HyperparameterError as error:
            errors.say_of_part(name, error)
        return with_record(pair, name=name)

    return make
