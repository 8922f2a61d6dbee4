"""Records what other libraries' matrix methods do: `python tests/references/record_matrices.py`.

One matrix, 20 steps, float32, the gradient sin(3 x + k) at step k = 0, 1, …: params after every step. Those that
would orthogonalize in bfloat16 are made to do it in float32, but torch's own Muon. Needs the `references` extra, and
`pip install --no-deps kron-torch apollo-torch`; Dion is that of github.com/microsoft/dion.
"""

import functools
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "matrices"
STEPS, RATE, GAP = 20, 0.01, 7
SHAPES = {"soap": (6, 6), "soap_options": (6, 6), "muon": (6, 24)}
SHAPES |= {
    "dion": (6, 8),
    "apollo": (6, 24),
    "apollo_mini": (6, 6),
    "splus": (6, 6),
    "kron": (4, 6),
    "kron_options": (5, 3),
}
RANDOM = {"proj": "random", "proj_type": "std", "update_proj_gap": GAP}
SCION = ("spectral", "sign", "column", "row", "bias")
# name -> (class, its options)
CASES = {
    "soap": ("pytorch_optimizer.SOAP", {"weight_decay": 0.0}),
    "soap_options": (
        "pytorch_optimizer.SOAP",
        {"weight_decay": 0.0, "precondition_frequency": 3, "betas": (0.9, 0.99), "shampoo_beta": 0.8},
    ),
    "muon": ("torch.optim.Muon", {"weight_decay": 0.1}),
    "dion": ("dion.dion_simple.Dion", {"weight_decay": 0.1, "rank": 3}),  # github.com/microsoft/dion, of 2025-08
    "apollo": ("apollo_torch.APOLLOAdamW", {"group": {**RANDOM, "rank": 4, "scale": 1, "scale_type": "channel"}}),
    "apollo_mini": ("apollo_torch.APOLLOAdamW", {"group": {**RANDOM, "rank": 1, "scale": 4, "scale_type": "tensor"}}),
    "normuon": (
        "pytorch_optimizer.NorMuon",
        {"weight_decay": 0.1, "beta2": 0.9, "nesterov": False, "update_scale": "match_rms", "foreach": False},
    ),
    "adamuon": ("pytorch_optimizer.AdaMuon", {"weight_decay": 0.1, "betas": (0.95, 0.9)}),
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
} | {
    f"scion_{norm}": (
        "pytorch_optimizer.SCION",
        {"norm_type": number, "momentum": 0.3, "scale": 0.7, "constraint": norm != "sign", "foreach": False},
    )
    for norm, number in zip(SCION, (2, 4, 6, 7, 5), strict=True)
}


def start(name):
    shape = SHAPES.get(name, (6,) if name == "scion_bias" else (4, 6))
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def probes(name):
    """What is random in a method, drawn anew at each call."""
    rng = np.random.default_rng(1)
    while True:
        yield rng.normal(size=SHAPES[name])


def run(torch, maker, options, name):
    """Its path, and the random matrices that it drew."""
    torch.manual_seed(0)
    draws = probes(name)
    torch.randn_like = lambda x: torch.tensor(next(draws), dtype=x.dtype)
    p = torch.nn.Parameter(torch.tensor(start(name)))
    group, drawn, path = dict(options.pop("group", {})), {}, []
    if "pytorch_optimizer" in maker.__module__:
        group["use_muon"] = True
    optimizer = maker([{"params": [p], **group}], lr=RATE, **options)
    if name == "dion":
        optimizer._init_opt_state_dion(p, optimizer.state[p])
        drawn["Q"] = optimizer.state[p]["Q"].numpy().copy()
    for k in range(STEPS):
        p.grad = torch.sin(3 * p.detach() + k)
        optimizer.step()
        path.append(p.detach().numpy().copy())
        if "rank" in group and k % GAP == 0:
            drawn[f"P{k // GAP}"] = optimizer.state[p]["projector"].ortho_matrix.numpy().copy()
    return {"path": np.stack(path), **drawn}


def main(*names):
    import importlib
    import sys
    from unittest.mock import MagicMock

    import torch
    from pytorch_optimizer.optimizer import scion
    from pytorch_optimizer.optimizer.muon import adamuon, normuon

    torch._dynamo.config.disable = True
    for module in (scion, adamuon, normuon):
        newton_schulz = module.zero_power_via_newton_schulz_5
        module.zero_power_via_newton_schulz_5 = functools.partial(newton_schulz, dtype=torch.float32)

    for name in names or CASES:
        maker, options = CASES[name]
        if maker.startswith("apollo"):  # it imports what is not used here
            for package in ("bitsandbytes", "transformers"):
                parts = ("", ".functional", ".optim", ".optim.optimizer", ".utils", ".utils.versions")
                sys.modules |= {package + part: MagicMock() for part in parts}
        module, cls = maker.rsplit(".", 1)
        made = run(torch, getattr(importlib.import_module(module), cls), {**options}, name)
        np.savez_compressed(HERE / f"{name}.npz", **made)


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
