"""python tests/data/trajectories.py: writes trajectories.txt, ten steps of every Case in double precision.

A line is a case's name and, after each step, the sum of its parameters times 1, sqrt 2, sqrt 3, … in their order.
"""

import functools
import pathlib
import sys

TESTS = pathlib.Path(__file__).parents[1]
TABLE = pathlib.Path(__file__).with_suffix(".txt")
STEPS = 10


def ten_steps(case):
    """float64[10], to be called where x64 is enabled."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    import quick

    from cases import descend, params_like, whole

    opt, params = whole(case), params_like(jnp.float64)
    weights = [np.sqrt(np.arange(10) + 1.0)[i : i + n] for i, n in ((0, 3), (3, 1), (4, 6))]

    def step(carry, _):
        carry, _ = descend(opt)(carry)
        leaves = zip(jax.tree.leaves(carry[0]), weights, strict=True)
        return carry, sum(jnp.sum(jnp.ravel(leaf) * weight) for leaf, weight in leaves)

    return np.asarray(quick.jit(lambda p: jax.lax.scan(step, (p, opt.init(p)), None, STEPS)[1])(params))


@functools.cache
def recorded():
    """name -> the ten numbers."""
    lines = TABLE.read_text(encoding="utf-8").splitlines()
    return {name: [float(x) for x in numbers] for name, *numbers in map(str.split, lines)}


def write():
    """Anew, all of it."""
    import jax

    from cases import CASES

    jax.config.update("jax_enable_x64", True)
    rows = [" ".join([case.name, *(f"{x:.11e}" for x in ten_steps(case))]) for case in CASES]
    TABLE.write_text("\n".join(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.path[:0] = [str(TESTS.parent), str(TESTS), str(TESTS / "support")]
    import conftest  # noqa: F401  (the compiler's flags, strict promotion)

    write()
