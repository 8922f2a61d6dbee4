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
    """The step -lr (g + noise of variance eta / t**gamma): finds its way out of poor basins of very deep networks.

    learning_rate: length of the steps: a number, an array (traced too) or a schedule of the step, >= 0.
    key: a JAX PRNG key or an integer seed, 0 with a warning if there is none; seed: its deprecated name. Not for a
    minimum to many digits.
    """
    step = scale_by_learning_rate(learning_rate)
    return chain(add_noise(eta, gamma, errors.key_or_zero("noisy_sgd", key, seed)), step)
