"""What the authors' code of ZClip, AdaGC and OLMo's skipped steps does: 60 steps in float64, into run-safety.npz.

    PYTHONPATH=FOLDER python tests/references/record_run_safety.py

FOLDER has the folders `zclip` of github.com/bluorion-com/ZClip, `pytorch_optimizer` of kozistr/pytorch_optimizer and
`olmo_core` of allenai/OLMo-core (src/olmo_core; of it one file is read). torch is imported only to record.

Gradients are some thousands long, so that an eps of 1e-6 that the authors add to a norm is below 1e-9 of it. Of AdaGC,
whose joint norm is a square without its root there and in float32, one trajectory is recorded as it is, with gradients
that its warm-up does not clip, and one with the root.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "run-safety.npz"
STEPS, SHAPES, WINDOW = 60, ((3, 2), (4,)), 16
_random = np.random.RandomState(2504)
NOISE = _random.standard_normal((STEPS, 10))
SPIKES = {20: 6.0, 33: 40.0, 34: 25.0, 47: 3.0, 55: 400.0}
LOSSES = 3 + 0.1 * _random.standard_normal(STEPS) - 0.01 * np.arange(STEPS)
LOSSES[[31, 40]] = 9.0, 30.0
ZCLIP = {
    "zclip": {"max_grad_norm": None},
    "zclip_short": {"max_grad_norm": None, "alpha": 0.9, "z_thresh": 2.0, "warmup_steps": 10},
    "zclip_bounded": {"max_grad_norm": 9e3},
}
ADAGC = {"adagc": 0.2, "adagc_rooted": 3e3}  # the length of gradients
ADAGC_WORDS = {"lambda_abs": 1.0, "lambda_rel": 1.05, "beta": 0.9, "warmup_steps": 15}
RATE = 0.01


def gradients(x: np.ndarray, k: int, size: float) -> np.ndarray:
    """[10] for the parameters x[10] at step k."""
    return size * (1 + 0.2 * NOISE[k, 0]) * SPIKES.get(k, 1.0) * (np.sin(3 * x + k) + 0.3 * NOISE[k])


def _leaves(torch):
    parts = np.split(np.linspace(-1, 1, 10), [6])
    return [torch.tensor(p.reshape(s), requires_grad=True) for p, s in zip(parts, SHAPES, strict=True)]


def _flat(leaves):
    return np.concatenate([x.detach().numpy().ravel() for x in leaves])


def _set(torch, leaves, g):
    for x, part, s in zip(leaves, np.split(g, [6]), SHAPES, strict=True):
        x.grad = torch.tensor(part.reshape(s))


def run_zclip(words):
    """float64[STEPS, 10]"""
    import torch
    from zclip.zclip import ZClip

    clip, leaves, path = ZClip(**words), _leaves(torch), []
    model = torch.nn.Module()
    model.params = torch.nn.ParameterList([torch.nn.Parameter(x.detach()) for x in leaves])
    leaves = list(model.parameters())
    for k in range(STEPS):
        _set(torch, leaves, gradients(_flat(leaves), k, 3e3))
        clip.step(model)
        with torch.no_grad():
            for leaf in leaves:
                leaf.sub_(1e-6 * leaf.grad)
        path.append(_flat(leaves))
    return np.stack(path)


def run_adagc(size, rooted):
    """float64[STEPS, 10]"""
    import torch
    from pytorch_optimizer import AdaGC
    from pytorch_optimizer.optimizer import adagc

    leaves, path, given = _leaves(torch), [], adagc.get_global_gradient_norm
    if rooted:
        adagc.get_global_gradient_norm = lambda groups: torch.sqrt(
            sum((p.grad**2).sum() for group in groups for p in group["params"])
        )
    try:
        opt = AdaGC(leaves, lr=RATE, weight_decay=0.0, **ADAGC_WORDS)
        for k in range(STEPS):
            _set(torch, leaves, gradients(_flat(leaves), k, size if k >= 15 or rooted else size / SPIKES.get(k, 1.0)))
            opt.step()
            path.append(_flat(leaves))
    finally:
        adagc.get_global_gradient_norm = given
    return np.stack(path)


def run_olmo():
    """float64[STEPS, 10]: a step that OLMo's rule leaves out is taken out of what it remembers, too."""
    import torch

    root = next(Path(p) / "olmo_core" for p in sys.path if (Path(p) / "olmo_core").is_dir())
    utils = types.ModuleType("olmo_core.utils")  # the rest of it needs a dozen packages
    utils.get_default_device, utils.move_to_device = lambda: torch.device("cpu"), lambda x, device: x.to(device)
    sys.modules["olmo_core.utils"] = utils
    spec = importlib.util.spec_from_file_location("skip_step", root / "optim" / "skip_step_optimizer.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    x = np.linspace(-1, 1, 10)
    opt = module.SkipStepOptimizer([torch.nn.Parameter(torch.zeros(1))], {}, WINDOW, 6)
    path = []
    for k in range(STEPS):
        g = gradients(x, k, 3e3)
        opt.latest_loss, opt.latest_grad_norm = torch.tensor(LOSSES[k]), torch.tensor(np.sqrt(np.sum(g**2)))
        if float(opt.get_step_factor()):
            x = x - 1e-6 * g
        else:
            opt._losses.pop()
            opt._grad_norms.pop()
        path.append(x)
    return np.stack(path)


def record(file: Path = FILE) -> None:
    """Run all and write one file, with the versions that made it."""
    import torch

    rows = {name: run_zclip(words) for name, words in ZCLIP.items()}
    rows |= {name: run_adagc(size, name.endswith("rooted")) for name, size in ADAGC.items()}
    rows["olmo"] = run_olmo()
    versions = np.array([f"torch {torch.__version__}", f"numpy {np.__version__}"])
    np.savez_compressed(file, versions=versions, **rows)


def recorded(name: str, file: Path = FILE) -> np.ndarray:
    """What `record` wrote: float64[STEPS, 10], the parameters after each step."""
    with np.load(file) as rows:
        return rows[name]


if __name__ == "__main__":
    record()
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
