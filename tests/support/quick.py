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


def slopes(function, at, h=1e-5):
    """The Jacobian of a function of one vector by forward mode, by reverse mode and by differences, in one program."""

    def all_three(at):
        n, eye = at.size, jnp.eye(at.size, dtype=at.dtype)
        lanes = jnp.concatenate([at[None], at[None] + h * eye, at[None] - h * eye])
        out, push = jax.linearize(jax.vmap(function), lanes)
        pull = jax.linear_transpose(push, lanes)
        forward = jax.vmap(lambda e: push(jnp.zeros_like(lanes).at[0].set(e))[0], out_axes=1)(eye)
        ones = jnp.eye(out.shape[1], dtype=out.dtype)
        reverse = jax.vmap(lambda e: pull(jnp.zeros_like(out).at[0].set(e))[0][0])(ones)
        return forward, reverse, (out[1 : n + 1] - out[n + 1 :]).T / (2 * h)

    return jit(all_three)(at)
