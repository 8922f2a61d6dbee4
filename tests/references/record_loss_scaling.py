"""What torch.amp.GradScaler does: `python tests/references/record_loss_scaling.py` writes torch-gradscaler.npz.

For each case: the scale after each step, and the parameter of SGD with momentum, whose gradient at step i is the scale
times GRADIENTS[i], or not finite where the case says so. torch is imported only to record.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

FILE = Path(__file__).parent / "torch-gradscaler.npz"
STEPS, RATE, MOMENTUM = 120, 0.125, 0.5
_random = np.random.RandomState(20171010)
GRADIENTS = np.float32(_random.randint(-8, 9, STEPS)) / np.float32(4)


class Case(NamedTuple):
    """How the scaler is made, and the gradients that overflow."""

    init_scale: float
    period: int
    factor: float
    bad: np.ndarray  # float32[STEPS]  0, or what the gradient is instead


def _bad(share: float, *values: float) -> np.ndarray:
    picked = np.float32(_random.choice(np.float32(values), STEPS))
    return np.where(_random.uniform(size=STEPS) < share, picked, np.float32(0))


_rows = np.zeros(STEPS, np.float32)
_rows[[0, 1, 2, 20, 40, 41, 61, 62, 80, 101]] = np.inf  # in rows, and just before and at the end of a period
CASES = {
    "rare": Case(2.0**15, 7, 2.0, _bad(0.05, np.inf, -np.inf, np.nan)),
    "often": Case(2.0**10, 3, 2.0, _bad(0.3, np.inf, np.nan)),
    "in rows": Case(2.0**12, 20, 2.0, _rows),
    "never": Case(1.0, 10, 2.0, _bad(0.0, np.inf)),
    "each step": Case(4.0, 1, 2.0, _bad(0.45, -np.inf)),
    "by four": Case(2.0**8, 5, 4.0, _bad(0.15, np.nan)),
}


def run_torch(name: str) -> tuple[np.ndarray, np.ndarray]:
    """(scales, parameters) after each step, float32[STEPS] each."""
    import torch

    case, w = CASES[name], torch.zeros(1, requires_grad=True)
    opt = torch.optim.SGD([w], lr=RATE, momentum=MOMENTUM)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=case.init_scale, growth_factor=case.factor, backoff_factor=1 / case.factor,
        growth_interval=case.period,
    )  # fmt: skip
    scales, params = [], []
    for g, bad in zip(GRADIENTS, case.bad, strict=True):
        opt.zero_grad()
        scaler.scale((w * float(g)).sum()).backward()
        if bad != 0:
            w.grad.fill_(float(bad))
        scaler.step(opt)
        scaler.update()
        scales.append(scaler.get_scale())
        params.append(w.item())
    return np.float32(scales), np.float32(params)


def record(file: Path = FILE) -> None:
    """Run every case and write one file, with the versions that made it."""
    import torch

    rows = {name: np.stack(run_torch(name)) for name in CASES}
    np.savez_compressed(file, versions=np.array([f"torch {torch.__version__}", f"numpy {np.__version__}"]), **rows)


def recorded(name: str, file: Path = FILE) -> tuple[np.ndarray, np.ndarray]:
    """What `record` wrote for this case: (scales, parameters)."""
    with np.load(file) as rows:
        scales, params = rows[name]
    return scales, params


if __name__ == "__main__":
    record()
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
