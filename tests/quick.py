"""jax.jit for tests, by XLA's older way of making kernels on CPU: small programs compile two or three times faster.

`exact` has the newer way, for what the older rounds badly.
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
    """jax.jit by the newer way; not to be called within another jit."""
    return jax.jit(function, compiler_options=options(emitters=True), **how)
