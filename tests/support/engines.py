"""Which engines a transformation runs on, read off the object itself, and the kin: a Case for each engine and option.

A contract that an engine keeps (a lift, a chain) and that costs much to compile is tested in full on the kin and on
every case that does not run on lifts alone; the numbers of every page are pinned by `data/trajectories.txt`.
"""

import functools
from collections.abc import Iterator
from typing import Any

import jax

from cases import BY_NAME, Case
from jaxopt_ko.compose.chain import ChainUpdate
from jaxopt_ko.core.leafwise import LeafUpdate
from jaxopt_ko.core.method import Update

KIN = {
    "sgd-nesterov": "leafwise, look-ahead",
    "adamw": "leafwise rules in a row, one call for each leaf",
    "adam-uncorrected": "without bias correction",
    "nadam-schedule": "a product of decays in the state",
    "rmsprop-corrected": "a count beside a state that has none",
    "adamw-masked": "a mask in a chain",
    "lion-smooth": "another mode",
    "adafactor": "a factored memory",
    "lamb": "norms of each leaf",
    "novograd": "a number for each leaf",
    "lars": "a trust ratio between leafwise rules",
    "chain": "leafwise with a sum over all leaves",
    "muon": "matrixwise; a partition with its rest",
    "scion": "norms by role",
    "adamuon": "leafwise around matrixwise",
    "galore": "another optimizer in a subspace",
    "soap": "bases that are made anew",
    "psgd_kron": "random numbers in a matrixwise rule",
    "prodigy": "treewise",
    "partition": "groups",
    "inject_hyperparams": "hyperparameters in the state",
}
LIFTS = {
    "leafwise",
    "leafwise with sums",
    "matrixwise",
    "treewise",
    "groups",
}  # which keep a contract for whatever rule they lift


def label(function: Any) -> str:
    """Of what makes a transformation from functions over trees, by its module; "" for what says nothing."""
    module = getattr(function, "__module__", "") or ""
    room, _, rest = module.removeprefix("jaxopt_ko.").partition(".")
    if rest in ("transform", "method", "evaluation") or not module.startswith("jaxopt_ko."):
        return ""
    if room == "core":
        return rest if rest in ("matrixwise", "treewise") else ""
    if room == "compose":
        return {"groups": "groups", "inject": "inject"}.get(rest, "")
    if room in ("optimizers", "transforms"):
        return "by hand"
    return {"wrappers": "wrapper", "precision": "wrapper", "solvers": "solver"}.get(room, "")


def labels_within(thing: Any, depth: int = 12) -> Iterator[str]:
    """The engines of an update, and of those that its function closes over."""
    if not depth:
        return
    if isinstance(thing, LeafUpdate):
        yield from ("leafwise" if rule.once_a_step is None else "leafwise with sums" for rule in thing.rules)
    elif isinstance(thing, ChainUpdate):
        for _, stage in thing.stages:
            yield from labels_within(stage, depth - 1)
    elif isinstance(thing, Update):
        yield from labels_within(thing.function, depth - 1)
    elif isinstance(thing, (tuple, list)):
        for one in thing:
            yield from labels_within(one, depth - 1)
    elif isinstance(thing, dict):
        yield from labels_within(list(thing.values()), depth)
    elif callable(thing) and not isinstance(thing, type):
        lift = label(thing)
        yield from [lift] if lift else []
        if lift not in ("matrixwise", "treewise"):  # what these lift is a rule, and no transformation
            for cell in getattr(thing, "__closure__", None) or ():
                yield from labels_within(_contents(cell), depth - 1)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return None


@functools.cache
def engines_of(name: str) -> frozenset[str]:
    """Of the Case with this name."""
    return frozenset(labels_within(BY_NAME[name]().update))


def in_full(case: Case) -> bool:
    """Is it one of the kin, or of those that do not run on lifts alone?"""
    return case.name in KIN or not engines_of(case.name) <= LIFTS


def in_brief(case: Case) -> bool:
    """One of the others."""
    return not in_full(case)


# ---- what a program reads -------------------------------------------------------------------------------


def inputs_read(function: Any, *args: Any) -> list[bool]:
    """For each leaf of args: does an output depend on it, by what was traced?"""
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _read(jaxpr, [True] * len(jaxpr.outvars))


def _read(jaxpr: Any, wanted: list[bool]) -> list[bool]:
    """Of a jaxpr's inputs, those that the wanted outputs depend on. Calls are looked into; the rest reads all."""
    live = {v for v, want in zip(jaxpr.outvars, wanted, strict=True) if want and not hasattr(v, "val")}
    for equation in reversed(jaxpr.eqns):
        outputs = [v in live for v in equation.outvars]
        if not any(outputs):
            continue
        inner = equation.params.get("jaxpr") if equation.primitive.name in ("jit", "pjit") else None
        read = _read(inner.jaxpr, outputs) if inner is not None else [True] * len(equation.invars)
        live |= {v for v, r in zip(equation.invars, read, strict=True) if r and not hasattr(v, "val")}
    return [v in live for v in jaxpr.invars]
