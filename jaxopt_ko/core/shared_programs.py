"""What makes two rules share a compiled program: an explicit key.

A lift (`leafwise`, `matrixwise`) compiles a rule by a function that is decorated with `shared_by_key`, and asks for it
anew whenever an optimizer is made. Two rules get one program where their keys are equal. The key of a function of this
package is

    (its module, its code object, the keys of all that it holds: values closed over and defaults)

so `adam(0.1)` and `adam(0.2)` share, because hyperparameters are no part of the rule but operands, and so do two calls
of a factory with equal options; `nesterov=True` is closed over and makes another program. The key of a plain value
(number, string, dtype, class, module: `method.is_plain`) is its type and itself. A user's function is equal to itself
alone, and a function that holds an array or a tracer has no key: its program is kept by its own optimizer and goes
with it. What else a program depends on is an operand or a static argument of the jitted function: shapes, dtypes, the
numbers of stack axes, and which scalars are constants.

Steps one by one and a jitted step trace the same functions, but the programs are not the same, for two reasons:

* Under an outer trace hyperparameters that are Python numbers are constants of the program (`LeafRule.begin`), which
  XLA folds and which take no operand. Step by step they are operands, or each learning rate of a sweep would be
  compiled for. The operations are the same, in one order; XLA may contract what it knows, so the last bits can differ.
* The other scalars (of schedules, bias correction, traced hyperparameters) are operands in both, which XLA folds
  nothing of (`numerics.unfolded`): each its own for few leaves under a trace, else one array of all
  (`LeafUpdate.__call__`), for then a call has one operand in the place of many.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import jax

from jaxopt_ko.core.method import captured_values, is_plain


class KeyedFunction:
    """A function of one leaf; one of this package's equals any other made by the same code over the same options.

    Optimizers are made anew all the time (a sweep, a traced learning rate), and equal rules share their compilation.
    A user's own rule equals itself alone: what its code refers to may change. A rule that holds an array, a tracer or
    anything else that is no plain option has no key: what is compiled for it is kept with it and goes with it.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.key = _key(function) if is_plain(function) else None
        try:
            hash(self.key)
        except TypeError:  # a dict among its options
            self.key = None

    def __hash__(self) -> int:
        return id(self) if self.key is None else hash(self.key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, KeyedFunction) or self.key is None or other.key is None:
            return self is other
        return bool(self.key == other.key)


def _key(x: Any) -> Any:
    """Of plain things: equal where they do the same."""
    if isinstance(x, types.FunctionType) and (x.__module__ or "").startswith("jaxopt_ko."):
        return x.__module__, x.__code__, tuple(map(_key, captured_values(x)))
    return type(x), x


def shared_by_key(make: Callable[..., Any]) -> Callable[..., Any]:
    """make(*rules, …) once for equal rules that have a key; anew for others."""
    remembered = functools.lru_cache(maxsize=4096)(make)

    @functools.wraps(make)
    def made(*args: Any) -> Any:
        rules = [x for x in jax.tree.leaves(args) if isinstance(x, KeyedFunction)]
        return (make if any(rule.key is None for rule in rules) else remembered)(*args)

    return made
