"""A small language model of characters and the text that it learns: Python's own standard library.

Not a script: `benchmarks/char_lm.py`, `benchmarks/low_precision.py`, `sharded.py` and `two_processes.py` train it.
"""

import sysconfig
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_ko as jo

HEADS = 4
SYMBOLS = 97  # newline, the printable ASCII characters, and one for all others


def roles(params):
    """The hidden matrices; embeddings, head and norms are AdamW's."""

    def role(part, p):
        return "hidden" if part == "layers" and p.ndim == 3 else "rest"

    return {part: jax.tree.map(partial(role, part), value) for part, value in params.items()}


def text():
    """uint8[n]: a few megabytes of the standard library."""
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    raw = np.frombuffer(b"".join(path.read_bytes() for path in files), np.uint8)
    coded = np.full(256, SYMBOLS - 1, np.uint8)
    coded[10], coded[32:127] = 0, np.arange(1, 96)
    return coded[raw]


def start(key, width=128, layers=2, context=128):
    """The parameters: 0.44 M as they stand."""
    keys = jax.random.split(key, 8)

    def matrix(key, m, n, gain=1.0):
        return gain * m**-0.5 * jax.random.normal(key, (layers, m, n))

    return {
        "embed": 0.02 * jax.random.normal(keys[0], (SYMBOLS, width)),
        "place": 0.02 * jax.random.normal(keys[1], (context, width)),
        "layers": {
            "qkv": matrix(keys[2], width, 3 * width), "out": matrix(keys[3], width, width, (2 * layers) ** -0.5),
            "up": matrix(keys[4], width, 4 * width), "down": matrix(keys[5], 4 * width, width, (2 * layers) ** -0.5),
            "norm1": jnp.ones((layers, width)), "norm2": jnp.ones((layers, width)),
        },
        "norm": jnp.ones(width),
        "head": 0.02 * jax.random.normal(keys[6], (width, SYMBOLS)),
    }  # fmt: skip


def normed(x, scale):
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-6) * scale


def loss(params, tokens):
    """Mean cross entropy of each character after those before it; tokens int[batch, context + 1]."""
    x = params["embed"][tokens[:, :-1]] + params["place"]

    def layer(x, p):
        b, t, _ = x.shape
        q, k, v = jnp.split((normed(x, p["norm1"]) @ p["qkv"]).reshape(b, t, HEADS, -1), 3, axis=-1)
        x = x + jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(b, t, -1) @ p["out"]
        return x + jax.nn.gelu(normed(x, p["norm2"]) @ p["up"]) @ p["down"], None

    x, _ = jax.lax.scan(layer, x, params["layers"])
    logits = (normed(x, params["norm"]) @ params["head"]).astype(jnp.float32)  # of bfloat16 a loss has three digits
    return jnp.mean(jo.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:].astype(jnp.int32)))


def windows(data, at, context=128):
    """int[len(at), context + 1]: the characters from each place in `at` on."""
    return data[at[:, None] + np.arange(context + 1)[None]]
