"""States by name as they are written today, recorded once: `python tests/data/named_states.py` writes
named-states.msgpack, which is to be opened for ever.

"ours": for each of `OURS` the dictionary of `state_dict`, format 1, after `BEFORE` steps, the parameters then and
after one step more. "optax": for each of `THEIRS` the state of optax 0.2.8 as orbax restores it without a target, a
nest of dicts and lists, and the same parameters.
"""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import serialization
from references.record_states import METHODS, PARAMS, step

FILE = Path(__file__).parent / "named-states.msgpack"
BEFORE = 5
OURS = ("adam", "adam under a schedule", "chain of clip and adamw", "inject_hyperparams", "masked", "MultiSteps",
        "multi_transform", "muon", "schedule_free_adamw", "sgd", "sm3", "yogi")  # fmt: skip
THEIRS = ("adamw", "chain of clip and adamw", "multi_transform", "MultiSteps", "inject_hyperparams", "muon", "sgd",
          "lion", "rmsprop")  # fmt: skip


def _run(lib: Any, name: str) -> tuple[Any, Any, Any, Any]:
    opt, params = METHODS[name](lib), PARAMS
    state = opt.init(params)
    for _ in range(BEFORE):
        params, state = step(opt, lib, params, state)
    return opt, params, state, step(opt, lib, params, state)[0]


def record() -> dict[str, Any]:
    """What the file holds."""
    import optax
    import orbax.checkpoint as ocp

    import jaxopt_ko as jo

    found: dict[str, Any] = {"versions": [f"optax {optax.__version__}"], "ours": {}, "optax": {}}
    for name in OURS:
        opt, params, state, then = _run(jo, name)
        found["ours"][name] = _host({"state": jo.state_dict(opt, state, params), "params": params, "then": then})
    for name in THEIRS:
        _, params, state, then = _run(optax, name)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            saver = ocp.PyTreeCheckpointer()
            saver.save(f"{folder}/state", state)
            nest = saver.restore(f"{folder}/state")
        found["optax"][name] = _host({"state": _plain(nest), "params": params, "then": then})
    return found


def _plain(node: Any) -> Any:
    """With dicts for lists, which msgpack of flax does not keep."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return {str(i): _plain(value) for i, value in enumerate(node)}
    return {} if node is None else node


def _host(tree: Any) -> Any:
    return jax.tree.map(np.asarray, tree)


if __name__ == "__main__":
    FILE.write_bytes(serialization.msgpack_serialize(record()))
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
