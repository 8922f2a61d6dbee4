"""What each leaf of a model is for, guessed from its path, its module's class and its shape; and how it is a matrix.

A guess errs to the safe side: what looks like an embedding, a head, a norm or a bias is no hidden matrix, and what
looks like nothing has no role at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core import tree
from jaxopt_ko.core.checks import check_stack_axes, no_matrix
from jaxopt_ko.core.stacking import MatrixAxes
from jaxopt_ko.types import Params, PyTree

ROLES = {
    "matrix": "a hidden layer's weights",
    "qkv": "weights of query, key and value side by side",
    "experts": "weights of experts, [experts, m, n] or one of them",
    "convolution": "a convolution's kernel",
    "embedding": "a table of vectors: tokens, positions, patches, what reads the input",
    "head": "what makes logits: of the output, of a router",
    "norm": "scale or offset of a normalization, a gain",
    "bias": "a bias, or any other vector or scalar",
}
MATRICES = ("matrix", "qkv", "experts", "convolution")


class Leaf(NamedTuple):
    """A leaf and what it is for."""

    path: str  # "blocks/0/attention/query/kernel"
    shape: tuple[int, ...]
    role: str | None  # of ROLES, None if nothing is known
    stacks: int  # leading axes that count leaves of one shape
    axes: MatrixAxes | None  # of the matrices, for a role of MATRICES


def _words(pattern: str) -> re.Pattern[str]:
    """Whole words of a name in snake case, with or without a number behind."""
    return re.compile(rf"(?:^|_)(?:{pattern})\d*(?:_|$)")


_BIAS = re.compile(r"b\d*|b[qkvo]|bias(_.*)?|.*_bias|.*bias_table|a_log|time_\w+")
_GAIN = re.compile(r"\w*scale\d*|offset|gain|gamma|beta|g|ls\d*")
_NORM = _words(r"\w*norm|ln|bn|gn")
_EMBEDDING = _words(r"\w*embeds?|\w*embeddings?|\w*embedder|\w*emb|wte|wpe|codebook")
_TABLE = _words(r"tokens?|latents|pos|positions?|registers|prompt|cls")  # of a leaf itself
_HEAD = re.compile(r"(\w*_)?heads?(_\d+)?|(\w*_)?logits(_\w*)?|(\w*_)?classifier(_\d+)?|(\w*_)?unembed(ding)?")
_ROUTER = _words(r"router|routing")
_GATE = re.compile(r"gat(e|ing)\d*")
_EXPERTS = _words(r"experts?|moe|mixture")
_EXPERT = _words(r"experts?")
_QKV = _words(r"qkv|wqkv|kv|wkv|c_attn|in_proj|query_key_value")
_CONVOLUTION = _words(r"\w*conv|conv\dd|conv\d_d|\w*conv_transpose")
_SIDES = ("into", "out")
_ATTENTION = _words(r"\w*attn|\w*attention|query|key|value|out|\w*_proj")
_INTO_HEADS = _words(r"query|key|value|q|k|v|wq|wk|wv")
_OUT_OF_HEADS = _words(r"out|output|o|wo")
_WEIGHT = re.compile(r"weight|kernel|w")
_OUTPUT_FIRST = re.compile(r"(\w*_)?weight(_\w+)?")


class _Seen(NamedTuple):
    """A leaf with what is known of where it stands."""

    keys: tuple[str, ...]  # as they are in the path
    words: tuple[str, ...]  # the same in snake case
    classes: tuple[str, ...]  # of the modules around it, in snake case
    shape: tuple[int, ...]
    stacks: int
    of_heads: bool = False  # kernels [m, heads, n] and [heads, n, m] of one attention module

    @property
    def own(self) -> tuple[int, ...]:
        """The shape behind the stacks."""
        return self.shape[self.stacks :]

    @property
    def name(self) -> str:
        return self.words[-1] if self.words else ""

    def any(self, pattern: re.Pattern[str]) -> bool:
        """Does a name around it, or its module's class, have one of the words?"""
        return any(map(pattern.search, (*self.words, *self.classes[-1:])))

    @property
    def output_first(self) -> bool:
        """y = W x, as in equinox and torch, where the leaf is called weight; y = x W elsewhere."""
        return _OUTPUT_FIRST.fullmatch(self.name) is not None


def roles_of(
    params: Params, roles: Mapping[str, str | MatrixAxes] | None = None, *, stack_axes: PyTree = 0
) -> list[Leaf]:
    """What each leaf of a tree is for, guessed from its path, its module's class and its shape.

    A guess errs to the safe side: what looks like an embedding, a head, a norm or a bias is no hidden matrix, and what
    looks like nothing has no role. None leaves are left out. `ROLES` has the roles and what they mean.

    params: the parameters, a tree of floating arrays.
    roles: regular expression, found in the path -> role, where the guess is wrong; the last one that fits holds.
        MatrixAxes, counted in the whole leaf, for a hidden matrix that is to be read so. None: guesses alone.
    stack_axes: how many leading axes of a leaf are stacks, as for a scan over layers; an integer, or a prefix.

    Returns a list of Leaf(path, shape, role, stacks, axes), one for each leaf in the tree's order.
    Raises HyperparameterError for an unknown role or a key that is no regular expression; TreeError for a leaf that
        cannot be the matrix it is said to be.
    Source: ours; what is a matrix for Muon, Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    Not for trees whose leaves have no names: a list of arrays gives it shapes alone.

    >>> params = {"embed": jnp.ones((7, 4)), "block_0": {"kernel": jnp.ones((4, 4)), "bias": jnp.ones(4)}}
    >>> [(leaf.path, leaf.role) for leaf in jo.roles_of(params)]
    [('block_0/bias', 'bias'), ('block_0/kernel', 'matrix'), ('embed', 'embedding')]
    """
    check_roles("roles_of", roles)
    check_stack_axes("roles_of", stack_axes)
    counts = tree.stacks("roles_of", stack_axes, params)
    seen = _with_heads([_seen(*found, stacks) for found, stacks in zip(_walk(params), counts, strict=True)])
    guessed = _heads([_role(leaf) for leaf in seen], seen)
    last_first = list((roles or {}).items())[::-1]
    leaves = []
    for index, (leaf, guess) in enumerate(zip(seen, guessed, strict=True)):
        path = "/".join(leaf.keys)
        told = next((told for pattern, told in last_first if re.search(pattern, path)), guess)
        role = "matrix" if isinstance(told, MatrixAxes) else told
        axes = told if isinstance(told, MatrixAxes) else _axes(role, leaf) if role in MATRICES else None
        if role in MATRICES and axes is None:
            wanted = f"two axes behind {leaf.stacks} stack axes to be of the role {role!r}"
            no_matrix("roles_of", params, index, jax.tree.leaves(params)[index], wanted)
        leaves.append(Leaf(path or "(root)", leaf.shape, role, leaf.stacks, axes))
    return leaves


def check_roles(name: str, roles: Mapping[str, str | MatrixAxes] | None) -> None:
    """Patterns of paths and what is said of them."""
    if roles is None:
        return
    errors.check_mapping(name, "roles", roles)
    for pattern, said in roles.items():
        errors.check_pattern(name, pattern, "each key of roles")
        if not isinstance(said, MatrixAxes):
            errors.check_choice(name, f"the role of {pattern!r}", said, tuple(ROLES))


# ---- what is known of a leaf ----------------------------------------------------------------------------


def _walk(
    node: PyTree, path: tuple[Any, ...] = (), classes: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[Any, ...], tuple[str, ...], Any]]:
    """(path, classes of the containers, leaf), in the order of the tree."""
    for keys, child in jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]:
        if keys:
            yield from _walk(child, (*path, *keys), (*classes, type(node).__name__))
        else:
            yield path, classes, child


def _seen(path: tuple[Any, ...], classes: tuple[str, ...], leaf: Any, stacks: int) -> _Seen:
    spelled = [jax.tree_util.keystr((key,), simple=True) for key in path]
    if len(path) > 1 and isinstance(path[-1], jax.tree_util.GetAttrKey) and spelled[-1] == "value":
        spelled.pop()  # of flax.nnx's variables
    keys = tuple(part for key in spelled for part in key.split("/") if part not in ("", "~"))  # haiku's modules
    return _Seen(keys, tuple(map(_snake, keys)), tuple(map(_snake, classes)), np.shape(leaf), stacks)


def _with_heads(seen: list[_Seen]) -> list[_Seen]:
    """Kernels with an axis of heads: those of modules into and out of heads that agree on [heads, n]. Layers on a
    stack that nobody spoke of, [layers, m, m], do not."""
    agreed = {side: [(leaf.keys[:-2], *heads) for leaf in seen for heads in _heads_of(leaf, side)] for side in _SIDES}
    both = set(agreed["into"]) & set(agreed["out"])
    modules = {module for module, *_ in both}
    return [
        leaf._replace(
            of_heads=leaf.keys[:-2] in modules and len(leaf.own) == 3 and any(_heads_of(leaf, side) for side in _SIDES)
        )
        for leaf in seen
    ]


def _heads_of(leaf: _Seen, side: str) -> list[tuple[int, ...]]:
    """(heads, n) that a kernel could have on this side, or (heads * n,) of one that joins them."""
    if len(leaf.keys) < 2 or not _WEIGHT.fullmatch(leaf.name) or leaf.output_first:
        return []
    module, own = leaf.words[-2], leaf.own
    if side == "out":
        return [own[:2], (own[0] * own[1],)] if len(own) == 3 and _OUT_OF_HEADS.search(module) else []
    if len(own) == 3 and _INTO_HEADS.search(module):
        return [own[1:]]
    if _QKV.search(module):
        return [own[2:]] if len(own) == 4 else [(own[1] // 3,)] if len(own) == 2 else []
    return []


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[^A-Za-z0-9]+", "_", name).lower().strip("_")


# ---- the role -------------------------------------------------------------------------------------------


def _role(leaf: _Seen) -> str | None:
    """What a leaf is by its own names and shape; the first line that fits."""
    ndim = len(leaf.own)
    conv = leaf.any(_CONVOLUTION) or _small_window(leaf)
    lines: list[tuple[str, Callable[[], bool]]] = [
        ("bias", lambda: _BIAS.fullmatch(leaf.name) is not None),
        ("norm", lambda: _GAIN.fullmatch(leaf.name) is not None),
        ("norm", lambda: leaf.any(_NORM) and (ndim < 2 or leaf.name not in ("kernel", "w"))),
        ("bias", lambda: ndim < 2 or (ndim > 2 and max(leaf.own) == math.prod(leaf.own))),
        ("head", lambda: any(map(_HEAD.fullmatch, leaf.words))),
        ("embedding", lambda: leaf.any(_EMBEDDING) or _TABLE.search(leaf.name) is not None),
        ("head", lambda: leaf.any(_ROUTER)),
        ("head", lambda: leaf.any(_EXPERTS) and _is_router(leaf)),
        ("experts", lambda: leaf.any(_EXPERTS) and ndim in (2, 3) and not conv),
        ("qkv", lambda: leaf.any(_QKV) and ndim in (2, 3, 4) and _axes("qkv", leaf) is not None),
        ("convolution", lambda: conv and (ndim in (3, 4) or _small_window(leaf))),
        ("matrix", lambda: ndim == 2 or _axes("matrix", leaf) is not None),
    ]
    return next((role for role, fits in lines if fits()), None)


def _small_window(leaf: _Seen) -> bool:
    """The shape of a convolution's kernel, where nothing speaks of heads or experts, which have as many axes."""
    if len(leaf.own) not in (4, 5) or not _WEIGHT.fullmatch(leaf.name) or leaf.any(_ATTENTION) or leaf.any(_EXPERTS):
        return False
    window = leaf.own[2:] if leaf.output_first else leaf.own[:-2]
    return len(set(window)) == 1 and window[0] <= 11


def _is_router(leaf: _Seen) -> bool:
    """A gate beside the experts, with few outputs, chooses among them; one within an expert is a layer of it."""
    outputs, inputs = leaf.own[-2:] if leaf.output_first else leaf.own[:-3:-1]
    return outputs < inputs and any(map(_GATE.fullmatch, leaf.words)) and not leaf.any(_EXPERT)


def _heads(guessed: list[str | None], seen: list[_Seen]) -> list[str | None]:
    """Heads and inputs that no name tells, among the matrices outside the repeated blocks: a head is of a vocabulary's
    size, or if there is none the last of each chain of layers; beside blocks, what else is there reads the input."""
    found = list(guessed)
    vocabularies = {
        leaf.own[0] for leaf, role in zip(seen, guessed, strict=True) if role == "embedding" and len(leaf.own) == 2
    }
    blocks = _blocks(guessed, seen)
    plain = [i for i, role in enumerate(guessed) if role == "matrix" and len(seen[i].own) == 2]
    outside = [i for i in plain if not _within(seen[i], blocks)]
    widths = {_sides(seen[i])[0] for i in plain if i not in outside}
    chains: dict[str, list[int]] = {}
    for i in outside:
        inputs, outputs = _sides(seen[i])
        if outputs in vocabularies:
            found[i] = "head"
        elif blocks and outputs in widths and inputs not in widths:
            found[i] = "embedding"
        else:
            chains.setdefault(re.sub(r"\d+", "#", "/".join(seen[i].keys)), []).append(i)
    if "head" not in found and (blocks or "embedding" not in guessed):
        for i in _ends(chains, guessed, seen, bool(blocks)):
            found[i] = "head"
    return ["embedding" if blocks and i in outside and role == "matrix" else role for i, role in enumerate(found)]


def _ends(
    chains: Mapping[str, list[int]], guessed: list[str | None], seen: list[_Seen], beside_blocks: bool
) -> Iterator[int]:
    """The last layer of each chain of numbered ones, and those whose outputs are not the next one's inputs."""
    alone = sum(role in MATRICES for role in guessed) == 1
    for stem, chain in chains.items():
        if beside_blocks or "#" in stem or alone:
            order = sorted(chain, key=lambda i: _natural(seen[i].keys))
            for i, after in zip(order, [*order[1:], None], strict=True):
                if after is None or _sides(seen[i])[1] != _sides(seen[after])[0]:
                    yield i


def _sides(leaf: _Seen) -> tuple[int, int]:
    """Inputs and outputs of a matrix."""
    rows, columns = leaf.own
    return (columns, rows) if leaf.output_first else (rows, columns)


def _blocks(guessed: list[str | None], seen: list[_Seen]) -> set[tuple[str, ...]]:
    """Numbered modules of several matrices, and those that are stacked."""
    counts: dict[tuple[str, ...], int] = {}
    for leaf, role in zip(seen, guessed, strict=True):
        if role in MATRICES:
            for depth in range(1, len(leaf.keys)):
                if re.search(r"\d", leaf.keys[depth - 1]):
                    counts[leaf.keys[:depth]] = counts.get(leaf.keys[:depth], 0) + 1
    return {block for block, count in counts.items() if count > 1}


def _within(leaf: _Seen, blocks: set[tuple[str, ...]]) -> bool:
    return leaf.stacks > 0 or any(leaf.keys[:depth] in blocks for depth in range(1, len(leaf.keys)))


def _natural(keys: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """layer_2 before layer_10."""
    parts = [part for key in keys for part in re.split(r"(\d+)", key) if part]
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


# ---- the matrix -----------------------------------------------------------------------------------------


def _axes(role: str | None, leaf: _Seen) -> MatrixAxes | None:
    """Rows, what is summed over, and columns, what comes out; None where the shape does not say."""
    k, ndim = leaf.stacks, len(leaf.own)
    first, last = (k + ndim - 1, k + ndim - 2) if leaf.output_first else (k + ndim - 2, k + ndim - 1)  # of two axes
    axes = None
    if role == "convolution" and ndim >= 3:
        inner, outer = (range(k + 1, k + ndim), k) if leaf.output_first else (range(k, k + ndim - 1), k + ndim - 1)
        axes = MatrixAxes(tuple(inner), (outer,))
    elif role == "qkv" and ndim == 2:
        inputs, outputs = _sides(leaf)
        parts = outputs // inputs if inputs and outputs in (2 * inputs, 3 * inputs) else 1
        axes = MatrixAxes((first,), (last,), parts)
    elif role == "qkv" and ndim in (3, 4) and leaf.own[1] in (2, 3) and not leaf.output_first:
        axes = MatrixAxes((k,), tuple(range(k + 2, k + ndim)))
    elif ndim == 2 or (role == "experts" and ndim == 3):
        axes = MatrixAxes((first,), (last,))
    elif leaf.of_heads and _INTO_HEADS.search(leaf.words[-2]):
        axes = MatrixAxes((k,), (k + 1, k + 2))
    elif leaf.of_heads:
        axes = MatrixAxes((k, k + 1), (k + 2,))
    return axes
