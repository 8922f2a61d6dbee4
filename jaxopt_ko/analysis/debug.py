"""Checks of values while a step runs: which leaf of a gradient is NaN, which second moment negative?

`jaxopt_ko.diagnose` is for the other question, why a run with sound values goes badly.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.experimental import checkify

from jaxopt_ko import errors
from jaxopt_ko.core.method import filter_kwargs, make_transformation, method_of, name_of
from jaxopt_ko.errors import say
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State, Updates

# State fields that hold sums or means of squares, whatever the transformation and however deep in its state.
SECOND_MOMENTS = frozenset({"nu", "nu_max", "sum_of_squares", "e_g", "e_x"})

F = TypeVar("F", bound=Callable[..., Any])


class _Caught(threading.local):
    """Whether what is traced now is called through `raise_on_bad_values`."""

    now = False


_caught = _Caught()


@functools.cache
def _own_traces() -> Callable[[bool], contextlib.AbstractContextManager[Any]]:
    """A context in which jit traces anew: a step traced with checks is not the one that is called without any.

    jax 0.7 has none, and there such a call ends with JAX's own error.
    """
    made = getattr(jax, "make_user_context", None)
    return contextlib.nullcontext if made is None else made(False)


def check_values(transformation: GradientTransformation, enabled: bool = True) -> GradientTransformation:
    """A transformation that also looks at values: finite gradients and steps, second moments >= 0.

    transformation: the transformation, ours or optax's.
    enabled: False: the transformation itself comes back, so that checks cost nothing where they are off.

    The state is that of `transformation`, so checks may go on and off between a save and a resume. Structure, shapes
    and dtypes are checked without it.

    Raises, when the step runs, AssertionError with the transformation, the leaf, the count of bad values and what to
    do; TransformationError, when made, for no transformation. Call a compiled step through `raise_on_bad_values`;
    tracing raises RuntimeError otherwise. Not for runs that must be fast or go on: each leaf is read several times
    more; the first error ends it.

    >>> opt = jo.debug.check_values(jo.adam(1e-3))
    >>> state = opt.init(jnp.ones(2))
    """
    pair = errors.check_pair("check_values", "argument 0", transformation, lands=True)
    if not enabled:
        return pair
    name, inner = name_of(pair), filter_kwargs(pair.update, 3)

    def update(updates: Updates, state: State, params: Params = None, **extra: Any) -> tuple[Updates, State]:
        _check_finite(name, "gradients", updates, "Look for a log or root of 0, an overflow")
        steps, new_state = inner(updates, state, params, **extra)
        _check_finite(name, "updates", steps, "Lower the learning rate, raise eps, or clip the gradients")
        for path, moment in _second_moments(new_state, jax.tree.structure(updates)):
            bad = ~(moment >= 0)  # NaN is bad too
            _check(bad, name, f"the second moment {path} must be >= 0",
                   "Its state was changed from outside, or restored from another field")  # fmt: skip
        return steps, new_state

    return make_transformation(method_of(pair), pair.init, update)


def raise_on_bad_values(step: F, enabled: bool = True) -> F:
    """A step, jitted or not, that raises at the call what `check_values` found in it.

    step: a function, with a transformation of check_values in it. It goes outermost, over jit, vmap, scan and all.
    enabled: False: step itself comes back.

    Returns a function as step. The checks of a loop are made in every pass and reported when it ends. Raises, at the
    call, what the checks raise, and RuntimeError within another compiled function, where nothing can be raised.

    >>> opt = jo.debug.check_values(jo.sgd(0.5))
    >>> step = jo.debug.raise_on_bad_values(jax.jit(lambda g: opt.update(g, opt.init(g))[0]))
    >>> step(jnp.ones(2)).tolist()
    [-0.5, -0.5]
    """
    if not enabled:
        return step
    functional, traces = checkify.checkify(step), _own_traces()

    @functools.wraps(step)
    def checked(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((args, kwargs))):
            say(RuntimeError, "raise_on_bad_values", "it goes outermost, where the arguments are numbers",
                "a call that is being traced", "Put it around jit, vmap, grad and scan, not within")  # fmt: skip
        outer, _caught.now = _caught.now, True
        try:
            with traces(True):
                error, result = functional(*args, **kwargs)
        finally:
            _caught.now = outer
        if (message := error.get()) is not None:
            name, wrong, got, do = message.removesuffix(" (`check` failed)").split("\n")
            say(AssertionError, name, wrong, got, do)
        return result

    return checked  # type: ignore[return-value]


def _check_finite(name: str, what: str, tree: PyTree, do: str) -> None:
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        bad = ~jnp.isfinite(leaf)
        _check(bad, name, f"the {what} leaf {jax.tree_util.keystr(path) or '(root)'} must be finite", do)


def _check(bad: jax.Array, name: str, wrong: str, do: str) -> None:
    """Raise, now or when the compiled program runs, if any element of `bad` is true."""
    count = jnp.sum(bad, dtype=jnp.int32)
    if _caught.now:
        before, after = (text.replace("{", "{{").replace("}", "}}") for text in (f"{name}\n{wrong}", do))
        checkify.check(count == 0, f"{before}\n{{}} bad of {bad.size} values\n{after}", count)
    elif isinstance(count, jax.core.Tracer):
        say(RuntimeError, "check_values", "a compiled step cannot raise by itself", None,
            "Call it through raise_on_bad_values(jax.jit(step)), outside of jit, vmap and scan")  # fmt: skip
    elif count > 0:
        say(AssertionError, name, wrong, f"{int(count)} bad of {bad.size} values", do)


def _second_moments(state: State, like: Any) -> Iterator[tuple[str, jax.Array]]:
    """(path, array) of every leaf in a field named in SECOND_MOMENTS, at any depth of the state.

    A subtree like the parameters is not searched for such names: there, `nu` is a parameter.
    """
    fields = jax.tree_util.tree_flatten_with_path(state, is_leaf=lambda x: jax.tree.structure(x) == like)[0]
    for path, field in fields:
        if any(getattr(key, "name", None) in SECOND_MOMENTS for key in path):
            for inner, leaf in jax.tree_util.tree_flatten_with_path(field)[0]:
                yield jax.tree_util.keystr((*path, *inner)), leaf
