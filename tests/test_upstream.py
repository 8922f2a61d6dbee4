"""What is wrong below us and shapes our code: each is shown as it is today, and how it is kept from users."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest

import jaxopt_ko as jo

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
