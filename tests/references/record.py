"""What torch.optim does, recorded once: `python tests/references/record.py` writes torch-*.npz beside itself.

A file holds the parameters after each of 60 steps in float64, an array of shape (60, 20) per case (the leaves
of `SHAPES` one after the other), and the versions that made it. The gradients are not kept: `gradient` gives
them again from the parameters, to the last bit. The cases are `CASES`. torch is imported only to record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
STEPS = 60
SHAPES = ((), (7,), (3, 4))
SIZE = 20

# ---- the problem ----------------------------------------------------------------------------------------
# Only +, -, * and / over literals and a frozen random stream: the same bits on every machine.

_random = np.random.RandomState(20160607)
SCALE = np.array(
    [
        *[1e0],
        *[1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2],
        *[1e2, 3e1, 1e1, 3e0, 1e0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 1e-4],
    ]
)
TARGET = _random.uniform(-2.0, 2.0, SIZE)
START = _random.uniform(-1.0, 1.0, SIZE)
START[1::3] = 0.0  # here a parameter is the path itself: no large start hides an error of a small step
NOISE = _random.uniform(-1.0, 1.0, (STEPS, SIZE))
AWAKE = np.ones((STEPS, SIZE))  # 0 where a gradient is exactly zero
AWAKE[:2, 0] = AWAKE[:12, 3] = AWAKE[:5, 10] = AWAKE[:1, 17] = 0.0
AWAKE[:, 14] = 0.0
AWAKE[30:40, 6] = 0.0


def gradient(x: Any, noise: Any, awake: Any) -> Any:
    """An ill-conditioned quadratic with a ripple, plus noise; elementwise, for NumPy and JAX alike."""
    return awake * SCALE * (x - TARGET + x / (1.0 + x * x) + noise)


def gradients_along(path: np.ndarray) -> np.ndarray:
    """The gradients of a run whose parameters after each step are `path`; both (STEPS, SIZE)."""
    return gradient(np.concatenate([START[None], path[:-1]]), NOISE, AWAKE)


# ---- the cases ------------------------------------------------------------------------------------------


class Call(NamedTuple):
    """One factory and its arguments, so that a case is data."""

    factory: str
    arguments: dict[str, Any]


Recipe = tuple[Call, ...]  # one call, or several to be chained


def call(factory: str, **arguments: Any) -> Call:
    return Call(factory, arguments)


def make(module: Any, recipe: Recipe) -> Any:
    """The recipe with the factories of `module`: ours, or those of a peer with the same names."""
    pieces = [_made(module, piece) for piece in recipe]
    return pieces[0] if len(pieces) == 1 else module.chain(*pieces)


def _made(module: Any, value: Any) -> Any:
    if not isinstance(value, Call):
        return value
    arguments = {name: _made(module, argument) for name, argument in value.arguments.items()}
    return getattr(module, value.factory)(**arguments)


class Case(NamedTuple):
    """A torch optimizer, and ours that must follow it."""

    peer: str  # class in torch.optim
    variant: str
    options: dict[str, Any]  # of the peer
    ours: Recipe

    @property
    def name(self) -> str:
        return f"{self.peer.lower()}-torch-{self.variant}"


def amsgrad(**arguments: Any) -> Call:
    """torch keeps the maximum of the raw second moment and corrects its bias afterwards."""
    return call("amsgrad", maximum="raw", **arguments)


TORCH_RMSPROP = {"eps_in_sqrt": False, "lr_in_velocity": False}
DECAY = call("add_decayed_weights", weight_decay=0.1)  # before the rule: coupled, as torch's weight_decay
B80 = {"betas": (0.8, 0.95), "eps": 1e-3}  # far from the defaults, and ours for it
OUR_B80 = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}

CASES = (
    Case("SGD", "plain", {"lr": 4e-3}, (call("sgd", learning_rate=4e-3),)),
    Case("SGD", "defaults", {}, (call("sgd", learning_rate=1e-3),)),
    Case("SGD", "momentum", {"lr": 4e-3, "momentum": 0.9}, (call("sgd", learning_rate=4e-3, momentum=0.9),)),
    Case(
        "SGD",
        "nesterov",
        {"lr": 4e-3, "momentum": 0.8, "nesterov": True},
        (call("sgd", learning_rate=4e-3, momentum=0.8, nesterov=True),),
    ),
    Case(
        "SGD",
        "dampening",
        {"lr": 4e-3, "momentum": 0.9, "dampening": 0.3},
        (call("sgd", learning_rate=4e-3, momentum=0.9, dampening=0.3),),
    ),
    Case("SGD", "coupled_decay", {"lr": 4e-3, "weight_decay": 0.1}, (DECAY, call("sgd", learning_rate=4e-3))),
    Case(
        "SGD",
        "coupled_decay_momentum_dampening",
        {"lr": 4e-3, "weight_decay": 0.1, "momentum": 0.7, "dampening": 0.5},
        (DECAY, call("sgd", learning_rate=4e-3, momentum=0.7, dampening=0.5)),
    ),
    Case(
        "SGD",
        "coupled_decay_nesterov",
        {"lr": 4e-3, "weight_decay": 0.1, "momentum": 0.9, "nesterov": True},
        (DECAY, call("sgd", learning_rate=4e-3, momentum=0.9, nesterov=True)),
    ),
    Case(
        "Adagrad",
        "defaults",
        {},
        (call("adagrad", learning_rate=1e-2, initial_accumulator_value=0.0, eps=1e-10, eps_in_sqrt=False),),
    ),
    Case(
        "Adagrad",
        "eps_outside_root",
        {"lr": 0.3, "eps": 0.1},
        (call("adagrad", learning_rate=0.3, initial_accumulator_value=0.0, eps=0.1, eps_in_sqrt=False),),
    ),
    Case(
        "Adagrad",
        "initial_accumulator",
        {"lr": 0.3, "initial_accumulator_value": 0.5, "eps": 1e-3},
        (call("adagrad", learning_rate=0.3, initial_accumulator_value=0.5, eps=1e-3, eps_in_sqrt=False),),
    ),
    Case(
        "Adagrad",
        "lr_decay",
        {"lr": 0.3, "lr_decay": 0.05},
        (
            call(
                "adagrad",
                learning_rate=call("inverse_time_decay", init_value=0.3, transition_steps=1, decay_rate=0.05),
                initial_accumulator_value=0.0,
                eps=1e-10,
                eps_in_sqrt=False,
            ),
        ),
    ),
    Case(
        "Adagrad",
        "coupled_decay",
        {"lr": 0.3, "weight_decay": 0.1, "eps": 1e-6},
        (
            DECAY,
            call("adagrad", learning_rate=0.3, initial_accumulator_value=0.0, eps=1e-6, eps_in_sqrt=False),
        ),
    ),
    Case("RMSprop", "defaults", {}, (call("rmsprop", learning_rate=1e-2, decay=0.99, **TORCH_RMSPROP),)),
    Case(
        "RMSprop",
        "eps_outside_root",
        {"lr": 0.02, "alpha": 0.8, "eps": 1e-2},
        (call("rmsprop", learning_rate=0.02, decay=0.8, eps=1e-2, **TORCH_RMSPROP),),
    ),
    Case(
        "RMSprop",
        "centered",
        {"lr": 0.02, "alpha": 0.9, "eps": 1e-4, "centered": True},
        (call("rmsprop", learning_rate=0.02, decay=0.9, eps=1e-4, centered=True, **TORCH_RMSPROP),),
    ),
    Case(
        "RMSprop",
        "momentum",
        {"lr": 0.01, "alpha": 0.9, "momentum": 0.8},
        (call("rmsprop", learning_rate=0.01, decay=0.9, momentum=0.8, **TORCH_RMSPROP),),
    ),
    Case(
        "RMSprop",
        "centered_momentum",
        {"lr": 0.005, "alpha": 0.95, "eps": 1e-3, "momentum": 0.9, "centered": True},
        (
            call(
                "rmsprop",
                learning_rate=0.005,
                decay=0.95,
                eps=1e-3,
                momentum=0.9,
                centered=True,
                **TORCH_RMSPROP,
            ),
        ),
    ),
    Case(
        "RMSprop",
        "coupled_decay",
        {"lr": 0.02, "weight_decay": 0.1},
        (DECAY, call("rmsprop", learning_rate=0.02, decay=0.99, **TORCH_RMSPROP)),
    ),
    Case("Adadelta", "defaults", {}, (call("adadelta", learning_rate=1.0),)),
    Case(
        "Adadelta",
        "rho_eps",
        {"lr": 0.5, "rho": 0.95, "eps": 1e-3},
        (call("adadelta", learning_rate=0.5, rho=0.95, eps=1e-3),),
    ),
    Case(
        "Adadelta",
        "coupled_decay",
        {"lr": 0.7, "eps": 1e-4, "weight_decay": 0.1},
        (call("adadelta", learning_rate=0.7, eps=1e-4, weight_decay=0.1),),
    ),
    Case("Adam", "defaults", {}, (call("adam", learning_rate=1e-3),)),
    Case("Adam", "betas_eps", {"lr": 0.05, **B80}, (call("adam", learning_rate=0.05, **OUR_B80),)),
    Case(
        "Adam",
        "b1_zero",
        {"lr": 0.02, "betas": (0.0, 0.99)},
        (call("adam", learning_rate=0.02, b1=0.0, b2=0.99),),
    ),
    Case("Adam", "coupled_decay", {"lr": 0.02, "weight_decay": 0.1}, (DECAY, call("adam", learning_rate=0.02))),
    Case("Adam", "amsgrad_raw_maximum", {"amsgrad": True}, (amsgrad(learning_rate=1e-3),)),
    Case(
        "Adam",
        "amsgrad_raw_maximum_betas_eps_coupled_decay",
        {"lr": 0.05, **B80, "amsgrad": True, "weight_decay": 0.1},
        (DECAY, amsgrad(learning_rate=0.05, **OUR_B80)),
    ),
    Case(
        "Adam",
        "decoupled_decay",
        {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True},
        (call("adamw", learning_rate=0.02, weight_decay=0.1),),
    ),
    Case("AdamW", "defaults", {}, (call("adamw", learning_rate=1e-3, weight_decay=1e-2),)),
    Case(
        "AdamW",
        "betas_eps",
        {"lr": 0.05, **B80, "weight_decay": 0.1},
        (call("adamw", learning_rate=0.05, weight_decay=0.1, **OUR_B80),),
    ),
    Case(
        "AdamW",
        "amsgrad_raw_maximum",
        {"lr": 0.02, "betas": (0.9, 0.95), "weight_decay": 0.1, "amsgrad": True},
        (
            call("scale_by_amsgrad", b2=0.95, maximum="raw"),
            DECAY,
            call("scale_by_learning_rate", learning_rate=0.02),
        ),
    ),
    Case("NAdam", "defaults", {}, (call("nadam", learning_rate=2e-3, momentum_decay=4e-3),)),
    Case(
        "NAdam",
        "momentum_decay",
        {"lr": 0.05, **B80, "momentum_decay": 0.1},
        (call("nadam", learning_rate=0.05, momentum_decay=0.1, **OUR_B80),),
    ),
    Case(
        "NAdam",
        "coupled_decay",
        {"lr": 0.02, "weight_decay": 0.1},
        (DECAY, call("nadam", learning_rate=0.02, momentum_decay=4e-3)),
    ),
    Case(
        "NAdam",
        "decoupled_decay",
        {"lr": 0.02, "weight_decay": 0.1, "decoupled_weight_decay": True},
        (call("nadamw", learning_rate=0.02, momentum_decay=4e-3, weight_decay=0.1),),
    ),
    Case("Adamax", "defaults", {}, (call("adamax", learning_rate=2e-3),)),
    Case("Adamax", "betas_eps", {"lr": 0.05, **B80}, (call("adamax", learning_rate=0.05, **OUR_B80),)),
    Case(
        "Adamax",
        "coupled_decay",
        {"lr": 0.02, "weight_decay": 0.1},
        (DECAY, call("adamax", learning_rate=0.02)),
    ),
    Case("Rprop", "defaults", {}, (call("rprop", learning_rate=1e-2),)),
    Case(
        "Rprop",
        "etas_and_bounds",
        {"lr": 0.05, "etas": (0.7, 1.5), "step_sizes": (1e-3, 0.1)},
        (call("rprop", learning_rate=0.05, eta_minus=0.7, eta_plus=1.5, min_step_size=1e-3, max_step_size=0.1),),
    ),
    # up the hill, where a decay still draws to zero
    Case(
        "SGD",
        "maximize_nesterov",
        {"lr": 1e-4, "momentum": 0.8, "nesterov": True, "maximize": True},
        (call("maximize", tx=call("sgd", learning_rate=1e-4, momentum=0.8, nesterov=True)),),
    ),
    Case(
        "Adadelta",
        "maximize_coupled_decay",
        {"lr": 0.7, "eps": 1e-4, "weight_decay": 0.1, "maximize": True},
        (call("maximize", tx=call("adadelta", learning_rate=0.7, eps=1e-4, weight_decay=0.1)),),
    ),
    Case(
        "AdamW",
        "maximize_betas_eps",
        {"lr": 0.05, **B80, "weight_decay": 0.5, "maximize": True},
        (call("maximize", tx=call("adamw", learning_rate=0.05, weight_decay=0.5, **OUR_B80)),),
    ),
)

# ---- recording ------------------------------------------------------------------------------------------


def run_torch(case: Case) -> np.ndarray:
    """The parameters after each step, (STEPS, SIZE)."""
    import torch

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # NAdam keeps its product of momenta in this dtype
    try:
        ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])
        leaves = [torch.tensor(x.reshape(s)) for x, s in zip(np.split(START, ends[:-1]), SHAPES, strict=True)]
        optimizer = getattr(torch.optim, case.peer)(leaves, **case.options)
        path, x = [], START
        for noise, awake in zip(NOISE, AWAKE, strict=True):
            g = gradient(x, noise, awake)
            for leaf, part in zip(leaves, np.split(g, ends[:-1]), strict=True):
                leaf.grad = torch.tensor(part.reshape(leaf.shape))
            optimizer.step()
            x = np.concatenate([leaf.numpy().ravel() for leaf in leaves])
            path.append(x)
        return np.stack(path)
    finally:
        torch.set_default_dtype(default)


def record(folder: Path = HERE) -> list[Path]:
    """Run every case and write one file for each class of torch.optim; the files written."""
    import torch

    versions = np.array([f"torch {torch.__version__}", f"numpy {np.__version__}"])
    files = []
    for peer in dict.fromkeys(case.peer for case in CASES):
        paths = {case.variant: run_torch(case) for case in CASES if case.peer == peer}
        files.append(folder / f"torch-{peer.lower()}.npz")
        np.savez_compressed(files[-1], versions=versions, **paths)
    return files


def recorded(case: Case, folder: Path = HERE) -> np.ndarray:
    """What `record` wrote for this case."""
    with np.load(folder / f"torch-{case.peer.lower()}.npz") as file:
        return file[case.variant]


if __name__ == "__main__":
    for written in record():
        print(f"{written.stat().st_size:8d}  {written.name}")
