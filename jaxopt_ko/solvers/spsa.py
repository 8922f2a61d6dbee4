"""Simultaneous perturbation: a slope from two values, for functions without derivatives and for noise.

Spall 1992, doi:10.1109/9.119632, with the gains of Spall 1998, doi:10.1109/7.705889; with normal perturbations that are
made anew instead of stored Malladi et al. 2023, "Fine-Tuning Language Models with Just Forward Passes" (MeZO),
arXiv:2305.17333, Algorithm 1.

g = (f(x + c z) - f(x - c z)) / (2 c)      x <- x - a g z
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_objective
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.method import cached_factory, filter_kwargs
from jaxopt_ko.core.numerics import next_count, zero_count
from jaxopt_ko.core.rounding import step_key
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import NONNEGATIVE, POSITIVE, Domain, HyperparameterError, say
from jaxopt_ko.solvers.engine.convergence import counted, first_info, is_running, own_buffers, status
from jaxopt_ko.solvers.problem.objective import check_aux, objective
from jaxopt_ko.types import Code, GradientTransformation, Hyper, Info, Params, PyTree, Updates


class SpsaState(NamedTuple):
    """State of `spsa` and of `mezo`: nothing a parameter."""

    count: Array  # int32[]  updates made
    rng_key: Array  # a PRNG key, always the same: that of a step is made of it and of the count
    aux: PyTree  # what value_fn returned beside its value, at the last x + c z
    info: Info  # of the last update; its value is the mean of f(x + c z) and f(x - c z)


@cached_factory
def spsa(
    learning_rate: Hyper,
    perturbation: Hyper = 0.1,
    *,
    stability: Hyper = 100.0,
    alpha: Hyper = 0.602,
    gamma: Hyper = 0.101,
    key: Array | int = 0,
) -> GradientTransformation:
    """Simultaneous perturbation stochastic approximation: a noisy function without derivatives, of many parameters.

    a_k = a / (A + k + 1)**alpha,   c_k = c / (k + 1)**gamma,   x <- x - a_k (f(x + c_k z) - f(x - c_k z)) / (2 c_k) z

    learning_rate: a, a number, an array or a schedule, >= 0: such that a / (A + 1)**alpha times the slopes is the first
        step that is wanted.
    perturbation: c > 0, about the standard deviation of the noise in f, or a short way in x where there is none.
    stability: A >= 0, about a tenth of the steps that will be made: a may then be larger without a wild start.
    alpha, gamma: how fast a_k and c_k fall, >= 0. Spall's 0.602 and 0.101 are the least for which the theory holds;
        1 and 1/6 are the best for very many steps, 0 and 0 keep them as they are.
    key: a PRNG key, or an integer seed; signs z of +-1 are made of it at each step.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False): an update is
    one estimate, two evaluations of value_fn, at x + c z and x - c z, one after the other; neither is a trial that
    could be taken or not. The updates that come in are not read, and no gradient is taken. A step whose values are not
    finite is zero. It never converges: `minimize` runs max_steps of it and returns the last point; `value` is then the
    mean of the last two values, which is f of the point before, but for a share of c**2.

    State: 0 numbers a parameter. Raises HyperparameterError, when made, for numbers outside their domain, or, when
    traced, for a tol; MissingArgumentError, when traced, without params or value_fn. Source: Spall 1992,
    doi:10.1109/9.119632. Not where there is a gradient, nor, without noise, for few parameters: `nelder_mead`.

    >>> found = jo.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(20), jo.spsa(0.5, stability=10.0), max_steps=500)
    >>> bool(found.value < 0.1)
    True
    """

    def gains(h: Scalars) -> tuple[Array, Array]:
        words = (h.learning_rate, h.perturbation, h.stability, h.alpha, h.gamma, h.t)
        a, c, stability, alpha, gamma, t = (word.astype(jnp.float32) for word in words)
        return a / (stability + t) ** alpha, c / t**gamma

    hypers = {
        "learning_rate": (learning_rate, NONNEGATIVE), "perturbation": (perturbation, POSITIVE),
        "stability": (stability, NONNEGATIVE), "alpha": (alpha, NONNEGATIVE), "gamma": (gamma, NONNEGATIVE),
    }  # fmt: skip
    return _two_point("spsa", hypers, gains, _signs, key)


@cached_factory
def mezo(learning_rate: Hyper, perturbation: Hyper = 1e-3, *, key: Array | int = 0) -> GradientTransformation:
    """Two forward passes a step, in the memory of one: training where gradients do not fit, or do not exist.

    x <- x - lr (f(x + c z) - f(x - c z)) / (2 c) z,   z normal

    learning_rate: lr, a number, an array or a schedule, >= 0; 1e-7 to 1e-6 for language models (the paper's table 15).
    perturbation: c > 0, the paper's epsilon; 1e-3 is its default.
    key: a PRNG key, or an integer seed; z is made of it, of the step and of the leaf, each time that it is needed.

    init(params, value_fn=, has_aux=False) and update(updates, state, params, value_fn=, has_aux=False, batch=…): an
    update is one estimate, two evaluations of value_fn, one after the other; see `spsa`. The updates that come in are
    not read: pass params. In a jitted step with donated parameters nothing is stored but the key, and one copy of the
    parameters, x + c z. z is made where it is added, each element of its place alone (Threefry 2x32, Salmon et al.
    2011, doi:10.1145/2063384.2063405), the same on any devices.

    State: 0 numbers a parameter. Raises HyperparameterError, when made, for numbers outside their domain, or, when
    traced, for a tol; MissingArgumentError, when traced, without params or value_fn. Source: Malladi et al. 2023,
    arXiv:2305.17333, Algorithm 1. Not to train from scratch: as many parameters as move, so much slower is it than SGD;
    fine-tuning from a prompt moves few.

    >>> opt = jo.mezo(1e-2)
    >>> params, loss = {"w": jnp.ones(3)}, lambda p, batch: jnp.mean((p["w"] - batch) ** 2)
    >>> state = opt.init(params, value_fn=loss, batch=jnp.zeros(3))
    >>> step = jax.jit(lambda p, s, batch: opt.update(p, s, p, value_fn=loss, batch=batch), donate_argnums=1)
    >>> updates, state = step(params, state, jnp.zeros(3))
    >>> params = jo.apply_updates(params, updates)
    """

    def gains(h: Scalars) -> tuple[Array, Array]:
        return h.learning_rate, h.perturbation

    hypers = {"learning_rate": (learning_rate, NONNEGATIVE), "perturbation": (perturbation, POSITIVE)}
    return _two_point("mezo", hypers, gains, _normal, key)


def _two_point(
    name: str,
    hypers: dict[str, tuple[Hyper, Domain]],
    gains: Callable[[Scalars], tuple[Array, Array]],
    noise: Noise,
    key: Any,
) -> GradientTransformation:
    """The step of `spsa` and `mezo`; gains: a and c at this step; noise: 32 bits each -> z."""
    key = errors.check_key(name, key)

    def init(
        params: Params, *, value_fn: Callable[..., Any] | None = None, has_aux: bool = False, tol: Any = None,
        **extra_args: Any,
    ) -> SpsaState:  # fmt: skip
        _no_tolerance(name, tol)
        problem = objective(name, params, value_fn, has_aux, extra_args)
        f, aux = problem.full(problem.x)
        over = status((~jnp.isfinite(f), Code.NOT_FINITE))
        info = first_info(f, jnp.full_like(f, np.finfo(f.dtype).max), over, function=1)
        return own_buffers(SpsaState(zero_count(), key, aux, info))

    def update(
        updates: Updates,
        state: SpsaState,
        params: Params,
        *,
        h: Scalars,
        value_fn: Callable[..., Any] | None = None,
        has_aux: bool = False,
        tol: Any = None,
        **extra_args: Any,
    ) -> tuple[Updates, SpsaState]:
        _no_tolerance(name, tol)
        objective(name, params, value_fn, has_aux, extra_args)  # refuses what is none
        function = filter_kwargs(value_fn, 1)  # type: ignore[arg-type]
        dtype = state.info.value.dtype
        words = jax.random.bits(step_key(state.rng_key, state.count), (2,), jnp.uint32)
        over = ~is_running(state.info)
        a, c = (gain.astype(jnp.float32) for gain in gains(h))
        arrays = jax.tree.map(jnp.asarray, params)

        def value(sign: Array) -> tuple[Array, PyTree]:
            result = function(_moved(noise, words, arrays, sign, c), **extra_args)
            f, aux = check_aux(name, result) if has_aux else (result, None)
            return jnp.asarray(check_objective(name, f)).astype(dtype), aux

        # One after the other: the second copy takes the place of the first
        (ahead, behind), both = jax.lax.map(value, jnp.asarray([1, -1], jnp.float32))
        aux = jax.tree.map(lambda x: x[0], both)
        slope = (ahead - behind) / (2 * c).astype(dtype)
        taken = jnp.isfinite(slope) & ~over
        rate = jnp.where(taken, -a.astype(dtype) * slope, 0)
        mean = (ahead + behind) / 2
        f = jnp.where(taken, mean, state.info.value)
        info = Info(
            value=f,
            optimality=jnp.where(taken, jnp.abs(slope), state.info.optimality),
            step_norm=jnp.abs(rate) * math.sqrt(sum(leaf.size for leaf in jax.tree.leaves(arrays))),
            accepted=taken,
            evaluations=counted(state.info.evaluations, 2, 0),
            status=status((over, state.info.status.code), (jnp.isneginf(mean), Code.UNBOUNDED)),
        )
        aux = tree.where(taken, aux, state.aux)
        return _step(noise, words, arrays, rate), SpsaState(next_count(state.count), state.rng_key, aux, info)

    return transform(
        name, init, update, needs_params=True, state_type=SpsaState, hypers=hypers, solver=True, real=True
    )  # fmt: skip


Noise = Callable[[Array], Array]  # 32 bits each -> z


def _along(noise: Noise, words: Array, length: Array, shape: tuple[int, ...], number: int) -> Array:
    """length z for one leaf."""
    return length * noise(_bits(words, np.uint32(number), shape)).astype(length.dtype)


def _moved(noise: Noise, words: Array, params: Params, sign: Array, c: Array) -> Params:
    """x + c z or x - c z, leaf by leaf."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    apart: Any = jax.lax.optimization_barrier  # no types before jax 0.8
    far = []
    for number, leaf in enumerate(leaves):
        # What does not depend on the sign would be computed before the loop, for all leaves, and kept
        own, sign_, words_ = apart((leaf, sign, words))
        wide = own.astype(tree.compute_dtype(leaf.dtype))
        step = _along(noise, words_, (sign_ * c).astype(wide.dtype), leaf.shape, number)
        far.append((wide + step).astype(leaf.dtype))
    return treedef.unflatten(far)


def _step(noise: Noise, words: Array, params: Params, rate: Array) -> Updates:
    """rate z, leaf by leaf."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    rates = [rate.astype(tree.compute_dtype(leaf.dtype)) for leaf in leaves]
    steps = [
        _along(noise, words, rate, x.shape, number) for number, (rate, x) in enumerate(zip(rates, leaves, strict=True))
    ]
    return treedef.unflatten([step.astype(x.dtype) for step, x in zip(steps, leaves, strict=True)])


def _no_tolerance(name: str, tol: Any) -> None:
    """There is none that noise could meet."""
    if tol is not None:
        _refused(name)


def _refused(name: str) -> NoReturn:
    say(HyperparameterError, name, "it has no test of convergence", "a tol", "Leave tol out, and give max_steps")


# ---- random numbers that are never an array ---------------------------------------------------------------


def _signs(a: Array) -> Array:
    """+-1, from 32 bits each."""
    return 1 - 2 * jax.lax.shift_right_logical(a, np.uint32(31)).astype(jnp.int32)


def _normal(a: Array) -> Array:
    """Normal numbers up to 5.4 in size, from 24 bits each by the inverse of their distribution."""
    u = jax.lax.shift_right_logical(a, np.uint32(8)).astype(jnp.float32) * np.float32(2.0**-23)
    return np.float32(math.sqrt(2)) * jax.lax.erf_inv(u - np.float32(1 - 2.0**-24))


def _bits(key: Array, leaf: np.uint32, shape: tuple[int, ...]) -> Array:
    """32 random bits for each element, of its place in the leaf alone: Threefry 2x32 in 20 rounds, in operations
    on elements, so that no array of bits is made where they are used."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    a, b, stride = jnp.broadcast_to(keys[0], shape), jnp.broadcast_to(keys[1] + leaf, shape), 1
    for axis in reversed(range(len(shape))):  # the place as a sum over axes: as one array it would be kept
        along = jnp.arange(shape[axis], dtype=jnp.uint32) * np.uint32(stride % 2**32)
        a, stride = a + jax.lax.broadcast_in_dim(along, shape, (axis,)), stride * shape[axis]
    for block in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[block % 2]:
            a = a + b
            b = a ^ (jax.lax.shift_left(b, np.uint32(turn)) | jax.lax.shift_right_logical(b, np.uint32(32 - turn)))
        a = a + keys[(block + 1) % 3]
        b = b + keys[(block + 2) % 3] + np.uint32(block + 1)
    return a
