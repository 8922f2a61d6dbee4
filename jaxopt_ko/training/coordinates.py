"""Does a model keep the size of its activations as it grows wider? A check of its parametrization before a long run.

Coordinate checking: Yang & Hu et al. 2022, arXiv:2203.03466, Appendix D.1.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import apply_updates
from jaxopt_ko.core.method import filter_kwargs
from jaxopt_ko.core.signature import options
from jaxopt_ko.core.tables import Table
from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import HyperparameterError, HyperparameterTypeError, TransformationError, TreeError, describe, say
from jaxopt_ko.training.checks import check_prng_key, check_whole
from jaxopt_ko.types import PyTree


class CoordinateCheck(NamedTuple):
    """What `coordinate_check` found; print it for a table. t counts steps, 0 is the initialization."""

    passed: bool  # are all judged slopes within the tolerance?
    widths: tuple[int, ...]
    tolerance: float  # of a slope at the last step
    change_tolerance: float  # of a change's slope at the last step
    sizes: dict[str, np.ndarray[Any, Any]]  # name -> [widths, steps + 1], mean |x| over elements and seeds
    changes: dict[str, np.ndarray[Any, Any]]  # name -> [widths, steps + 1], mean |x - x at t = 0|
    slopes: dict[str, np.ndarray[Any, Any]]  # name -> [steps + 1], of log size over log width
    change_slopes: dict[str, np.ndarray[Any, Any]]  # name -> [steps + 1], nan at t = 0
    losses: np.ndarray[Any, Any]  # [widths, steps + 1], mean over seeds

    def faults(self) -> dict[str, str]:
        """Name -> what is wrong with it, of those that did not pass."""
        told = {}
        for name, slope in self.slopes.items():
            reasons = []
            for what, value, limit in (
                ("size", slope[-1], self.tolerance),
                ("change", self.change_slopes[name][-1], self.change_tolerance),
            ):
                if math.isnan(value):
                    reasons.append(f"{what} is zero or not finite")
                elif abs(value) > limit:
                    reasons.append(f"{what} {'grows' if value > 0 else 'shrinks'} as width**{value:.2f}")
            if reasons:
                told[name] = ", ".join(reasons)
        return told

    def table(self) -> Table:
        """A row for each activation: the slope of its size at every step, that of its change, and a verdict."""
        steps = len(self.losses[0])
        columns = ("activation", *(f"t = {t}" for t in range(steps)), "change", "verdict")
        faults = self.faults()
        rows = [
            (
                name,
                *map(_signed, slope),
                _signed(self.change_slopes[name][-1]),
                faults.get(name, "passed"),
            )
            for name, slope in self.slopes.items()
        ]
        return Table(columns, columns, tuple(rows))

    def as_dict(self) -> dict[str, Any]:
        """Numbers, words and lists alone, for JSON."""
        arrays = ("sizes", "changes", "slopes", "change_slopes")
        return {
            "passed": self.passed,
            "widths": list(self.widths),
            "tolerance": self.tolerance,
            "change_tolerance": self.change_tolerance,
            **{field: {name: x.tolist() for name, x in getattr(self, field).items()} for field in arrays},
            "losses": self.losses.tolist(),
        }

    def __str__(self) -> str:
        """The table and the verdict."""
        widths = ", ".join(map(str, self.widths))
        verdict = "passed" if self.passed else "NOT passed"
        return f"d log|x| / d log width over widths {widths}: {verdict}\n{self.table()}"

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


@options
def coordinate_check(
    make: Callable[..., Any],
    widths: Sequence[int],
    batch: PyTree,
    *,
    steps: int = 4,
    seeds: int = 4,
    key: jax.Array | None = None,
    tolerance: float = 0.1,
    change_tolerance: float = 0.25,
) -> CoordinateCheck:
    """How activations grow with width in the first steps of training: they should not, or no rate will transfer.

    slope = d log mean|x| / d log width, at each step, by least squares over the widths

    make: make(width, key) -> (params, optimizer, loss_fn): the model of this width, with the initialization and the
        optimizer that are to be checked. loss_fn(params, batch) -> (loss, activations), which are a tree of arrays: a
        dict {"hidden": h, "logits": y}; flax's "intermediates", if muP's multiplier is applied to what goes into the
        head, for what is done behind it they do not show; what an equinox model returns beside its output. It is traced
        and vmapped over keys, as a jitted function would be.
    widths: integers, two at least, increasing; 64, 128, 256, 512 say: slopes of narrow models are noisy.
    batch: what loss_fn gets, the same in each step; a few examples will do.
    steps: how many updates are made, an integer >= 1; 4: enough for what the first leave at its initial size.
    seeds: over how many keys sizes are averaged, >= 1.
    key: a PRNG key; None: jax.random.key(0).
    tolerance: the slope of a size that passes after the last step, > 0. 0.1 is a factor of 1.23 from 64 to 512.
    change_tolerance: the same for the change since the initialization, > 0: wider, as a change has no part that is
        right by the initialization alone. math.inf judges sizes alone, as the paper does.

    Judged is the last step alone: with muP's initialization outputs and attention's scores begin at width**-1/2, and
    lose that in a few steps (or are zero, where the head is, and have a slope of nan). A rate that is too small to
    change the activations shows in their change and not in their size.

    Returns a `CoordinateCheck`: passed, sizes, changes, slopes, change_slopes, losses, and functions table(), faults(),
    as_dict(). It compiles one program for each width.
    Raises HyperparameterError for widths that do not increase; TransformationError, TreeError if make returns something
        else, or other activations for another width.
    Source: Yang & Hu et al. 2022, arXiv:2203.03466, Appendix D.1; mup 1.0.0 has the plots.
    Not a proof: a check of the first steps, on the batch that it got.

    >>> def make(width, key):
    ...     params = {"inputs": jax.random.normal(key, (3, width)), "head": jnp.zeros((width, 1))}
    ...     def loss_fn(params, x):
    ...         h = jnp.tanh(x @ params["inputs"])
    ...         y = h @ params["head"] * (8 / width)
    ...         return jnp.mean((y - 1) ** 2), {"h": h, "y": y}
    ...     return params, jo.adam(0.01), loss_fn
    >>> found = jo.coordinate_check(make, (8, 16), jnp.ones((2, 3)), steps=2)
    >>> sorted(found.slopes)
    ['h', 'y']
    """
    name = "coordinate_check"
    _check_widths(name, widths)
    check_whole(name, "steps", steps, least=1)
    check_whole(name, "seeds", seeds, least=1)
    for argument, value in (("tolerance", tolerance), ("change_tolerance", change_tolerance)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            say(HyperparameterError, name, f"{argument} must be > 0", describe(value), "0.1 is usual")
    if key is not None:
        check_prng_key(name, key)
    keys = jax.random.split(jax.random.key(0) if key is None else key, seeds)
    names: list[list[str]] = []
    found = []
    for width in widths:
        run = functools.partial(_run, name, make, int(width), steps, names)
        measured = jax.jit(jax.vmap(run, in_axes=(0, None)))(keys, batch)
        found.append([np.mean(np.asarray(x, np.float64), axis=0) for x in measured])  # over seeds
        if names[-1] != names[0]:
            say(TreeError, name, "make must give the same activations for every width", f"{names[-1]}",
                f"Expected {names[0]}, those of width {widths[0]}")  # fmt: skip
    losses, sizes, changes = (np.stack(rows) for rows in zip(*found, strict=True))  # [widths, steps + 1(, names)]
    size_slopes, change_slopes = (_slopes(widths, x) for x in (sizes, changes))

    def named(x: Any) -> dict[str, Any]:
        return {path: x[..., i] for i, path in enumerate(names[0])}

    check = CoordinateCheck(
        False, tuple(map(int, widths)), tolerance, change_tolerance, named(sizes), named(changes), named(size_slopes),
        named(change_slopes), losses,
    )  # fmt: skip
    return check._replace(passed=not check.faults())


def _check_widths(name: str, widths: Any) -> None:
    if not isinstance(widths, Sequence) or not all(
        isinstance(n, int | np.integer) and not isinstance(n, bool) for n in widths
    ):
        say(HyperparameterTypeError, name, "widths must be integers", describe(widths), "Give (64, 128, 256, 512)")
    if len(widths) < 2 or list(widths) != sorted(set(widths)) or widths[0] < 1:
        say(HyperparameterError, name, "widths must be two or more, from narrow to wide", f"{tuple(widths)}",
            "Give (64, 128, 256, 512)")  # fmt: skip


def _run(
    name: str,
    make: Callable[..., Any],
    width: int,
    steps: int,
    names: list[list[str]],
    key: jax.Array,
    batch: PyTree,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """loss[steps + 1], mean |x| and mean |x - x_0| [steps + 1, activations] of one model."""
    made = make(width, key)
    if not isinstance(made, tuple) or len(made) != 3 or not callable(made[2]):
        say(TransformationError, name, "make must return params, optimizer, loss_fn", describe(made),
            "Write `return params, adam(1e-3), loss_fn`")  # fmt: skip
    params, optimizer, loss_fn = made
    pair = errors.check_pair(name, "the optimizer of make", optimizer, lands=True)
    step = filter_kwargs(pair.update, 3)

    def evaluated(params: PyTree) -> tuple[Any, Any]:
        out = loss_fn(params, batch)
        if not isinstance(out, tuple) or len(out) != 2 or not jax.tree.leaves(out[1]):
            say(TransformationError, name, "loss_fn must return a loss and the activations", describe(out),
                'Write `return loss, {"hidden": h, "logits": y}`')  # fmt: skip
        return out[0], out[1]

    paths = jax.tree_util.tree_flatten_with_path(jax.eval_shape(evaluated, params)[1])[0]
    names.append([jax.tree_util.keystr(path, simple=True, separator="/") or "(root)" for path, _ in paths])
    first = _wide(evaluated(params)[1])

    def body(carry: Any, _: Any) -> Any:
        params, state = carry
        (loss, activations), grads = jax.value_and_grad(evaluated, has_aux=True)(params)
        now = _wide(activations)
        sizes = jnp.stack([jnp.mean(jnp.abs(x)) for x in now])
        changes = jnp.stack([jnp.mean(jnp.abs(x - x0)) for x, x0 in zip(now, first, strict=True)])
        updates, state = step(grads, state, params)
        return (apply_updates(params, updates), state), (loss, sizes, changes)

    return jax.lax.scan(body, (params, pair.init(params)), length=steps + 1)[1]  # type: ignore[no-any-return]


def _wide(activations: PyTree) -> list[jax.Array]:
    return [jnp.asarray(x).astype(compute_dtype(jnp.result_type(x))) for x in jax.tree.leaves(activations)]


def _signed(slope: float) -> str:
    return "-" if math.isnan(slope) else f"{slope:+.2f}"


def _slopes(widths: Sequence[int], x: np.ndarray[Any, Any]) -> Any:
    """d log x / d log width along the first axis; nan where x is zero or not finite at some width."""
    at = np.log(np.asarray(widths, np.float64))
    at -= at.mean()
    good = (x > 0) & np.isfinite(x)
    logs = np.where(good, np.log(np.where(good, x, 1.0)), np.nan)
    return np.einsum("w,w...->...", at, logs) / np.sum(at**2)
