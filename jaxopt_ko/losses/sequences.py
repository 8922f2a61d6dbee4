"""Labels without their times: connectionist temporal classification. Graves et al. 2006, ICML, section 4.1."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxopt_ko.core.tree import compute_dtype
from jaxopt_ko.errors import HyperparameterError, TreeError, check_size, describe, say
from jaxopt_ko.losses.arrays import real_array


def ctc_loss(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: float = -1e5,
) -> jax.Array:
    """-log of the probability of all paths through time that spell the labels, with blanks between them.

    logits: float[B, T, K], scores of K classes at each of T times; softmax is taken here.
    logit_paddings: [B, T], 0 where there is a time and 1 where there is none, at the end.
    labels: int[B, N], the classes in their order, without blanks; what is padded may be anything.
    label_paddings: [B, N], 0 where there is a label and 1 where there is none, at the end.
    blank_id: which of the K classes is the blank, an integer.
    log_epsilon: stands for the logarithm of 0; labels that do not fit into the time cost minus this.

    Returns float[B], in float32 at least, NaN for a label that is no class or is the blank: the first result of
    `ctc_loss_with_forward_probs`, which has the equations.
    Raises TreeError for logits that are not floating, labels that are no integers, shapes that do not fit;
    HyperparameterError for a blank_id that is no class.
    Source: Graves et al. 2006, ICML, section 4.1.

    >>> logits, labels = jnp.zeros((1, 3, 2)), jnp.array([[1]])
    >>> loss = jo.losses.ctc_loss(logits, jnp.zeros((1, 3)), labels, jnp.zeros((1, 1)))
    >>> round(float(loss[0]), 4)
    0.2877
    """
    loss, _, _ = ctc_loss_with_forward_probs(
        logits, logit_paddings, labels, label_paddings, blank_id=blank_id, log_epsilon=log_epsilon
    )
    return loss


def ctc_loss_with_forward_probs(
    logits: ArrayLike,
    logit_paddings: ArrayLike,
    labels: ArrayLike,
    label_paddings: ArrayLike,
    *,
    blank_id: int = 0,
    log_epsilon: float = -1e5,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """`ctc_loss`, and the logarithms of the forward probabilities that it comes from.

    b_t(n) = p_t(blank) (b_{t-1}(n) + l_{t-1}(n))                        n labels have been said, now a blank
    l_t(n) = p_t(y_n) (l_{t-1}(n) + b_{t-1}(n-1) + l_{t-1}(n-1))         now y_n; the last term if y_n != y_{n-1}
    loss   = -log(b_T(N) + l_T(N))

    logits: float[B, T, K], scores of K classes at each of T times; softmax is taken here.
    logit_paddings: [B, T], 0 where there is a time and 1 where there is none, at the end.
    labels: int[B, N], the classes in their order, without blanks; what is padded may be anything.
    label_paddings: [B, N], 0 where there is a label and 1 where there is none, at the end.
    blank_id: which of the K classes is the blank, an integer.
    log_epsilon: stands for the logarithm of 0; labels that do not fit into the time cost minus this.

    Returns float[B]; log b float[T, B, N + 1], its last row with l added; log l float[T, B, N]. Where the labels do not
    fit into the time, the loss is about -log_epsilon; for a label that is no class or is the blank, it is NaN.
    Raises TreeError for logits that are not floating, labels that are no integers, shapes that do not fit;
    HyperparameterError for a blank_id that is no class.
    Source: Graves et al. 2006, ICML, section 4.1.

    >>> logits, labels = jnp.zeros((1, 3, 2)), jnp.array([[1]])
    >>> given = logits, jnp.zeros((1, 3)), labels, jnp.zeros((1, 1))
    >>> loss, log_b, log_l = jo.losses.ctc_loss_with_forward_probs(*given)
    >>> loss.shape, log_b.shape, log_l.shape
    ((1,), (3, 1, 2), (3, 1, 1))
    """
    name = "ctc_loss"
    z, y = real_array(name, "logits", logits), jnp.asarray(labels)
    z = z.astype(compute_dtype(z.dtype))
    gaps, ends = jnp.asarray(logit_paddings), jnp.asarray(label_paddings)
    if z.ndim != 3 or y.ndim != 2 or gaps.shape != z.shape[:2] or ends.shape != y.shape or y.shape[0] != z.shape[0]:
        say(TreeError, name, "logits must be [B, T, K], logit_paddings [B, T], labels and label_paddings [B, N]",
            ", ".join(map(describe, (z, gaps, y, ends))))  # fmt: skip
    if not jnp.issubdtype(y.dtype, jnp.integer):
        say(TreeError, name, "labels must be integers, the classes in their order", describe(y),
            "Give labels.astype(jnp.int32) if they are whole numbers")  # fmt: skip
    classes = z.shape[-1]
    if check_size(name, "blank_id", blank_id, 0) >= classes:
        say(HyperparameterError, name, f"blank_id must be one of the {classes} classes", f"blank_id={blank_id}",
            f"Give an integer from 0 to {classes - 1}")  # fmt: skip
    said_at = ends == 0
    known = jnp.all(~said_at | ((y >= 0) & (y < classes) & (y != blank_id)), axis=1)  # [B]
    y = jnp.where(said_at, y, jnp.zeros_like(y))  # padding may be anything
    log_p = jnp.moveaxis(jax.nn.log_softmax(z, axis=-1), 1, 0)  # [T, B, K]
    inside = jnp.clip(y.astype(jnp.int32), 0, classes - 1)
    spoken = jnp.take_along_axis(log_p, inside[None], axis=2)  # [T, B, N]
    silent = log_p[:, :, blank_id, None]  # [T, B, 1]
    nothing = jnp.asarray(log_epsilon, z.dtype)
    repeats = jnp.pad(y[:, 1:] == y[:, :-1], ((0, 0), (1, 0)), constant_values=True)  # y_n is y_{n-1}, or n is 1
    past = (gaps.T != 0)[..., None]  # [T, B, 1]

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        blank, label = carry
        silent, spoken, past = x
        said = jnp.concatenate([jnp.full_like(label[:, :1], nothing), label], axis=1)  # l(n), n = 0 … N
        before = jnp.where(repeats, nothing, said[:, :-1])
        new_blank = silent + jnp.logaddexp(blank, said)
        new_label = spoken + jnp.logaddexp(jnp.logaddexp(label, blank[:, :-1]), before)
        kept = jnp.where(past, blank, new_blank), jnp.where(past, label, new_label)
        return kept, kept

    batch, most = y.shape
    blank = jnp.full((batch, most + 1), nothing).at[:, 0].set(0)
    _, (log_b, log_l) = jax.lax.scan(step, (blank, jnp.full((batch, most), nothing)), (silent, spoken, past))
    whole = jnp.concatenate([log_b[-1, :, :1], jnp.logaddexp(log_b[-1, :, 1:], log_l[-1])], axis=1)
    count = jnp.sum(said_at, axis=1)
    loss = -jnp.take_along_axis(whole, count[:, None], axis=1)[:, 0]
    return jnp.where(known, loss, jnp.nan), log_b.at[-1].set(whole), log_l
