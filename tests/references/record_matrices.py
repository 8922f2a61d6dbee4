"""Records what pytorch_optimizer's and torch's matrix methods do: `python tests/references/record_matrices.py`.

One matrix, 20 steps, float32, the gradient sin(3 x + k) at step k = 0, 1, …: params after every step.
"""

from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "matrices"
STEPS, RATE = 20, 0.01
SHAPES = {"soap": (6, 6), "soap_options": (6, 6), "muon": (6, 24), "dion": (6, 8)}
# name -> (class, its options)
CASES = {
    "soap": ("pytorch_optimizer.SOAP", {"weight_decay": 0.0}),
    "soap_options": (
        "pytorch_optimizer.SOAP",
        {"weight_decay": 0.0, "precondition_frequency": 3, "betas": (0.9, 0.99), "shampoo_beta": 0.8},
    ),
    "muon": ("torch.optim.Muon", {"weight_decay": 0.1}),
    "dion": ("dion.dion_simple.Dion", {"weight_decay": 0.1, "rank": 3}),  # github.com/microsoft/dion, of 2025-08
}


def start(name):
    return np.random.default_rng(0).normal(size=SHAPES[name]).astype(np.float32)


def run(torch, name, maker, options):
    """Its path, and a random matrix that it started with."""
    torch.manual_seed(0)
    p = torch.nn.Parameter(torch.tensor(start(name)))
    optimizer = maker([p], lr=RATE, **options)
    path, drawn = [], {}
    if name == "dion":
        optimizer._init_opt_state_dion(p, optimizer.state[p])
        drawn["Q"] = optimizer.state[p]["Q"].numpy().copy()
    for k in range(STEPS):
        p.grad = torch.sin(3 * p.detach() + k)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return {"path": np.stack(path), **drawn}


def main():
    import importlib

    import torch

    for name, (maker, options) in CASES.items():
        module, cls = maker.rsplit(".", 1)
        made = run(torch, name, getattr(importlib.import_module(module), cls), options)
        np.savez_compressed(HERE / f"{name}.npz", **made)


if __name__ == "__main__":
    main()
