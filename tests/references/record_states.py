"""States as optax wrote them, recorded once: `python tests/references/record_states.py` writes optax-states.msgpack.

For each of `METHODS`: the bytes that flax.serialization.to_bytes makes of the state after `BEFORE` steps, as in a
user's file, and the parameters then and after each of `AFTER` more steps, all in float32. The gradients are not kept:
`gradient` gives them again from the parameters. The file is to be opened for ever: what it says is what runs that
optax began are worth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import serialization

FILE = Path(__file__).parent / "optax-states.msgpack"
BEFORE, AFTER = 5, 3
PARAMS = {
    "b": np.array([0.5, -0.75, 1.0], np.float32),
    "w": np.array([[-1.0, 0.25], [0.5, -0.5], [0.75, 1.5]], np.float32),
}
TARGET = {"b": np.float32(0.25), "w": np.float32(-0.125)}


def gradient(params: Any) -> Any:
    """Of a bowl with a ripple, by +, -, * and / alone."""
    return {key: p - TARGET[key] + p / (1 + p * p) for key, p in params.items()}


def rate(step: Any) -> Any:
    return jnp.float32(0.02) / (1 + jnp.float32(0.25) * step.astype(jnp.float32))


def matrices(params: Any) -> Any:
    return jax.tree.map(lambda p: np.ndim(p) == 2, params)


def labels(params: Any) -> Any:
    return jax.tree.map(lambda p: "matrix" if np.ndim(p) == 2 else "vector", params)


def contrib(lib: Any) -> Any:
    return getattr(lib, "contrib", lib)


# Left out: what optax weighs or rounds otherwise (adan, rprop, radam); named_chain: flax cannot write an OrderedDict.
METHODS = {
    "adabelief": lambda lib: lib.adabelief(0.01, b2=0.9),
    "adadelta": lambda lib: lib.adadelta(0.5),
    "adafactor": lambda lib: lib.adafactor(0.01, min_dim_size_to_factor=2, momentum=0.9),
    "adagrad": lambda lib: lib.adagrad(0.05),
    "adam": lambda lib: lib.adam(0.01),
    "adam nesterov": lambda lib: lib.adam(0.01, nesterov=True),
    "adam under a schedule": lambda lib: lib.adam(rate),
    "adamax": lambda lib: lib.adamax(0.01),
    "adamw": lambda lib: lib.adamw(0.01, weight_decay=0.1),
    "adamw masked": lambda lib: lib.adamw(0.01, weight_decay=0.1, mask=matrices),
    "ademamix": lambda lib: contrib(lib).ademamix(0.01),
    "amsgrad": lambda lib: lib.amsgrad(0.01),
    "apply_if_finite": lambda lib: lib.apply_if_finite(lib.adam(0.01), 3),
    "chain of clip and adamw": lambda lib: lib.chain(lib.clip_by_global_norm(1.0), lib.adamw(0.01)),
    "dog": lambda lib: contrib(lib).dog(1.0),
    "ema": lambda lib: lib.chain(lib.ema(0.9), lib.scale(-0.05)),
    "freeze": lambda lib: lib.selective_transform(lib.adam(0.01), freeze_mask=matrices(PARAMS)),
    "inject_hyperparams": lambda lib: lib.inject_hyperparams(lib.adamw)(rate, weight_decay=0.1),
    "lamb": lambda lib: lib.lamb(0.01),
    "lion": lambda lib: lib.lion(0.01),
    "lookahead": lambda lib: lib.lookahead(lib.sgd(0.05, 0.9), 3, 0.5),
    "masked": lambda lib: lib.masked(lib.adam(0.01), matrices),
    "MultiSteps": lambda lib: lib.MultiSteps(lib.adam(0.01), 2),
    "multi_transform": lambda lib: lib.partition({"matrix": lib.adam(0.01), "vector": lib.sgd(0.01, 0.9)}, labels),
    "muon": lambda lib: contrib(lib).muon(0.01),
    "nadamw": lambda lib: lib.nadamw(0.01),
    "novograd": lambda lib: lib.novograd(0.01),
    "prodigy": lambda lib: contrib(lib).prodigy(),
    "rmsprop": lambda lib: lib.rmsprop(0.01, centered=True, momentum=0.9),
    "schedule_free_adamw": lambda lib: contrib(lib).schedule_free_adamw(0.01),
    "sgd": lambda lib: lib.sgd(0.05, momentum=0.9, nesterov=True),
    "sgd under a schedule": lambda lib: lib.sgd(lib.warmup_cosine_decay_schedule(0.0, 0.05, 3, 20), 0.9),
    "sm3": lambda lib: lib.sm3(0.05),
    "yogi": lambda lib: lib.yogi(0.01),
}  # fmt: skip


def start(lib: Any, name: str) -> Any:
    """The parameters that a run begins with."""
    return lib.LookaheadParams.init_synced(PARAMS) if name == "lookahead" else PARAMS


def step(opt: Any, lib: Any, params: Any, state: Any) -> tuple[Any, Any]:
    """The parameters and the state after one more step."""
    updates, state = opt.update(gradient(getattr(params, "fast", params)), state, params)
    return lib.apply_updates(params, updates), state


def record() -> dict[str, Any]:
    """What the file holds."""
    import optax

    found: dict[str, Any] = {"versions": [f"optax {optax.__version__}", f"jax {jax.__version__}"]}
    for name, make in METHODS.items():
        opt, params = make(optax), start(optax, name)
        state = opt.init(params)
        for _ in range(BEFORE):
            params, state = step(opt, optax, params, state)
        written, path = serialization.to_bytes(state), [params]
        for _ in range(AFTER):
            params, state = step(opt, optax, params, state)
            path.append(params)
        leaves = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)]) for params in path]
        found[name] = {"state": written, "params": np.stack(leaves)}
    return found


if __name__ == "__main__":
    FILE.write_bytes(serialization.msgpack_serialize(record()))
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
