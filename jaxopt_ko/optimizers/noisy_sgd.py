"""Gradient descent with annealed gradient noise. Neelakantan et al. 2015, arXiv:1511.06807, section 3."""

from __future__ import annotations

from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.chain import chain
from jaxopt_ko.core.method import recipe
from jaxopt_ko.transforms.noise import add_noise
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper


@recipe
def noisy_sgd(
    learning_rate: Hyper,
    eta: Hyper = 0.01,
    gamma: Hyper = 0.55,
    key: Array | int | None = None,
    *,
    seed: int | None = None,
) -> GradientTransformation:
    """Gradient descent with noise that fades: it finds its way out of poor basins of very deep networks.

    p <- p - lr (g + z),   z normal, of mean 0 and variance eta / t**gamma

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    eta: variance of the noise at the first step, >= 0; the paper tries 0.01, 0.3 and 1.
    gamma: how fast it falls, a finite number; the paper's 0.55.
    key: a JAX PRNG key or an integer seed; None: 0, with a warning.
    seed: the deprecated name of key.

    State: a count and a key, whatever the parameters.
    Raises HyperparameterError, when made, for a number outside its domain; also where key and seed are both given.
    Source: Neelakantan et al. 2015, arXiv:1511.06807, section 3.
    Not for a minimum to many digits.

    >>> opt = jo.noisy_sgd(0.1, eta=0.01, key=jax.random.key(0))
    >>> state = opt.init({"w": jnp.ones((2, 3))})
    """
    step = scale_by_learning_rate(learning_rate)
    return chain(add_noise(eta, gamma, errors.key_or_zero("noisy_sgd", key, seed)), step)
