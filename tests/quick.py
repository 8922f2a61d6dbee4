"""jax.jit for tests, by XLA's older way of making kernels on CPU: small programs compile two or three times faster.

Where the bits of two programs are compared `exact` has the newer way: the older rounds otherwise in one and another.
"""

import functools

import jax
import jax.numpy as jnp


@functools.cache
def options(emitters=False):
    """The compiler's options, None where XLA knows them no more."""
    made = {"xla_cpu_use_fusion_emitters": emitters}
    try:
        jax.jit(jnp.negative, compiler_options=made)(1.0)
    except jax.errors.JaxRuntimeError:
        return None
    return made


def jit(function, **how):
    """Not to be called within another jit."""
    return jax.jit(function, compiler_options=options(), **how)


def exact(function, **how):
    """jax.jit with the kernels that round alike in all programs; not to be called within another jit."""
    return jax.jit(function, compiler_options=options(emitters=True), **how)
