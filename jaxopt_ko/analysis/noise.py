"""How noisy a batch's gradient is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.analysis.vectors import ScalarFn, arrays, wide
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_args
from jaxopt_ko.drivers.compiled import drop_weak_types, jitted
from jaxopt_ko.errors import HyperparameterError, TreeError, describe, say
from jaxopt_ko.types import Params, PyTree


class NoiseScale(NamedTuple):
    """The gradient noise of a batch; average the last two over steps before their ratio is taken."""

    scale: Array  # float[]         B_simple = S / |G|**2: batches much larger than this gain little
    noise: Array  # float[]         S, trace of the covariance of one example's gradient
    squared_norm: Array  # float[]  |G|**2 of the true gradient: unbiased, so that it may be negative


def gradient_noise_scale(fun: ScalarFn, params: Params, *, args: tuple[Any, ...], small: int = 1) -> NoiseScale:
    """The simple noise scale: the size of batch where the gradient's noise is as large as the gradient.

    |G|**2 = (B |g_B|**2 - b |g_b|**2) / (B - b)    S = (|g_b|**2 - |g_B|**2) / (1/b - 1/B)    B_simple = S / |G|**2

    fun: (params, *args) -> float[batch], a loss for each example.
    params: the parameters, a tree of floating arrays.
    args: trees of arrays with the batch, B examples, first.
    small: b, the examples of a group, an int >= 1 of which B is a multiple, two at least. g_b is the gradient of a
        group, and |g_b|**2 the mean over all B / b groups, one after the other; with 1 the estimate is least noisy.

    Returns a `NoiseScale` of three numbers; the cost is that of one gradient of the batch, in batches of b. S and
    |G|**2 are unbiased, their ratio is not: where B is below the scale, average both over some steps.

    Raises HyperparameterError if B is not a multiple of b, two at least; TreeError for args without a batch, or, when
    traced, for losses that are not one per example. Source: McCandlish et al. 2018, arXiv:1812.06162, equation 2.9 and
    appendix A.1. Not for losses that mix examples (batch norm).

    >>> x = jnp.array([0.0, 1.0, 2.0, 3.0])
    >>> noise = jo.diagnose.gradient_noise_scale(lambda w, x: (w - x) ** 2, 0.0, args=(x,))
    >>> round(float(noise.noise), 4)
    6.6667
    """
    name = "gradient_noise_scale"
    errors.check_function(name, "fun", fun)
    check_args(name, args)
    errors.check_size(name, "small", small)
    _check_batch(name, args, small)
    found: NoiseScale = _noise((fun, small), drop_weak_types(params), args)
    return found


@jitted
def _noise(run: tuple[ScalarFn, int], params: Params, args: tuple[Any, ...]) -> NoiseScale:
    fun, small = run
    params = arrays(params)
    batch = jax.tree.leaves(args)[0].shape[0]
    groups = jax.tree.map(lambda x: x.reshape(batch // small, small, *x.shape[1:]), args)

    def loss(p: Params, group: tuple[Any, ...]) -> Array:
        losses = fun(p, *group)
        _check_losses("gradient_noise_scale", losses, small)
        return jnp.mean(losses)

    def add(carry: tuple[PyTree, Array], group: tuple[Any, ...]) -> tuple[tuple[PyTree, Array], None]:
        total, squares = carry
        g = wide(jax.grad(loss)(params, group))
        return (tree.add(total, g), squares + tree.vdot(g, g)), None

    zero = jax.tree.map(tree.wide_like, params)
    (total, squares), _ = jax.lax.scan(add, (zero, tree.vdot(zero, zero)), groups)
    many = batch // small
    big, little = tree.vdot(total, total) / many**2, squares / many
    squared_norm = (batch * big - small * little) / (batch - small)
    noise = (little - big) / (1 / small - 1 / batch)
    return NoiseScale(noise / squared_norm, noise, squared_norm)


def _check_batch(name: str, args: PyTree, small: int) -> None:
    """Arrays with the examples first, which divide into groups of `small`, two at least."""
    leaves = jax.tree.leaves(args)
    sizes = sorted({np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in leaves})
    if len(sizes) != 1 or sizes[0] == 0:
        say(TreeError, name, "args must be arrays with the batch as first axis, of one size", f"sizes {sizes}",
            "Close over what is no batch: lambda params, x, y: fun(params, x, y, rate)")  # fmt: skip
    if sizes[0] % small or sizes[0] < 2 * small:
        say(HyperparameterError, name, "the batch must be a multiple of small, twice at least",
            f"a batch of {sizes[0]}, small={small}", "Leave some examples out")  # fmt: skip


def _check_losses(name: str, losses: Any, examples: int) -> None:
    """One loss for each example."""
    if np.shape(losses) != (examples,):
        say(TreeError, name, f"fun must return one loss for each of the {examples} examples it is given",
            describe(losses), "Leave out the mean over the batch; for a function of one example, jax.vmap")  # fmt: skip
