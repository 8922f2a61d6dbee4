"""The leaves of a state by name: its role and the path of its parameter, wherever it stands in a chain.

"mu/layers/0/kernel" is the mean of the gradients of params["layers"][0]["kernel"], in an Adam alone, behind a clip or
in one group of a partition. A role that has another meaning than its name has elsewhere says whose it is:
"nu@adabelief".
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko.core import tree
from jaxopt_ko.core.hyperparameters import HyperparameterReader, StateWithReader, readers_shown
from jaxopt_ko.core.tree_fields import AnyParams
from jaxopt_ko.precision.packed import KINDS, is_packed
from jaxopt_ko.types import GradientTransformation, Params, PyTree, State

MEAN, SQUARE, SUM = "mu", "nu", "trace"  # means of g and of g**2, and a decaying sum of g
PLAIN_MEAN = "ema"  # a mean of g, of a rule that does nothing else
# (class of the state, field) -> the role of what it keeps, where the field's name alone would mislead
ROLES = {
    ("ScaleByAdanState", "m"): MEAN, ("MomoState", "exp_avg"): MEAN, ("MomoAdamState", "exp_avg"): MEAN,
    ("ScaleByAdemamixState", "m1"): MEAN, ("ScaleBySimplifiedAdEMAMixState", "m"): SUM,
    ("MomoAdamState", "exp_avg_sq"): SQUARE, ("DAdaptAdamWState", "exp_avg_sq"): SQUARE,
    ("ScaleBySimplifiedAdEMAMixState", "n"): SQUARE,
    ("ScaleByAdanState", "t"): "count", ("ScaleBySimplifiedAdEMAMixState", "t"): "count",
}  # fmt: skip
# class of the state -> whose its fields are, where they are not what these names mean elsewhere
OWN = {
    "ScaleByBeliefState": ("adabelief", ("nu",)), "ScaleBySoapState": ("soap", ("nu", "Q_L", "Q_R")),
    "ScaleBySoapMuonState": ("soap_muon", ("nu", "L", "R", "Q_L", "Q_R")),
    "ScaleByDion2State": ("dion2", ("M",)), "ScaleByAsgoState": ("asgo", ("V", "root")),
    "MuownState": ("muown", ("mu", "g", "v", "m_g", "v_g")), "MarsGradientState": ("mars", ("last",)),
    "TailAverageState": ("tail_average", ("mean", "lam")),
    "ScaleByKlSoapState": ("kl_soap", ("nu", "L", "R", "Q_L", "Q_R", "D_L", "D_R")),
    "ScaleByKlShampooState": ("kl_shampoo", ("L", "R", "Q_L", "Q_R", "D_L", "D_R")),
    "ScaleByShampooState": ("shampoo", ("nu", "L", "R", "L_root", "R_root")),
    "ScaleBySplusState": ("splus", ("Q_L", "Q_R")), "ScaleByKronState": ("psgd_kron", ("Q_L", "Q_R")),
    "ScaleByNorMuonState": ("normuon", ("nu",)), "ScaleByAdaMuonState": ("adamuon", ("nu",)),
    "ScaleByNovogradState": ("novograd", ("mu", "nu")), "ScaleBySM3State": ("sm3", ("mu", "nu")),
    "SophiaState": ("sophia", ("nu",)), "ScaleByApolloState": ("apollo", ("mu", "nu", "norm")),
    "ScaleByAdanState": ("adan", ("v", "n", "g")), "FactoredState": ("adafactor", ("v", "v_row", "v_col")),
    "ProdigyState": ("prodigy", ("exp_avg", "exp_avg_sq", "grad_sum")), "ScaleByDionState": ("dion", ("M", "Q")),
    "DAdaptAdamWState": ("dadapt_adamw", ("exp_avg", "grad_sum")), "EmaNesterovState": ("ema_nesterov", ("m",)),
    "MechanicState": ("mechanic", ("m", "v", "r", "s")), "MadgradState": ("madgrad", ("s",)),
    "COCOBState": ("cocob", ("scale",)), "ScaleByAdoptState": ("adopt", ("mu",)),
    "ScaleByLapropState": ("laprop", ("mu",)), "ScaleByAdamMiniState": ("adam_mini", ("nu",)),
    "ScaleByCameState": ("came", ("mu", "v_row", "v_col", "nu", "res_row", "res_col")),
}  # fmt: skip
OF_RULE = {"scale_by_adamax": ("adamax", ("nu",)), "scale_by_yogi": ("yogi", ("nu",))}  # where classes are shared
SCALING = (  # rules after which gradients are steps, or of another length
    "scale", "scale_by_learning_rate", "scale_by_schedule", "scale_by_trust_ratio", "scale_by_sign", "normalize",
    "normalize_by_update_norm", "orthogonalize", "scale_by_lmo",
)  # fmt: skip
PROJECTED = ("GaLoreState",)  # what is inside is like projections of the parameters


@dataclasses.dataclass(frozen=True)
class Entry:
    """A leaf of a state."""

    role: str  # what it is, with whose if that has to be said
    path: str | None  # of its parameter, "layers/0/kernel", "" if there is but one; None if it belongs to none
    value: Any
    reader: HyperparameterReader | None  # that reads the hyperparameters of its rule
    rule: int  # leaves of one rule's state have one number
    again: int = 1  # which of the leaves with this name it is, in the order of the state
    plain: int = 1  # the same among names that do not say whose they are

    @property
    def name(self) -> str:
        """As a dictionary of named leaves has it."""
        role = self.role if self.again == 1 else f"{self.role}.{self.again}"
        return role if not self.path else f"{role}/{self.path}"


def entries(tx: GradientTransformation, state: State, params: Params) -> tuple[list[Entry], Any]:
    """The leaves of a state in its own order, and the structure that unflattens them."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(state)
    numbered = treedef.unflatten([_Number(i) for i in range(len(leaves))])
    params = parameters_of(params)
    found = list(_Walk(params).of(_stand_ins(tx, numbered, params), numbered))
    numbered_again = _numbered(found)
    made = [dataclasses.replace(entry, value=leaves[entry.value.index]) for entry in numbered_again]
    order = sorted(range(len(made)), key=lambda i: numbered_again[i].value.index)
    return [made[i] for i in order], treedef


def entries_of_foreign(state: State, params: Params) -> list[Entry]:
    """The same of a state whose transformation is not known: trees like the parameters are told by their structure."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(state)
    numbered = treedef.unflatten([_Number(i) for i in range(len(leaves))])
    params = parameters_of(params)
    found = _numbered(list(_Walk(params).of(_by_structure(numbered, params), numbered)))
    return [dataclasses.replace(entry, value=leaves[entry.value.index]) for entry in found]


def _numbered(found: list[Entry]) -> list[Entry]:
    """Those of one name told apart, in the order of the state; counts of rules that keep means come first."""
    keeps = {entry.rule for entry in found if entry.path is not None}
    found = sorted(found, key=lambda e: (e.role == "count" and e.rule not in keeps, e.value.index))
    seen: dict[tuple[str, str | None, bool], int] = {}
    made = []
    for entry in found:
        again = []
        for key in ((entry.role, entry.path, True), (plain_role(entry.role), entry.path, False)):
            seen[key] = seen.get(key, 0) + 1
            again.append(seen[key])
        made.append(dataclasses.replace(entry, again=again[0], plain=again[1]))
    return made


def plain_role(role: str) -> str:
    """Without whose it is."""
    return role.partition("@")[0]


def parameters_of(params: Params) -> Params:
    """The parameters that are stepped, where there are slow ones beside them."""
    return params.fast if type(params).__name__ == "LookaheadParams" else params


@dataclasses.dataclass(frozen=True)
class _Number:
    """Of a leaf, in its place; a leaf to JAX."""

    index: int


def _stand_ins(tx: GradientTransformation, state: State, params: Params) -> Any:
    """The state with an `AnyParams` for each tree like the parameters, and with the readers of our rules around it.

    Where init looks at its parameters (a foreign one may) trees like them are told by their structure.
    """
    try:
        with readers_shown():
            made = tx.init(AnyParams())
        jax.tree.map(lambda *_: None, _bare(made), state, is_leaf=_is_any)
        return made
    except Exception:
        return _by_structure(state, params)


def stand_ins(tx: GradientTransformation, state: State, params: Params) -> Any:
    """The state with an `AnyParams` for each tree like the parameters."""
    return _bare(_stand_ins(tx, state, params))


def _bare(node: Any) -> Any:
    """Without the readers."""
    return jax.tree.map(
        lambda x: _bare(x.state) if isinstance(x, StateWithReader) else x,
        node,
        is_leaf=lambda x: isinstance(x, StateWithReader),
    )


def _is_any(x: Any) -> bool:
    return isinstance(x, AnyParams)


def _by_structure(node: Any, params: Params) -> Any:
    """Told by the structure: a tree with a part for each parameter, or where there is but one, of its shape."""
    treedef: Any
    leaves, treedef = jax.tree.flatten(params)
    try:
        parts = treedef.flatten_up_to(node)
    except ValueError:
        parts = []
    like = bool(parts) and len(parts) == len(leaves)
    if like and jax.tree_util.treedef_is_leaf(treedef):
        like = getattr(node, "shape", None) == np.shape(leaves[0])
    if like:
        return AnyParams()
    below: Any
    children, below = jax.tree.flatten(node, is_leaf=lambda x: x is not node)
    if len(children) == 1 and children[0] is node:
        return node
    return below.unflatten([_by_structure(child, params) for child in children])


class _Walk:
    """Over a state and its stand-ins side by side."""

    def __init__(self, params: Params) -> None:
        self.paths = {tuple(path): spelled(path) for path, _ in jax.tree_util.tree_flatten_with_path(params)[0]}
        self.rules = 0  # so far
        self.scaled = False  # is what follows told steps, and gradients no more?
        self.touched: set[str] = set()  # of these an earlier rule keeps something: what follows sees its steps

    def of(
        self,
        stand_in: Any,
        node: Any,
        role: tuple[str, str] = ("", ""),
        reader: HyperparameterReader | None = None,
        whose: str = "",
        rule: int = 0,
    ) -> Iterator[Entry]:
        """role: (class of the state, its field)."""
        if isinstance(stand_in, StateWithReader):
            self.scaled |= stand_in.reader.name in SCALING
            yield from self.of(stand_in.state, node, role, stand_in.reader, whose, rule)
        elif isinstance(stand_in, AnyParams):
            yield from self._beside(node, self._role(role, reader, whose), reader, rule)
        elif isinstance(node, _Number):
            yield Entry(self._role(role, reader, whose), None, node, reader, rule)
        elif isinstance(node, tuple) and hasattr(node, "_fields"):
            name = type(node).__name__
            inside = whose or ("galore" if name in PROJECTED else "")
            self.rules += 1
            own = rule if role[0] == "ScheduledState" else self.rules  # what schedules need is of the rule inside
            for field, child in zip(node._fields, node, strict=True):
                yield from self.of(getattr(stand_in, field), child, (name, field), reader, inside, own)
        elif isinstance(node, Mapping):
            outside = self.scaled
            for key, child in node.items():
                self.scaled = outside  # one group's steps are not another's
                field = f"{role[1]}/{key}" if role[0] and not _holds_states(child) else role[1]
                yield from self.of(stand_in[key], child, (role[0], field), reader, whose, rule)
        elif isinstance(node, tuple | list):
            for one, child in zip(stand_in, node, strict=True):
                yield from self.of(one, child, role, reader, whose, rule)
        else:
            for path, leaf in jax.tree_util.tree_flatten_with_path(node)[0]:
                yield Entry("/".join(filter(None, (role[1], spelled(path)))), None, leaf, reader, rule)

    def _beside(self, full: PyTree, role: str, reader: HyperparameterReader | None, rule: int) -> Iterator[Entry]:
        found = []
        for key, leaf in _leaves_beside(full):
            cut = next((n for n in range(len(key) + 1) if key[:n] in self.paths), None)
            path = None if cut is None else self.paths[key[:cut]]  # None: no parameter is there
            found.append((path, spelled(key) if cut is None else _joined(path, spelled(key[cut:])), leaf))
        mine = {path for path, _, _ in found if path is not None}
        if role in (SUM, PLAIN_MEAN) and (self.scaled or mine & self.touched):
            role = f"{role}@steps"
        self.touched |= mine
        for _, path, leaf in found:
            yield Entry(role, path, leaf, reader, rule)

    @staticmethod
    def _role(role: tuple[str, str], reader: HyperparameterReader | None, whose: str) -> str:
        owner, fields = OWN.get(role[0], ("", ()))
        if reader is not None:
            owner, fields = OF_RULE.get(reader.name, (owner, fields))
        owner = whose if whose and role[0] not in PROJECTED else owner if role[1] in fields else ""
        named = ROLES.get(role, role[1])
        return f"{named}@{owner}" if owner and named != "count" else named


def _leaves_beside(full: PyTree) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """(path, leaf); the codes and scales of an array in few bits say which codec they are of."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(full, is_leaf=is_packed)[0]:
        if not is_packed(leaf):
            yield path, leaf
            continue
        for field in leaf._fields:
            yield (*path, jax.tree_util.GetAttrKey(f"{type(leaf).__name__}.{field}")), getattr(leaf, field)


PART = re.compile(rf"/?({'|'.join(kind.__name__ for kind in KINDS)})\.(codes|scales)$")


def packed_part(name: str) -> tuple[str, str, str] | None:
    """(name of the array, codec, codes or scales) of a leaf's name, if it is a part of an array in few bits."""
    found = PART.search(name)
    return None if found is None else (name[: found.start()], found.group(1), found.group(2))


def _holds_states(node: Any) -> bool:
    """Is it a group's state, whose label is no part of a name, and no number under a key?"""
    return not isinstance(node, _Number) and bool(jax.tree.leaves(node, is_leaf=lambda x: hasattr(x, "_fields")))


def spelled(path: Any) -> str:
    """layers/0/kernel"""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def _joined(*parts: str | None) -> str:
    return "/".join(filter(None, parts))


def kept_as(leaf: Any) -> Any:
    """As files take it: a PRNG key is the numbers in it."""
    if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    return leaf


def same(a: Any, b: Any) -> bool:
    """Do both say the same, so that one of them is enough? Of traced or abstract ones nothing is known."""
    concrete = all(isinstance(x, np.ndarray | np.generic | jax.Array | int | float) for x in (a, b))
    if not concrete or any(isinstance(x, jax.core.Tracer) for x in (a, b)):
        return False
    a, b = kept_as(a), kept_as(b)
    return np.shape(a) == np.shape(b) and tree.dtype_of(a) == tree.dtype_of(b) and bool(np.array_equal(a, b))
