"""Slow copies of parameters, kept beside the training, and means of several trees after it.

Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4); Mnih et al. 2015 for the periodic copy; Karras et al. 2024,
arXiv:2312.02696, appendix C, for a mean of means; Wortsman et al. 2022, arXiv:2203.05482, for soups.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_period, check_same_trees
from jaxopt_ko.types import Params


def incremental_update(new_tensors: Params, old_tensors: Params, step_size: float | Array) -> Params:
    """A slow copy of parameters moved a part of the way to the new ones.

    old <- step_size new + (1 - step_size) old, leaf by leaf

    new_tensors: the parameters, a tree of arrays; where one is None, so is the result.
    old_tensors: the copy, a tree like them.
    step_size: the part, a finite number, traced too; 0.001 to 0.01 is usual for a target network.

    Returns a tree like old_tensors, computed in float32 at least and kept in its dtypes. Counters, truth values and
    PRNG keys have no average: the new ones are taken.

    Raises HyperparameterError for a step_size that is not finite, HyperparameterTypeError for a schedule; TreeError if
    the trees differ. Source: Polyak & Juditsky 1992, SIAM J. Control Optim. 30(4). Not for copies in bfloat16, which
    cannot hold a change of less than a 256th: keep the average in float32. Within an optimizer: `average_params`.

    >>> jo.incremental_update(jnp.array([2.0]), jnp.array([1.0]), 0.5).tolist()
    [1.5]
    """
    errors.check_number("incremental_update", "step_size", step_size, errors.FINITE)
    if tree.structure(new_tensors) != tree.structure(old_tensors):
        both = (tree.flatten(tensors, none_is_leaf=True) for tensors in (new_tensors, old_tensors))
        (new, treedef), (old, old_treedef) = both
        if treedef == old_treedef:
            old_tensors = treedef.unflatten([None if n is None else o for n, o in zip(new, old, strict=True)])
    check_same_trees("incremental_update", "new tensors", new_tensors, "old tensors", old_tensors)

    def mixed(new: Any, old: Any) -> Array:
        if not tree.is_floating(old):
            return _like(new, old)
        wide = tree.compute_dtype(tree.dtype_of(new), tree.dtype_of(old))
        rate, new_, old_ = (jnp.asarray(x).astype(wide) for x in (step_size, new, old))
        return (rate * new_ + (1 - rate) * old_).astype(tree.dtype_of(old))

    return jax.tree.map(mixed, new_tensors, old_tensors)


def periodic_update(new_tensors: Params, old_tensors: Params, steps: int | Array, update_period: int | Array) -> Params:
    """A slow copy of parameters, replaced by the new ones once every so many steps.

    old <- new where steps is a multiple of update_period, else old

    new_tensors: the parameters, a tree of arrays.
    old_tensors: the copy, a tree like them.
    steps: the steps so far, an integer or an int32[], traced too.
    update_period: an integer >= 1, or an int32[], traced too.

    Returns a tree like old_tensors, in its dtypes. Counters, truth values and PRNG keys are copied as the others are.

    Raises HyperparameterTypeError for a period that is no integer, HyperparameterError for one < 1; TreeError if the
    trees differ. Source: Mnih et al. 2015, doi:10.1038/nature14236. Not where a target may not jump:
    `incremental_update`.

    >>> jo.periodic_update(jnp.array([2.0]), jnp.array([1.0]), steps=3, update_period=2).tolist()
    [1.0]
    """
    check_same_trees("periodic_update", "new tensors", new_tensors, "old tensors", old_tensors)
    period = check_period("periodic_update", "update_period", update_period)
    new = jax.tree.map(_like, new_tensors, old_tensors)
    old = jax.tree.map(jnp.asarray, old_tensors)
    return jax.lax.cond(jnp.asarray(steps) % period == 0, lambda: new, lambda: old)


def _like(new: Any, old: Any) -> Array:
    """A tensor in the dtype of the old one; a key stays the kind of key that it is."""
    dtype = tree.dtype_of(old)
    return jnp.asarray(new) if tree.dtype_of(new) == dtype else jnp.asarray(new).astype(dtype)


_WIDTH = errors.Domain(0.0, 12**-0.5, "in (0, 0.2887), the width of a plain mean", low_open=True)


class AverageSnapshot(NamedTuple):
    """A mean that `average_params(power=…)` kept, as it was after a step."""

    step: int  # t, the steps that it is a mean of: the state's count
    power: float  # gamma, of `average_params`
    params: Params  # the mean: the state's, or what `averaged_params` gives


def average_power(sigma_rel: float) -> float:
    """The power of `average_params` whose mean is so wide.

    sigma_rel**2 = (power + 1) / ((power + 2)**2 (power + 3))

    sigma_rel: standard deviation of the weights over the steps, as a part of all steps so far, in (0, 12**-0.5).

    Returns a float > 0. Raises HyperparameterError for a width outside its domain. Source: Karras et al. 2024,
    arXiv:2312.02696, Algorithm 2. Not for means that forget: of `average_params(decay)` the width in steps is
    1 / (1 - decay).

    >>> round(jo.average_power(0.10), 2), round(jo.average_power(0.05), 2)
    (6.94, 16.97)
    """
    width = errors.check_number("average_power", "sigma_rel", sigma_rel, _WIDTH)
    t = float(width) ** -2
    return float(np.roots([1.0, 7.0, 16.0 - t, 12.0 - t]).real.max())


def posthoc_average(
    snapshots: Sequence[AverageSnapshot | tuple[int, float, Params]],
    sigma_rel: float | None = None,
    *,
    power: float | None = None,
    step: int | None = None,
) -> Params:
    """The mean of any width over a run, after it, of means of two powers that were kept now and then.

    sum_i x_i params_i,   x = argmin integral (sum_i x_i q(n; t_i, power_i) - q(n; step, power))**2 dn
    q(n; t, power) = (power + 1) n**power / t**(power + 1)  for n <= t, 0 after

    snapshots: at least one `AverageSnapshot`, or (step, power, params): of two powers, 16.97 and 6.94, at ten steps of
        the run, say; the last at `step` or after.
    sigma_rel: the width that is asked for, as of `average_power`, in (0, 0.2887); or
    power: in its place, a finite number > 0.
    step: the steps that the mean is over, an integer >= 1; None: those of the last snapshot.

    Returns a tree like the snapshots', in the dtypes of the first; computed in float32 at least. Widths between those
    of the two powers are within a thousandth of the true mean; of narrower ones nothing is kept between two snapshots.

    Raises HyperparameterError for numbers outside their domains and a step after the last snapshot;
    MissingArgumentError for no width, or both; TreeError if the trees differ. Source: Karras et al. 2024,
    arXiv:2312.02696, appendix C, Algorithm 3. Not for means that forget, `average_params(decay)`: their weights are
    others.

    >>> mean_of_n = lambda t, power: jnp.array([t * (power + 1) / (power + 2)])
    >>> kept = [(t, power, mean_of_n(t, power)) for t in range(10, 101, 10) for power in (16.97, 6.94)]
    >>> round(float(jo.posthoc_average(kept, power=10.0)[0]), 1), round(float(mean_of_n(100, 10.0)[0]), 1)
    (91.7, 91.7)
    """
    name = "posthoc_average"
    if (sigma_rel is None) == (power is None):
        errors.say(errors.MissingArgumentError, name, "either sigma_rel or power must be given",
                   f"sigma_rel={sigma_rel}, power={power}", "It is how wide the mean is to be")  # fmt: skip
    if sigma_rel is not None:
        wanted = average_power(sigma_rel)
    else:
        wanted = float(errors.check_number(name, "power", power, errors.POSITIVE))
    kept = _snapshots(name, snapshots)
    steps = np.asarray([one.step for one in kept], np.float64)
    powers = [float(errors.check_number(name, "a snapshot's power", one.power, errors.POSITIVE)) for one in kept]
    last = int(steps.max()) if step is None else errors.check_size(name, "step", step)
    if last > steps.max():
        errors.say(errors.HyperparameterError, name, "step must not be after the last snapshot's",
                   f"step={last}, snapshots up to {int(steps.max())}", "Keep one at the end of the run")  # fmt: skip
    return _weighted(name, [one.params for one in kept], _fit(steps, np.asarray(powers), float(last), wanted))


def _snapshots(name: str, given: Any) -> list[AverageSnapshot]:
    """As they were given, or as plain tuples; the steps are Python integers."""
    several = isinstance(given, Sequence) and not isinstance(given, AverageSnapshot)
    if not several or not all(isinstance(one, tuple | list) and len(one) == 3 for one in given):
        errors.say(errors.HyperparameterTypeError, name, "snapshots must be a list of (step, power, params)",
                   errors.describe(given), "Give a list, of one if there is one")  # fmt: skip
    if not given:
        errors.say(errors.HyperparameterError, name, "snapshots must have one at least", "none",
                   "Keep (step, power, params) now and then")  # fmt: skip
    kept = [AverageSnapshot(*one) for one in given]
    return [one._replace(step=errors.check_size(name, "a snapshot's step", _whole(one.step))) for one in kept]


def _whole(step: Any) -> Any:
    """A state's count as a Python integer; what is none, as it is."""
    try:
        return operator.index(step)
    except TypeError:
        return step


def _fit(steps: np.ndarray, powers: np.ndarray, step: float, power: float) -> np.ndarray:
    """The weights x of the means."""
    own = _inner(steps[:, None], powers[:, None], steps[None, :], powers[None, :])
    asked = _inner(steps, powers, np.asarray(step), np.asarray(power))
    found: np.ndarray = np.linalg.lstsq(own, asked, rcond=1e-14)[0]
    return found


def _inner(t: np.ndarray, a: np.ndarray, s: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The integral of q(n; t, a) q(n; s, b)."""
    exponent = np.where(t < s, b, -a)
    product: np.ndarray = (a + 1) * (b + 1) * (t / s) ** exponent / ((a + b + 1) * np.maximum(t, s))
    return product


def soup(trees: Sequence[Params], weights: Sequence[float | Array] | None = None) -> Params:
    """The mean of several trees of parameters: runs from one start, with other settings or seeds.

    sum_i weights_i tree_i / sum_i weights_i

    trees: at least one, all alike.
    weights: a finite number >= 0 for each, traced too, not all 0; None: one each.

    Returns a tree like the first, in its dtypes; computed in float32 at least. Counters, truth values and PRNG keys
    have no mean: those of the first are taken.

    Raises HyperparameterError for numbers outside their domain, or another number of them; TreeError if the trees
    differ. Source: Wortsman et al. 2022, arXiv:2203.05482. Not for runs from different starts: between their minima the
    loss is high.

    >>> jo.soup([{"w": jnp.zeros(2)}, {"w": jnp.ones(2)}], weights=[1.0, 3.0])["w"].tolist()
    [0.75, 0.75]
    """
    for argument, several in (("trees", trees), ("weights", () if weights is None else weights)):
        if isinstance(several, Mapping | str) or not np.iterable(several) or not hasattr(several, "__len__"):
            errors.say(errors.HyperparameterTypeError, "soup", f"{argument} must be a list", errors.describe(several),
                       "Give [tree, tree, …], and a weight for each")  # fmt: skip
    given = [1.0] * len(trees) if weights is None else list(weights)
    if not trees or len(given) != len(trees):
        errors.say(errors.HyperparameterError, "soup", "trees must be one at least, and weights as many",
                   f"{len(trees)} trees, {len(given)} weights", "Give one weight a tree, or none")  # fmt: skip
    checked = [errors.check_number("soup", f"weights[{i}]", w, errors.NONNEGATIVE) for i, w in enumerate(given)]
    total = sum(checked)
    if isinstance(total, int | float) and total == 0:
        errors.say(errors.HyperparameterError, "soup", "weights must not all be 0", str(given), "Give one above 0")
    return _weighted("soup", trees, [w / total for w in checked])


def _weighted(name: str, trees: Sequence[Params], weights: Any) -> Params:
    """The sum of trees times weights."""
    for i, other in enumerate(trees[1:], 1):
        check_same_trees(name, "first tree", trees[0], f"tree {i}", other)

    def mixed(first: Any, *others: Any) -> Array:
        if not tree.is_floating(first):
            return jnp.asarray(first)
        wide = tree.compute_dtype(tree.dtype_of(first))
        pairs = zip(weights, (first, *others), strict=True)
        parts = [jnp.asarray(w).astype(wide) * jnp.asarray(x).astype(wide) for w, x in pairs]
        return _like(sum(parts[1:], parts[0]), first)

    return jax.tree.map(mixed, *trees)
