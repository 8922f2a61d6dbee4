"""Records what the methods of other libraries do: `python tests/references/record_methods.py [METHOD …]`.

The problem, the steps and the form of the files are those of record.py: methods/METHOD.npz has the parameters after
each of 60 steps for each variant, in float64, and the versions of what made them. Needs torch and, beside each other,
`pip install --no-deps` of the packages that `CASES` names.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
from references.record import AWAKE, NOISE, SHAPES, START, Recipe, call, gradient

HERE = Path(__file__).parent / "methods"


class Case(NamedTuple):
    """Another library's optimizer, and ours that must follow it."""

    peer: str  # package.module.Class
    variant: str
    options: dict[str, Any]  # of the peer
    ours: Recipe
    begin: Callable[..., Any] | None = None  # (class, leaves, options) -> optimizer, if not class(leaves, **options)
    extra: Mapping[str, Any] = {}  # what our update is given beside

    @property
    def method(self) -> str:
        return next(piece.factory for piece in self.ours if piece.factory != "add_decayed_weights")

    @property
    def name(self) -> str:
        return f"{self.method}-{self.peer.partition('.')[0]}-{self.variant}"

    def recorded(self, folder: Path = HERE) -> np.ndarray:
        """The parameters after each step, float64[60, 20]."""
        with np.load(folder / f"{self.method}.npz") as file:
            return file[f"{self.peer.partition('.')[0]}-{self.variant}"]


def named(*names: str) -> Callable[..., Any]:
    """For optimizers that take (name, parameter) pairs."""

    def begin(cls: Any, leaves: list[Any], options: dict[str, Any]) -> Any:
        return cls(list(zip(names, leaves, strict=True)), **options)

    return begin


def told(value: float) -> Callable[..., Any]:
    """For optimizers that are told the loss."""

    def begin(cls: Any, leaves: list[Any], options: dict[str, Any]) -> Any:
        optimizer = cls(leaves, **options)
        optimizer.train()
        return types.SimpleNamespace(step=lambda: optimizer.step_func(value))

    return begin


def warming_as_published(cls: Any, leaves: list[Any], options: dict[str, Any]) -> Any:
    """SPAM with the warm-up of its authors' code, whose scheduler is told the steps since the reset.

    pytorch_optimizer moves it by one step more.
    """
    cosine = sys.modules[cls.__module__].CosineDecay
    cosine.step = lambda self, steps: self.cosine_stepper.step(steps)
    return cls(leaves, **options)


def sparse(cls: Any, leaves: list[Any], options: dict[str, Any]) -> Any:
    """For gradients of which zeros are left out; a scalar has none, and is Adam's."""
    import torch

    class Both:
        def __init__(self) -> None:
            self.sparse, self.dense = cls(leaves[1:], **options), torch.optim.Adam(leaves[:1], **options)

        def step(self) -> None:
            for leaf in leaves[1:]:
                leaf.grad = leaf.grad.to_sparse()
            self.sparse.step()
            self.dense.step()

    return Both()


B80 = {"betas": (0.8, 0.95), "eps": 1e-3}  # far from the defaults, and ours for it
OUR_B80 = {"b1": 0.8, "b2": 0.95, "eps": 1e-3}
DECAY = call("add_decayed_weights", weight_decay=0.1)  # before the rule: coupled
MINI = {"verbose": False, "dim": 6, "n_heads": 3}  # a head has 6 * 6 / 3 elements: the whole matrix
BLOCKS = {"scalar": None, "inner": [(1,), {"matrix": (3, 1)}]}
HEAD = {"scalar": None, "inner": [(1,), {"matrix": (1, 1)}]}
MATRIX_ALONE = {"scalar": False, "inner": [False, {"matrix": True}]}

CASES = (
    Case("timm.optim.laprop.LaProp", "defaults", {}, (call("laprop", learning_rate=4e-4),)),
    Case(
        "timm.optim.laprop.LaProp",
        "betas_eps",
        {"lr": 0.05, **B80, "foreach": False},  # its decay shrinks the parameters after the step
        (call("laprop", learning_rate=0.05, **OUR_B80),),
    ),
    Case(
        "pytorch_optimizer.Grams",
        "defaults",
        {"lr": 1e-3, "foreach": False},
        (call("grams", learning_rate=1e-3),),
    ),
    Case(
        "pytorch_optimizer.Grams",
        "betas_eps_decay",
        {"lr": 0.05, **B80, "weight_decay": 0.1, "weight_decouple": True, "foreach": False},
        (call("grams", learning_rate=0.05, weight_decay=0.1, **OUR_B80),),
    ),
    Case(
        "optimi.StableAdamW",
        "defaults",
        {"lr": 1e-3, "triton": False, "foreach": False},
        (call("stable_adamw", learning_rate=1e-3),),
    ),
    Case(
        "optimi.StableAdamW",
        "betas_eps_decay",
        {"lr": 0.05, **B80, "weight_decay": 0.1, "triton": False, "foreach": False},
        (call("stable_adamw", learning_rate=0.05, weight_decay=0.1, **OUR_B80),),
    ),
    Case("came_pytorch.CAME", "defaults", {"lr": 2e-4}, (call("came", learning_rate=2e-4),)),
    Case(
        "came_pytorch.CAME",
        "betas_eps_clipping_decay",
        {"lr": 0.01, "betas": (0.8, 0.95, 0.9), "eps": (1e-6, 1e-3), "clip_threshold": 0.3, "weight_decay": 0.1},
        (
            call("came", learning_rate=0.01, b1=0.8, b2=0.95, b3=0.9, eps=1e-6, eps_confidence=1e-3,
                 clipping_threshold=0.3, weight_decay=0.1),
        ),
    ),
    Case(
        "adam_mini.Adam_mini",
        "bias_norm_output",
        {"lr": 1e-3, **MINI},
        (call("adam_mini", learning_rate=1e-3, blocks=BLOCKS),),
        named("fc.bias", "norm.weight", "mlp.weight"),
    ),
    Case(
        "adam_mini.Adam_mini",
        "bias_norm_head_decay",
        {"lr": 0.05, **B80, "weight_decay": 0.1, **MINI},
        (call("adam_mini", learning_rate=0.05, blocks=HEAD, weight_decay=0.1, mask=MATRIX_ALONE, **OUR_B80),),
        named("fc.bias", "norm.weight", "q_proj.weight"),
    ),
    Case("qhoptim.pyt.QHM", "defaults", {"lr": 1e-2, "nu": 0.7, "momentum": 0.999}, (call("qhm", learning_rate=1e-2),)),
    Case(
        "qhoptim.pyt.QHM",
        "nu_decay",
        {"lr": 4e-3, "nu": 0.4, "momentum": 0.9, "weight_decay": 0.1, "weight_decay_type": "direct"},
        (call("qhm", learning_rate=4e-3, nu=0.4, momentum=0.9, weight_decay=0.1),),
    ),
    Case(
        "qhoptim.pyt.QHAdam",
        "defaults",
        {"lr": 1e-3, "nus": (0.7, 1.0), "betas": (0.995, 0.999)},
        (call("qhadam", learning_rate=1e-3),),
    ),
    Case(
        "qhoptim.pyt.QHAdam",
        "nus_betas_eps_decay",
        {"lr": 0.05, "nus": (0.4, 0.8), **B80, "weight_decay": 0.1, "decouple_weight_decay": True},
        (call("qhadam", learning_rate=0.05, nu1=0.4, nu2=0.8, weight_decay=0.1, **OUR_B80),),
    ),
    Case("torch_optimizer.AggMo", "defaults", {}, (call("aggmo", learning_rate=1e-3),)),
    Case(
        "torch_optimizer.AggMo",
        "betas_coupled_decay",
        {"lr": 4e-3, "betas": (0.3, 0.6), "weight_decay": 0.1},
        (DECAY, call("aggmo", learning_rate=4e-3, betas=(0.3, 0.6))),
    ),
    Case(
        "pytorch_optimizer.FTRL",
        "defaults",
        {"lr": 0.1, "foreach": False},
        (call("ftrl", learning_rate=0.1, beta=0.0),),
    ),
    Case(
        "pytorch_optimizer.FTRL",
        "beta_l1_l2",
        {"lr": 0.5, "beta": 1.0, "lambda_1": 0.1, "lambda_2": 0.01, "foreach": False},
        (call("ftrl", learning_rate=0.5, l1=0.1, l2=0.01),),
    ),
    Case("torch_optimizer.AdaBound", "defaults", {}, (call("adabound", learning_rate=1e-3),)),
    Case(
        "torch_optimizer.AdaBound",
        "betas_eps_bounds_coupled_decay",
        {"lr": 0.05, **B80, "final_lr": 0.01, "gamma": 0.05, "weight_decay": 0.1},
        (DECAY, call("adabound", learning_rate=0.05, final_learning_rate=0.01, gamma=0.05, **OUR_B80)),
    ),
    Case("timm.optim.adamp.AdamP", "defaults", {}, (call("adamp", learning_rate=1e-3, channel_axis=0),)),
    Case(
        "timm.optim.adamp.AdamP",
        "betas_eps_decay_channels",
        {"lr": 0.05, **B80, "weight_decay": 0.1, "delta": 0.3},
        (call("adamp", learning_rate=0.05, weight_decay=0.1, delta=0.3, channel_axis=0, **OUR_B80),),
    ),
    Case(
        "timm.optim.adamp.AdamP",
        "everywhere_nesterov_decay",
        {"lr": 0.05, "weight_decay": 0.1, "delta": 10.0, "wd_ratio": 0.5, "nesterov": True},
        (
            call("adamp", learning_rate=0.05, weight_decay=0.1, delta=10.0, wd_ratio=0.5, nesterov=True,
                 channel_axis=0),
        ),
    ),
    Case(
        "timm.optim.sgdp.SGDP",
        "momentum",
        {"lr": 4e-3, "momentum": 0.9},
        (call("sgdp", learning_rate=4e-3, channel_axis=0),),
    ),
    Case(
        "timm.optim.sgdp.SGDP",
        "everywhere_nesterov_decay",
        {"lr": 4e-3, "momentum": 0.5, "weight_decay": 0.1, "delta": 10.0, "wd_ratio": 0.5, "nesterov": True},
        (
            call("sgdp", learning_rate=4e-3, momentum=0.5, weight_decay=0.1, delta=10.0, wd_ratio=0.5, nesterov=True,
                 channel_axis=0),
        ),
    ),
    Case(
        "pytorch_optimizer.SPAM",
        "resets_clipping",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-30, "threshold": 2, "update_proj_gap": 20, "warmup_epoch": 6,
         "grad_accu_steps": 5, "foreach": False},
        (
            call("spam", learning_rate=0.05, b1=0.8, b2=0.95, eps=1e-30, threshold=2.0, reset_every=20,
                 warmup_steps=6, grace=5),
        ),
        begin=warming_as_published,
    ),
    Case(
        "pytorch_optimizer.SPAM",
        "warmup_long_unclipped",
        {"lr": 0.05, "eps": 1e-30, "threshold": 0, "update_proj_gap": 25, "warmup_epoch": 20, "foreach": False},
        (
            call("spam", learning_rate=0.05, eps=1e-30, threshold=float("inf"), reset_every=25, warmup_steps=20),
        ),
        begin=warming_as_published,
    ),
    Case("pytorch_optimizer.StableSPAM", "defaults", {}, (call("stable_spam", learning_rate=1e-3),)),
    Case(
        "pytorch_optimizer.StableSPAM",
        "betas_eps_decay_resets",
        {"lr": 0.05, **B80, "weight_decay": 0.1, "gamma1": 0.6, "gamma2": 0.8, "theta": 0.9, "update_proj_gap": 20},
        (
            call("stable_spam", learning_rate=0.05, gamma1=0.6, gamma2=0.8, theta=0.9, reset_every=20,
                 weight_decay=0.1, **OUR_B80),
        ),
    ),
    Case("dadaptation.DAdaptSGD", "defaults", {}, (call("dadapt_sgd"),)),
    Case(
        "dadaptation.DAdaptSGD",
        "momentum_rate",
        {"lr": 0.5, "momentum": 0.9, "d0": 1e-3},
        (call("dadapt_sgd", learning_rate=0.5, momentum=0.9, estim_lr0=1e-3),),
    ),
    Case("dadaptation.DAdaptLion", "defaults", {}, (call("dadapt_lion"),)),
    Case(
        "dadaptation.DAdaptLion",
        "betas_rate_decay",
        {"lr": 0.5, "betas": (0.8, 0.95), "d0": 1e-3, "weight_decay": 0.1},
        (call("dadapt_lion", learning_rate=0.5, b1=0.8, b2=0.95, estim_lr0=1e-3, weight_decay=0.1),),
    ),
    Case(
        "torch.optim.SparseAdam",
        "elements",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-30},
        (call("lazy_adam", learning_rate=0.05, b1=0.8, b2=0.95, eps=1e-30,
              rows={"scalar": 0, "inner": [1, {"matrix": 2}]}),),
        sparse,
    ),
    Case(
        "schedulefree.adamc_schedulefree_plus_paper.AdamCScheduleFreePlusPaper",
        "defaults",
        {},
        (call("schedule_free_plus"),),
        told(3.0),
        {"value": 3.0},
    ),
    Case(
        "schedulefree.adamc_schedulefree_plus_paper.AdamCScheduleFreePlusPaper",
        "annealed_weighted_decay",
        {"lr": 0.5, **B80, "weight_decay": 20.0, "sf_beta1": 0.8, "sf_beta1_max": 0.95, "sf_beta1_anneal_steps": 40,
         "r": 2, "c_warmup": 5},
        (
            call("schedule_free_plus", learning_rate=0.5, weight_decay=20.0, momentum=0.8, final_momentum=0.95,
                 anneal_steps=40, weight_power=2.0, average_from=5, **OUR_B80),
        ),
        told(30.0),
        {"value": 30.0},
    ),
    Case(
        "optimi.AdamW",
        "independent_decay",
        {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 3e-3, "decouple_lr": True, "max_lr": 0.02,
         "triton": False, "foreach": False},
        (call("adam", learning_rate=0.02, **OUR_B80), call("independent_weight_decay", weight_decay=3e-3)),
    ),
)  # fmt: skip


def run(case: Case) -> np.ndarray:
    """The parameters after each step, (60, 20)."""
    import torch

    package, _, cls = case.peer.rpartition(".")
    default, was = torch.get_default_dtype(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    try:
        ends = np.cumsum([int(np.prod(shape)) for shape in SHAPES])
        parts = [x.reshape(s) for x, s in zip(np.split(START, ends[:-1]), SHAPES, strict=True)]
        leaves = [torch.nn.Parameter(torch.tensor(part)) for part in parts]
        maker = getattr(importlib.import_module(package), cls)
        optimizer = case.begin(maker, leaves, case.options) if case.begin else maker(leaves, **case.options)
        path, x = [], START
        for noise, awake in zip(NOISE, AWAKE, strict=True):
            g = gradient(x, noise, awake)
            for leaf, part in zip(leaves, np.split(g, ends[:-1]), strict=True):
                leaf.grad = torch.tensor(part.reshape(leaf.shape))
            optimizer.step()
            x = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves]).astype(np.float64)
            path.append(x)
        return np.stack(path)
    finally:
        torch.set_default_dtype(default)
        torch.set_grad_enabled(was)


def record(*methods: str, folder: Path = HERE) -> list[Path]:
    """Run the cases of these methods, or all, and write one file for each method; the files written."""
    import torch

    torch._dynamo.config.disable = True
    found = importlib.util.find_spec("timm")
    if found is not None:  # its optimizers, without its models, which need torchvision
        root = next(iter(found.submodule_search_locations or ()))
        for name, path in (("timm", root), ("timm.optim", f"{root}/optim")):
            sys.modules[name] = types.ModuleType(name)
            sys.modules[name].__path__ = [path]
    files = []
    folder.mkdir(exist_ok=True)
    for method in dict.fromkeys(case.method for case in CASES):
        if methods and method not in methods:
            continue
        own = [case for case in CASES if case.method == method]
        packages = dict.fromkeys(("torch", "numpy", *(case.peer.partition(".")[0] for case in own)))
        distributions = importlib.metadata.packages_distributions()
        versions = [f"{x} {importlib.metadata.version(distributions.get(x, [x])[0])}" for x in packages]
        paths = {f"{case.peer.partition('.')[0]}-{case.variant}": run(case) for case in own}
        files.append(folder / f"{method}.npz")
        np.savez_compressed(files[-1], versions=np.array(versions), **paths)
    return files


if __name__ == "__main__":
    for written in record(*sys.argv[1:]):
        print(f"{written.stat().st_size:8d}  {written.name}")
