"""What other libraries store in few bits: `python tests/references/record_low_precision.py` writes low-precision.npz.

Needs `pip install torch==2.13.0 torchao==0.18.0 flashoptim-jax==0.1.0 bitsandbytes==0.50.2`, and a CPU. `versions`
names what made the file, `recorded` opens it. The entries, blocks along the last axis, float32 where nothing is said:

Given to the quantizers
* `m` [4, 512]: signed, heavy tails; v = `square(m)`, which is not kept. Of the halves of its rows, a block of 256 each,
  0 1 | 2 3 | 4 5 | 6 7: 1 has a fifth of exact zeros, 2 is all zero, 3 of 1e-12, 4 of 1e6, 5 of 1e-6 with its third
  block of 32 all zero.
* `ties.signed8`, `ties.unsigned8` [1, 256]: the midpoints of neighbours of torchao's 8-bit maps, and 1.
  `ties.signed4`, `ties.unsigned4` [1, 128]: those of its 4-bit maps, over and over, a half of the signs turned.
  `ties.root` [1, 256]: (k + 1/2)**2 for k = 0, …, 254, and 255**2: ties where a block has its scale from 255.

torchao 0.18, optim: `zeros(shape, signed).copy_(x)` of a class, its fields and `dequantize()`
* `torchao8.map.signed`, `torchao8.map.unsigned` [256], `torchao4.map.signed`, `torchao4.map.unsigned` [16]: the values
  of codes 0, 1, …: `qmap`, which is `create_dynamic_map(signed)` of optim.quant_utils, `create_dynamic_map(True, 3, 4)`
  and `linspace(0, 1, 17)[1:]`.
* `torchao8.{m,v,ties.signed8,ties.unsigned8}.{codes,scales,values}`: OptimState8bit, blocks of 256: uint8[shape of x],
  [rows, blocks], [shape of x]; scaled by `scale_tensor`, coded by `quantize_8bit_with_qmap`.
* `torchao4.{m,v,ties.signed4,ties.unsigned4}.{codes,scales,values}`: OptimState4bit, blocks of 128; the codes are taken
  out of their bytes, the upper half of a byte first: one uint8 in 0, …, 15 for each number; `quantize_4bit_with_qmap`.
* `torchao_fp8.{m,v}.{codes,scales,values}`: OptimStateFp8, blocks of 256, `quantize_fp8`; the codes are the bits of
  float8_e4m3fn as uint8.
* `stochastic.x` [4096], `stochastic.random` uint16[4096], `stochastic.bits` uint16[4096]: `_fp32_to_bf16_sr` of
  optim.quant_utils for the random integers that are given here in place of torch.randint's; the bits of its bfloat16.
  The exponents of x are of all sizes, 64 of x subnormal; the last 16 are `SPECIAL`. Its rule takes no heed of NaN: of
  these 0x7F800001 becomes infinite and 0x7FFFFFFF -0, and the bits of the other two are the processor's.

flashoptim-jax 0.1.0: blocks of 32, scales in float16, which overflow and underflow here: values of inf, NaN and 0
* `flash.m.{codes,scales,values}` int8, float16[rows, blocks]: quantization.quantize_momentum, dequantize_momentum.
* `flash.v.…`, `flash.ties.root.…` uint8: quantize_variance, dequantize_variance.
* `split.x` [2048], `split.narrow` uint16[2048], `split24.rho` int8, `split32.rho` int16, `split24.values`,
  `split32.values`: compression.split_leaf with master_weight_bits 24 and 32, the bits of its bfloat16, its corrections,
  and reconstruct_leaf. The exponents of x go from -30 to 30; every eighth x is a bfloat16 and 1/4, 3/4, 1/2 or none of
  its ulp, every 64th the float32 next below a power of 2.

bitsandbytes 0.50.2: blocks of 256
* `bnb.map.signed`, `bnb.map.unsigned` [256]: functional.create_dynamic_map.
* `bnb.{m,v,ties.signed8,ties.unsigned8}.{codes,scales,values}`: bitsandbytes::quantize_blockwise as backends.default
  has it in torch, the nearest of the map; values by functional.dequantize_blockwise.
* `bnb_cpu.{m,v}.codes`: functional.quantize_blockwise as its compiled library has it on CPUs. Not the nearest: it looks
  up one of 65,536 evenly spaced numbers of [-1, 1], so that small ones fall together; scales as above.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

FILE = Path(__file__).parent / "low-precision.npz"
PACKAGES = ("torch", "torchao", "flashoptim-jax", "jax", "bitsandbytes", "numpy")
SPECIAL = np.array(  # bits of float32
    [
        *[0x00000000, 0x80000000, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF],
        *[0x7F7FFFFF, 0xFF7FFFFF, 0x00000001, 0x80000001, 0x007FFFFF, 0x3F7FFFFF, 0x3F800001, 0xBF80FFFF],
    ],
    np.uint32,
)


def square(m: Any) -> Any:
    """The second moment that goes with m, to the last bit."""
    return m * m


def moments(random: np.random.RandomState) -> np.ndarray:
    """float32[4, 512]."""
    m = random.normal(size=(4, 512)) * np.exp(2 * random.normal(size=(4, 512)))
    m[0, 256:] *= random.uniform(size=256) >= 0.2
    m[1] *= np.repeat([0.0, 1e-12], 256)
    m[2] *= np.repeat([1e6, 1e-6], 256)
    m[2, 320:352] = 0.0
    return np.float32(m)


def midpoints(table: np.ndarray, size: int, signs: bool = False) -> np.ndarray:
    """float32[1, size]: what lies between neighbours of a map, and 1, from the start again until it is full."""
    between = np.float32(0.5) * (table[:-1] + table[1:])
    rows = np.resize(np.append(between, np.float32(1)), size)
    return (np.where(np.arange(size) < size // 2, 1, -1) * rows if signs else rows).astype(np.float32)[None]


def splittable(random: np.random.RandomState) -> np.ndarray:
    """float32[2048] of exponents -30 to 30."""
    x = np.ldexp(random.uniform(1, 2, 2048) * random.choice([-1, 1], 2048), random.randint(-30, 31, 2048))
    bits = np.float32(x).view(np.uint32)
    rests = np.array([0x4000, 0xC000, 0x8000, 0x0000], np.uint32)  # a quarter below and above, a half, none
    bits[::8] = bits[::8] & np.uint32(0xFFFF0000) | np.resize(rests, 256)
    bits[::64] |= np.uint32(0x007FFFFF)
    return bits.view(np.float32)


def roundable(random: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """float32[4096] and uint16[4096], at times with the number that decides and its neighbour."""
    bits = random.randint(0, 2**32, 4096, dtype=np.uint32)
    exponents = random.randint(1, 255, 4096).astype(np.uint32)
    exponents[:64] = 0
    bits = bits & np.uint32(0x807FFFFF) | exponents << np.uint32(23)
    bits[-16:] = SPECIAL
    drawn = random.randint(0, 2**16, 4096, dtype=np.uint16)
    rest = bits.astype(np.uint16)
    drawn[1::16], drawn[2::16], drawn[3::16], drawn[4::16] = rest[1::16], rest[2::16] - np.uint16(1), 0, 2**16 - 1
    return bits.view(np.float32), drawn


def torchao(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What torchao makes of the inputs, of which those at ties are added to `rows`."""
    import torch
    from torchao.optim import quant_utils
    from torchao.optim.subclass_4bit import OptimState4bit
    from torchao.optim.subclass_8bit import OptimState8bit
    from torchao.optim.subclass_fp8 import OptimStateFp8

    made: dict[str, np.ndarray] = {}

    def store(name: str, cls: Any, *signed: bool) -> None:
        kind, key = name.split(".", 1)
        x = torch.tensor(square(rows["m"]) if key == "v" else rows[key])
        state = cls.zeros(x.shape, *signed).copy_(x)
        codes = state.codes.view(torch.uint8).numpy()
        if cls is OptimState4bit:
            codes = np.stack([codes >> 4, codes & 15], axis=-1)
        assert state.block_size == {"torchao4": 128}.get(kind, 256)
        made[f"{name}.codes"] = codes.reshape(x.shape)
        made[f"{name}.scales"] = state.scale.numpy().reshape(len(x), -1)
        made[f"{name}.values"] = state.dequantize().numpy()

    for kind, bits, cls, size in (("torchao8", 8, OptimState8bit, 256), ("torchao4", 4, OptimState4bit, 128)):
        for sign, moment in (("signed", "m"), ("unsigned", "v")):
            table = cls.zeros((1, 256), sign == "signed").qmap.numpy()
            made[f"{kind}.map.{sign}"] = table
            rows[f"ties.{sign}{bits}"] = midpoints(table, size, signs=sign == "signed" and bits == 4)
            store(f"{kind}.{moment}", cls, sign == "signed")
            store(f"{kind}.ties.{sign}{bits}", cls, sign == "signed")
    for moment in "mv":
        store(f"torchao_fp8.{moment}", OptimStateFp8)

    drawn = torch.tensor(rows["stochastic.random"].astype(np.int32))
    with mock.patch.object(torch, "randint", lambda *_, **__: drawn):
        rounded = quant_utils._fp32_to_bf16_sr(torch.tensor(rows["stochastic.x"]))
    return made | {"stochastic.bits": rounded.view(torch.uint16).numpy()}


def flashoptim(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What flashoptim-jax makes of the inputs."""
    from flashoptim_jax import compression, quantization

    made = {}
    for key, moment in (("m", "momentum"), ("v", "variance"), ("ties.root", "variance")):
        x = square(rows["m"]) if key == "v" else rows[key]
        packed = getattr(quantization, f"quantize_{moment}")(x)
        made[f"flash.{key}.codes"] = packed.values
        made[f"flash.{key}.scales"] = packed.scales.reshape(len(x), -1)
        made[f"flash.{key}.values"] = getattr(quantization, f"dequantize_{moment}")(packed)
    for bits in (24, 32):
        narrow, rho = compression.split_leaf(rows["split.x"], master_weight_bits=bits)
        made["split.narrow"] = narrow.view(np.uint16)
        made[f"split{bits}.rho"] = rho
        made[f"split{bits}.values"] = compression.reconstruct_leaf(narrow, rho)
    return {name: np.asarray(x) for name, x in made.items()}


def bitsandbytes(rows: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What bitsandbytes makes of the inputs."""
    import torch
    from bitsandbytes import functional

    made = {}
    quantize = torch.ops.bitsandbytes.quantize_blockwise.default
    for sign, moment in (("signed", "m"), ("unsigned", "v")):
        table = functional.create_dynamic_map(signed=sign == "signed")
        made[f"bnb.map.{sign}"] = table.numpy()
        for key in (moment, f"ties.{sign}8"):
            x = torch.tensor(square(rows["m"]) if key == "v" else rows[key])
            codes, scales = quantize._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, x, table, 256)
            values = functional.dequantize_blockwise(codes, absmax=scales, code=table, blocksize=256)
            made[f"bnb.{key}.codes"] = codes.numpy()
            made[f"bnb.{key}.scales"] = scales.numpy().reshape(len(x), -1)
            made[f"bnb.{key}.values"] = values.numpy()
            if key == moment:
                made[f"bnb_cpu.{key}.codes"] = functional.quantize_blockwise(x, code=table, blocksize=256)[0].numpy()
    return made


def record(file: Path = FILE) -> None:
    """Quantize with each library and write one file, with the versions that made it."""
    random = np.random.RandomState(20260223)
    rows = {"m": moments(random), "split.x": splittable(random)}
    rows["stochastic.x"], rows["stochastic.random"] = roundable(random)
    rows["ties.root"] = np.append(np.square(np.arange(255, dtype=np.float32) + 0.5), np.float32(255**2))[None]
    made = torchao(rows) | flashoptim(rows) | bitsandbytes(rows)
    versions = np.array([f"{name} {version(name)}" for name in PACKAGES])
    np.savez_compressed(file, versions=versions, **rows, **made)


def recorded(file: Path = FILE) -> dict[str, np.ndarray]:
    """What `record` wrote, by name, and v."""
    with np.load(file) as rows:
        return {**rows, "v": square(rows["m"])}


if __name__ == "__main__":
    record()
    print(f"{FILE.stat().st_size:8d}  {FILE.name}")
