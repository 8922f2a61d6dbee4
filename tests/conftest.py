"""Strict from the first import: eight CPU devices, no silent promotion of dtype or rank, warnings are errors."""

import functools
import gc
import importlib.metadata
import itertools
import os
import pathlib
import sys

os.environ["XLA_FLAGS"] = " ".join([
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # One module of code instead of a dozen tiny ones; the older way of making kernels, which compiles twice as fast.
    # A flag that XLA does not know would end the process.
    "--xla_cpu_parallel_codegen_split_count=1 --xla_cpu_use_fusion_emitters=false"
    * importlib.metadata.version("jaxlib").startswith("0.10."),
    os.environ.get("XLA_FLAGS", ""),  # of two values of one flag the later counts: what was asked for
])  # fmt: skip
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # more wait for each other where all cores are busy

import jax
import numpy as np
import pytest

gc.set_threshold(50_000, 20, 100)  # what JAX remembers is much, lives long, and is looked through at each collection
if not hasattr(jax, "enable_x64"):  # before jax 0.8
    from jax.experimental import enable_x64

    jax.enable_x64 = enable_x64
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_collection_modifyitems(items):
    """The contracts case by case: what they share is compiled once, where one worker has all of a case."""

    order = {}

    def place(item):
        case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
        return order.setdefault(case.name if type(case).__name__ == "Case" else None, len(order))

    items.sort(key=place)


@functools.cache
def float16_compiles():
    """XLA has none for processors that cannot convert it: `Symbols not found: [ __truncsfhf2 ]` below AVX's F16C."""
    try:
        jax.jit(lambda x: x.astype("float16"))(np.float32(1)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        return False
    return True


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    try:
        return (yield)
    except jax.errors.JaxRuntimeError as error:
        if "materialize symbols" in str(error) and not float16_compiles():
            pytest.skip("XLA compiles no float16 for this processor")
        raise


@pytest.fixture
def x64():
    """Run one test in double precision."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def refusal(monkeypatch, capsys):
    """What the `main` of a module prints, and its error, where its command line is refused."""

    def run(module, *args):
        monkeypatch.setattr(sys, "argv", [module.__file__, *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            module.main()
        assert ended.value.code == 2
        return capsys.readouterr()

    return run


@pytest.fixture(autouse=True)
def few_programs(ended=itertools.count(1)):  # noqa: B008
    """Forget the compiled programs before their memory maps, some five each, reach Linux's 65,530 for one process."""
    yield
    if next(ended) % 25 == 0:  # to look takes longer than many a test
        maps = pathlib.Path("/proc/self/maps")
        if maps.exists() and maps.read_bytes().count(b"\n") > 15_000:
            jax.clear_caches()
