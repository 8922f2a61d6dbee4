"""Records what pytorch_optimizer's and torch's matrix methods do: `python tests/references/record_matrices.py`.

One matrix, 20 steps, float32, the gradient sin(3 x + k) at step k = 0, 1, …: params after every step. Those that
would orthogonalize in bfloat16 are made to do it in float32, but torch's own Muon.
"""

import functools
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent / "matrices"
STEPS, RATE = 20, 0.01
SHAPES = {"soap": (6, 6), "soap_options": (6, 6), "muon": (6, 24)}
SCION = ("spectral", "sign", "column", "row", "bias")
# name -> (class, its options)
CASES = {
    "soap": ("pytorch_optimizer.SOAP", {"weight_decay": 0.0}),
    "soap_options": (
        "pytorch_optimizer.SOAP",
        {"weight_decay": 0.0, "precondition_frequency": 3, "betas": (0.9, 0.99), "shampoo_beta": 0.8},
    ),
    "muon": ("torch.optim.Muon", {"weight_decay": 0.1}),
    "normuon": (
        "pytorch_optimizer.NorMuon",
        {"weight_decay": 0.1, "beta2": 0.9, "nesterov": False, "update_scale": "match_rms", "foreach": False},
    ),
    "adamuon": ("pytorch_optimizer.AdaMuon", {"weight_decay": 0.1, "betas": (0.95, 0.9)}),
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


def run(torch, name, maker, options):
    p = torch.nn.Parameter(torch.tensor(start(name)))
    optimizer = maker([{"params": [p], "use_muon": True}], lr=RATE, **options)
    path = []
    for k in range(STEPS):
        p.grad = torch.sin(3 * p.detach() + k)
        optimizer.step()
        path.append(p.detach().numpy().copy())
    return np.stack(path)


def main():
    import importlib

    import torch
    from pytorch_optimizer.optimizer import scion
    from pytorch_optimizer.optimizer.muon import adamuon, normuon

    for module in (scion, adamuon, normuon):
        newton_schulz = module.zero_power_via_newton_schulz_5
        module.zero_power_via_newton_schulz_5 = functools.partial(newton_schulz, dtype=torch.float32)

    for name, (maker, options) in CASES.items():
        module, cls = maker.rsplit(".", 1)
        np.savez_compressed(
            HERE / f"{name}.npz", path=run(torch, name, getattr(importlib.import_module(module), cls), options)
        )


if __name__ == "__main__":
    main()
