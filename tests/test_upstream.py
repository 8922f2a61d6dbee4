"""What is wrong below us and shapes our code: each is shown as it is today, and how it is kept from users."""

import importlib.util
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

import jaxopt_ko as jo
from jaxopt_ko.core import placement

ABORTS = """
import jax, jax.numpy as jnp
print(jax.jit(lambda x: jnp.concatenate([x, x[:0]])[2:])(jnp.ones(2)))
"""


@pytest.mark.skipif(jaxlib.__version__ != "0.10.2", reason="seen with this one")
def test_xla_aborts_on_an_empty_slice_of_a_concatenation_with_an_empty_part():
    run = subprocess.run([sys.executable, "-c", ABORTS], capture_output=True, check=False, timeout=120)
    assert run.returncode < 0  # by a signal


def test_trees_and_programs_with_empty_leaves_do_not():
    @jax.jit
    def halves(x):
        vector, unravel = jo.tree.ravel({"a": x, "b": x[:0], "c": x[:0]})
        return unravel(vector / 2)

    np.testing.assert_allclose(halves(jnp.ones(2))["a"], 0.5)
    solution = jo.quadratic_program(jnp.eye(2), -jnp.ones(2), bounds=(0.0, 1.0), verbose=True)
    assert bool(solution.status.success) and solution.multipliers.equality.shape == (0,)


# ---- optax's own tests ------------------------------------------------------------------------------------

REPLAY = pathlib.Path(__file__).parent / "upstream" / "replay.py"


def replaying():
    spec = importlib.util.spec_from_file_location("replaying", REPLAY)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tests_that_do_not_pass_are_tests_of_optax():
    replay = replaying()
    known, shipped = replay.accepted(), replay.files([])
    assert len(known) > 20 and len(shipped) > 50
    for (file, test), why in known.items():
        assert why.endswith("."), test
        if file.partition("/")[0] in replay.LEFT_OUT:
            assert test == "*"
            continue
        stem = re.sub(r"(\*|_?\d+)$", "", test).rstrip("_")
        assert file in shipped and stem in (replay.shipped() / file).read_text(encoding="utf-8"), (file, test)


@pytest.mark.references
@pytest.mark.parametrize("file", [f for f in replaying().files([]) if f.partition("/")[0] not in replaying().LEFT_OUT])
def test_optaxs_own_tests(file):
    replay = replaying()
    known, found = replay.accepted(), replay.replay(file)
    bad = {node: r for node, r in found.items() if r["outcome"] in ("failed", "missing")}
    assert {node: r for node, r in bad.items() if replay.reason(node, known) is None} == {}


def test_shard_alike_puts_all_arrays_of_one_shape_in_one_group():
    """Its lowering is remembered with the number of the group, so that two arrays that are cut otherwise are cut alike.
    `placement.alike`, with a primitive of its own, keeps each as it is."""
    alike = pytest.importorskip("jax.experimental.shard_alike")
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = {"u": jax.sharding.PartitionSpec(None, ("a", "b")), "v": jax.sharding.PartitionSpec("b")}
    old = {k: jax.device_put(jnp.ones((8, 16)), jax.sharding.NamedSharding(mesh, spec)) for k, spec in specs.items()}

    def moved(tie):
        new = jax.jit(lambda old: jax.tree.map(lambda x: tie(x, 2 * x), old))(old)
        return {k for k, spec in specs.items() if new[k].sharding.spec != spec}

    assert moved(placement.alike) == set()
    assert moved(lambda x, y: alike.shard_alike(x, y)[1]) == {"u", "v"}
