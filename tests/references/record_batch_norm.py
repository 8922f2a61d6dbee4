"""What torch.nn.BatchNorm1d and 2d do: `python tests/references/record_batch_norm.py` writes torch-batchnorm.npz.

Six training steps in float64 and one of evaluation, for each case: y, the gradients of sum(y * y * PULL) / 2 by x, the
weight and the bias, and the running statistics after each step. The parameters move by a hundredth of their gradient.
torch is imported only to record.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

FILE = Path(__file__).parent / "torch-batchnorm.npz"
STEPS, FEATURES = 6, 3
FIELDS = ("y", "dx", "dweight", "dbias", "mean", "var")
_random = np.random.RandomState(20150211)


class Case(NamedTuple):
    """A layer of torch's and the shape of what it gets, features on axis 1."""

    shape: tuple[int, ...]
    options: dict[str, Any]

    @property
    def peer(self) -> str:
        return "BatchNorm2d" if len(self.shape) == 4 else "BatchNorm1d"


CASES = {
    "defaults": Case((5, FEATURES), {}),
    "options": Case((5, FEATURES), {"momentum": 0.4, "eps": 0.03}),
    "cumulative": Case((4, FEATURES), {"momentum": None}),
    "plain": Case((2, FEATURES), {"affine": False}),
    "sequence": Case((2, FEATURES, 4), {"momentum": 0.3}),
    "images": Case((2, FEATURES, 2, 3), {}),
    "images_cumulative": Case((1, FEATURES, 2, 2), {"momentum": None, "eps": 1e-3}),
}
# Features of different sizes, far from zero, and different in each batch.
INPUTS = {
    name: np.float64(
        np.float32(  # which both precisions hold
            10.0 * _random.uniform(-1.0, 1.0, (STEPS + 1, 1, FEATURES, *(1,) * (len(shape) - 2)))
            + _random.uniform(-1.0, 1.0, (STEPS + 1, *shape))
            * np.array([0.5, 1.0, 30.0]).reshape(FEATURES, *(1,) * (len(shape) - 2))
        )
    )
    for name, (shape, _) in CASES.items()
}
PULLS = {name: _random.uniform(0.5, 2.0, x.shape) for name, x in INPUTS.items()}
START = {"weight": np.array([1.0, 0.5, -2.0]), "bias": np.array([0.0, 3.0, -1.0])}


def run_torch(name: str) -> dict[str, np.ndarray]:
    """The fields after each step, the last one in evaluation: float64[STEPS + 1, ...]."""
    import torch

    case = CASES[name]
    layer = getattr(torch.nn, case.peer)(FEATURES, dtype=torch.float64, **case.options)
    params = dict(layer.named_parameters())
    with torch.no_grad():
        for key, param in params.items():
            param.copy_(torch.tensor(START[key]))
    rows: dict[str, list[np.ndarray]] = {field: [] for field in FIELDS}
    for step, (x, pull) in enumerate(zip(INPUTS[name], PULLS[name], strict=True)):
        layer.train(step < STEPS)
        layer.zero_grad()
        given = torch.tensor(x, requires_grad=True)
        y = layer(given)
        (y * y * torch.tensor(pull)).sum().div(2).backward()
        nothing = torch.zeros(0)
        seen = (y, given.grad, *(params[key].grad if params else nothing for key in START))
        for field, value in zip(FIELDS, (*seen, layer.running_mean, layer.running_var), strict=True):
            rows[field].append(value.detach().numpy().copy())
        with torch.no_grad():
            for param in params.values():
                param.sub_(0.01 * param.grad)
    return {field: np.stack(values) for field, values in rows.items()}


def record(file: Path = FILE) -> None:
    """Run every case and write one file, with the versions that made it."""
    import torch

    versions = np.array([f"torch {torch.__version__}", f"numpy {np.__version__}"])
    rows = {f"{name}.{field}": value for name in CASES for field, value in run_torch(name).items()}
    np.savez_compressed(file, versions=versions, **rows)


def recorded(name: str, file: Path = FILE) -> dict[str, np.ndarray]:
    """What `record` wrote for this case."""
    with np.load(file) as rows:
        return {field: rows[f"{name}.{field}"] for field in FIELDS}


if __name__ == "__main__":
    record()
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
