"""Records what the matrix methods of other packages do: `python tests/references/record_matrices.py`.

One matrix, 20 steps, float32, the gradient sin(3 x + k) at step k = 0, 1, …: params after every step.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "matrices"
STEPS, RATE = 20, 0.01
SHAPES = {
    "soap": (6, 6),
    "soap_options": (6, 6),
    "muon": (6, 24),
    "splus": (6, 6),
    "kron": (4, 6),
    "kron_options": (5, 3),
}
# name -> (class, its options)
CASES = {
    "soap": ("pytorch_optimizer.SOAP", {"weight_decay": 0.0}),
    "soap_options": (
        "pytorch_optimizer.SOAP",
        {"weight_decay": 0.0, "precondition_frequency": 3, "betas": (0.9, 0.99), "shampoo_beta": 0.8},
    ),
    "muon": ("torch.optim.Muon", {"weight_decay": 0.1}),
    "splus": ("pytorch_optimizer.SPlus", {"weight_decay": 0.0, "betas": (0.8, 0.9), "inverse_steps": 4}),
    "kron": ("kron_torch.Kron", {"weight_decay": 0.1}),
    "kron_options": (
        "kron_torch.Kron",
        {
            "preconditioner_update_probability": 0.4,
            "memory_save_mode": "one_diag",
            "momentum_into_precond_update": False,
            "precond_lr": 0.3,
            "precond_init_scale": 0.5,
        },
    ),
}


def start(name):
    return np.random.default_rng(0).normal(size=SHAPES[name]).astype(np.float32)


def probes(name):
    """What is random in a method, drawn anew at each call."""
    rng = np.random.default_rng(1)
    while True:
        yield rng.normal(size=SHAPES[name])


def run(torch, name, maker, options):
    draws = probes(name)
    torch.randn_like = lambda x: torch.tensor(next(draws), dtype=x.dtype)
    p = torch.nn.Parameter(torch.tensor(start(name)))
    optimizer = maker([p], lr=RATE, **options)
    path = []
    for k in range(STEPS):
        p.grad = torch.sin(3 * p.detach() + k)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.stack(path)


def main():
    import importlib

    import torch

    torch._dynamo.config.disable = True
    for name, (maker, options) in CASES.items():
        module, cls = maker.rsplit(".", 1)
        np.savez_compressed(
            HERE / f"{name}.npz", path=run(torch, name, getattr(importlib.import_module(module), cls), options)
        )


if __name__ == "__main__":
    main()
