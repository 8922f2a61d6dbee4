"""Factors of learning rates by width from mup 1.0.0 (microsoft/mup on PyPI; with torch), written to mup-factors.json.

python tests/references/record_width.py

Each model: its leaves as torch calls them, with their shapes in the wide and the narrow model and, of mup's optimizers
made with a learning rate and a weight decay of 1, what each leaf is given.
"""

import json
from pathlib import Path

import mup
from torch import nn

HERE = Path(__file__).parent


class Perceptron(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.inputs = nn.Linear(12, n)
        self.block_0 = nn.Linear(n, n)
        self.block_1 = nn.Linear(n, 2 * n, bias=False)
        self.block_2 = nn.Linear(2 * n, n)
        self.head = mup.MuReadout(n, 5)


class Convolutions(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.conv_0 = nn.Conv2d(3, n, 3)
        self.norm_0 = nn.BatchNorm2d(n)
        self.conv_1 = nn.Conv2d(n, 2 * n, 3)
        self.norm_1 = nn.GroupNorm(2, 2 * n)
        self.conv_2 = nn.Conv2d(2 * n, 2 * n, 1, bias=False)
        self.classifier = mup.MuReadout(2 * n, 7)


class Block(nn.Module):
    def __init__(self, n, ratio=4):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.c_attn, self.c_proj = nn.Linear(n, 3 * n), nn.Linear(n, n)
        self.mlp_up, self.mlp_down = nn.Linear(n, ratio * n), nn.Linear(ratio * n, n)


class LanguageModel(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(50, n), nn.Embedding(16, n)
        self.blocks = nn.ModuleList([Block(n) for _ in range(2)])
        self.ln_f = nn.LayerNorm(n)
        self.lm_head = mup.MuReadout(n, 50, bias=False)


class Uneven(nn.Module):
    """Width 8 n, layers between of n**2: the two sides of a matrix grow at different rates."""

    def __init__(self, n):
        super().__init__()
        self.embedding = nn.Embedding(20, 8 * n)
        self.up = nn.Linear(8 * n, n * n)
        self.down = nn.Linear(n * n, 8 * n)
        self.head = mup.MuReadout(8 * n, 20)


class Recurrent(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.embedding = nn.Embedding(20, n)
        self.rnn = nn.LSTM(n, n, num_layers=2)
        self.head = mup.MuReadout(n, 20)


class Bottleneck(nn.Module):
    """A waist of fixed size, and a size that the wide model happens to share with the narrow one (see delta)."""

    def __init__(self, n, k):
        super().__init__()
        self.inputs = nn.Linear(10, n)
        self.narrowing = mup.MuReadout(n, 6)
        self.widening = nn.Linear(6, n)
        self.mixing = nn.Linear(n, k)
        self.head = mup.MuReadout(k, 3)


MODELS = {  # name: wide, narrow, a third that differs in every width
    "perceptron": (Perceptron(96), Perceptron(16), None),
    "convolutions": (Convolutions(32), Convolutions(8), None),
    "language_model": (LanguageModel(48), LanguageModel(16), None),
    "uneven": (Uneven(12), Uneven(4), None),
    "recurrent": (Recurrent(40), Recurrent(8), None),
    "bottleneck": (Bottleneck(64, 32), Bottleneck(16, 8), None),
    "same_size": (Bottleneck(64, 8), Bottleneck(16, 8), Bottleneck(20, 9)),
}


def factors(optimizer, model):
    """{leaf: [learning rate, weight decay]}."""
    names = {id(p): name for name, p in model.named_parameters()}
    groups = optimizer(model.parameters(), lr=1.0, weight_decay=1.0).param_groups
    return {names[id(p)]: [group["lr"], group["weight_decay"]] for group in groups for p in group["params"]}


def shapes(model):
    return {name: list(p.shape) for name, p in model.named_parameters()}


def record():
    found = {"source": "mup 1.0.0 from PyPI, MuAdamW and MuSGD; torch's layout"}
    for name, (wide, narrow, delta) in MODELS.items():
        mup.set_base_shapes(wide, narrow, delta=delta)
        found[name] = {
            "shapes": shapes(wide), "base": shapes(narrow), "delta": None if delta is None else shapes(delta),
            "adam": factors(mup.MuAdamW, wide), "sgd": factors(mup.MuSGD, wide),
        }  # fmt: skip
    return found


if __name__ == "__main__":
    text = json.dumps(record(), indent=1)
    (HERE / "mup-factors.json").write_text(text + "\n", encoding="utf-8")
