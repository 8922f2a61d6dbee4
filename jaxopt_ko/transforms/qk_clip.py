"""QK-clip: attention's largest logits held down by its weights. Kimi Team 2025, arXiv:2507.20534, Algorithm 1.

Behind Muon it is MuonClip: chain(muon(lr, consistent_rms=0.2, weight_decay=0.1), qk_clip(heads)).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_ko import errors
from jaxopt_ko.compose.basic import init_empty_state
from jaxopt_ko.core import stacking, tree
from jaxopt_ko.core.hyperparameters import Scalars
from jaxopt_ko.core.transform import transform
from jaxopt_ko.errors import POSITIVE, UNIT, TreeError, say
from jaxopt_ko.types import EmptyState, GradientTransformation, Hyper, Params, PyTree, State, Updates

# part -> (a, b) of its power of gamma, a + b alpha
PARTS = {"query": (0.0, 1.0), "key": (1.0, -1.0), "query_alone": (1.0, 0.0), "rest": (0.0, 0.0)}


class QKHeads(NamedTuple):
    """Where the heads are in a leaf that makes queries or keys, a kernel or its bias."""

    part: str | tuple[tuple[str, int], ...]  # "query", "key", …, or (part, size) of each part of a head's features
    axis: int | tuple[int, ...]  # of the heads, which may hold their features, too; (layers, heads) of a stack
    features: int = -1  # the axis of a head's features, where that is another


def qk_clip(
    heads: PyTree | Callable[[Params], PyTree], tau: Hyper = 100.0, alpha: Hyper = 0.5
) -> GradientTransformation:
    """Queries and keys of every head whose largest logit is above tau, made smaller after the step; last in a chain.

    gamma = min(1, tau / S_max)                                     of each head
    p + u' = gamma**alpha (p + u)                                   "query"
    p + u' = gamma**(1 - alpha) (p + u)                             "key"
    p + u' = gamma (p + u)                                          "query_alone", of a key that heads share

    heads: a `QKHeads` for each leaf of queries and keys, biases too, None elsewhere: a tree, a prefix of one, or a
        function that makes it, `labels_by_path` say. Axis 1 for kernels [in, heads, size]; axis -1 for
        [in, heads * size], a head's features side by side.
    tau: the largest logit, as scaled for softmax, > 0; 100 in the paper.
    alpha: the queries' share of gamma, in [0, 1]; 1/2, so that queries and keys shrink alike.

    update(…, max_logits=…): S_max, float[heads] of every layer, as scaled for softmax, over the batch that made the
    gradient. A dict from names of layers, {"layers/0/attention": …}, or a nest of such; a leaf belongs to the
    layer whose path begins its own. One array: of all leaves; [layers, heads] with axis=(0, 2) in a stack;
    float[] with axis=(), for heads together.

    Latent attention: q^C and k^C are "query" and "key" with alpha = 1/2, q^R, whose key is shared, "query_alone", and
    k^R is left out. Where one kernel makes several of them, give its part as ((part, size), …):
    (("query", 128), ("query_alone", 64)), and (("key", 128), ("rest", 128)) for keys and values. Where groups of
    queries share a key (GQA), "query_alone" for queries and nothing for keys does not touch the other heads.

    No state; needs params. Raises HyperparameterError, when made, for numbers outside their domain;
    MissingArgumentError, when traced, without max_logits or params; TreeError for a leaf without a layer, or heads that
    do not fit. Source: Kimi Team 2025, arXiv:2507.20534, Algorithm 1; behind Muon it is MuonClip. Not needed where
    queries and keys are normalized (QK-norm).

    >>> heads = {r"query/kernel$": jo.QKHeads("query", 1), r"key/kernel$": jo.QKHeads("key", 1)}
    >>> tx = jo.chain(jo.muon(0.02), jo.qk_clip(jo.labels_by_path(heads)))
    >>> state = tx.init({"query": {"kernel": jnp.ones((4, 2, 2))}, "key": {"kernel": jnp.ones((4, 2, 2))}})
    """
    name = "qk_clip"

    def update(
        updates: Updates, state: EmptyState, params: Params = None, max_logits: PyTree = None, *, h: Scalars
    ) -> tuple[Updates, State]:
        if max_logits is None:
            errors.missing_argument(name, "max_logits", "Pass max_logits=…, the largest logit of every head, by layer")
        leaves, treedef = tree.flatten(updates)
        made = tree.resolve_prefix(params, heads, _ends)
        wanted = stacking.prefix_of(name, "heads", made, updates, is_leaf=_ends)
        layers = {_spelled(path): jnp.asarray(S) for path, S in jax.tree_util.tree_flatten_with_path(max_logits)[0]}
        paths = [_spelled(path) for path, _ in jax.tree_util.tree_flatten_with_path(updates)[0]]
        for i, (u, p, own) in enumerate(zip(leaves, jax.tree.leaves(params), wanted, strict=True)):
            if own is not None:
                layer = _check_layer(name, paths[i], layers)
                a, b = _powers(name, paths[i], own, np.shape(p), layers[layer].shape)
                leaves[i] = _clipped(u, p, layers[layer], h.tau, h.alpha, a=a, b=b, own=own)
        return treedef.unflatten(leaves), state

    hypers = {"tau": (tau, POSITIVE), "alpha": (alpha, UNIT)}
    return transform(name, init_empty_state, update, needs_params=True, state_type=EmptyState, hypers=hypers, real=True)


def _check_layer(name: str, path: str, layers: Iterable[str]) -> str:
    """The layer that a leaf belongs to: the longest name that begins its path."""
    names = sorted(layers, key=len)
    found = [argument for argument in names if not argument or path == argument or path.startswith(f"{argument}/")]
    if not found:
        say(TreeError, name, f"max_logits must have a layer whose name begins the path {path}",
            f"the layers {', '.join(map(repr, names[:5]))}",
            "Name layers as paths are spelled, 'layers/0/attention'")  # fmt: skip
    return found[-1]


def _ends(x: Any) -> bool:
    return x is None or isinstance(x, QKHeads)


def _spelled(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _powers(
    name: str, path: str, own: QKHeads, shape: tuple[int, ...], logits: tuple[int, ...]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """a and b of the power a + b alpha, for each feature of a head, or one for all."""
    parts = ((own.part, 1),) if isinstance(own.part, str) else tuple(own.part)
    for part, _ in parts:
        errors.check_choice(name, f"part of {path}", part, tuple(PARTS))
    axes = own.axis if isinstance(own.axis, tuple) else (own.axis,)
    fits = len(axes) == len(logits) and all(-len(shape) <= axis < len(shape) for axis in (*axes, own.features))
    if fits:
        sizes = [shape[axis] for axis in axes]
        inside = bool(axes) and sizes[-1] != logits[-1]
        fits = sizes[:-1] == list(logits[:-1]) and not (inside and sizes[-1] % max(logits[-1], 1))
        if fits and not isinstance(own.part, str):
            features = sizes[-1] // logits[-1] if inside else shape[own.features]
            apart = inside or own.features % len(shape) not in [axis % len(shape) for axis in axes]
            fits = apart and sum(size for _, size in parts) == features
    _check_heads(name, path, shape, own, logits, fits)
    a, b = (tuple(PARTS[part][k] for part, size in parts for _ in range(size)) for k in (0, 1))
    return a, b


def _check_heads(name: str, path: str, shape: tuple[int, ...], heads: Any, logits: tuple[int, ...], fits: bool) -> None:
    """A leaf whose axes hold the heads, and their parts, that the logits are of."""
    if not fits:
        say(TreeError, name, f"the leaf {path} must have the heads of max_logits, shape {logits}, on the axis "
            f"{heads.axis}, and each head the parts {heads.part!r}", f"shape {shape}",
            "Give the axis of the heads, or one that holds heads and their features side by side")  # fmt: skip


@functools.partial(jax.jit, static_argnames=("a", "b", "own"))
def _clipped(
    u: Array, p: Array, S: Array, tau: Array, alpha: Array, *, a: tuple[float, ...], b: tuple[float, ...], own: QKHeads
) -> Array:
    """u' of one leaf, computed in float32 at least; u itself where gamma is 1."""
    wide = tree.compute_dtype(u.dtype, p.dtype)
    S, tau, alpha = S.astype(wide), tau.astype(wide), alpha.astype(wide)
    within = tau >= S
    gamma = jnp.where(within, jnp.ones_like(S), tau / jnp.where(within, jnp.ones_like(S), S))[..., None]
    exponent = jnp.asarray(a, wide) + jnp.asarray(b, wide) * alpha
    power = gamma ** exponent.reshape(*([1] * S.ndim), -1)  # [*S, features or 1]
    axes = [axis % p.ndim for axis in (own.axis if isinstance(own.axis, tuple) else (own.axis,))]
    if axes and p.shape[axes[-1]] != S.shape[-1]:  # features side by side with the heads
        each = p.shape[axes[-1]] // S.shape[-1]
        power = jnp.broadcast_to(power, (*S.shape, each)).reshape(*S.shape[:-1], -1)
    elif power.shape[-1] > 1:
        axes.append(own.features % p.ndim)
    else:
        power = power[..., 0]
    power = power.transpose(tuple(np.argsort(axes).tolist()))
    power = power.reshape([size if axis in axes else 1 for axis, size in enumerate(p.shape)])
    v = u.astype(wide)
    return (v + (power - 1) * (p.astype(wide) + v)).astype(u.dtype)
