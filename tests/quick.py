"""jax.jit for tests, by XLA's older way of making kernels on CPU: small programs compile two or three times faster.

Not where bits are compared: between one program and another it rounds otherwise.
"""

import functools

import jax
import jax.numpy as jnp


@functools.cache
def options():
    """The compiler's options, None where XLA knows them no more."""
    made = {"xla_cpu_use_fusion_emitters": False}
    try:
        jax.jit(jnp.negative, compiler_options=made)(1.0)
    except jax.errors.JaxRuntimeError:
        return None
    return made


def jit(function):
    """Not to be called within another jit."""
    return jax.jit(function, compiler_options=options())
