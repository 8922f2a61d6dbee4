"""A bundle adjustment: cameras and points from where the points are seen, beside scipy's trf with `jac_sparsity`.

Each camera has a rotation vector and a position, each point three coordinates; a point is seen by some cameras, in
pixels with an error of half a pixel. One process, the second run of each, the same start and the same sparsity.

    python examples/benchmarks/bundle_adjustment.py [--cameras 50 --points 5000 --seen 7]
"""

import argparse
import os
import time
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import scipy.sparse
from jax.experimental.sparse import BCOO

import jaxopt_ko as jo

FOCAL, NOISE = 500.0, 0.5  # pixels
TOLERANCE = 1e-8


class Bundle(NamedTuple):
    """What was seen, and where to start."""

    camera: np.ndarray  # int[k]  of each observation
    point: np.ndarray  # int[k]
    seen: np.ndarray  # float[k,2]  pixels
    cameras: int
    start: np.ndarray  # float[6 cameras + 3 points]

    def residuals(self, xp, x):
        """float[2 k] by NumPy or jax.numpy."""
        poses, points = x[: 6 * self.cameras].reshape(-1, 6), x[6 * self.cameras :].reshape(-1, 3)
        return (project(xp, poses[self.camera], points[self.point]) - self.seen).reshape(-1)

    def sparsity(self):
        """Rows and columns of the Jacobian's entries."""
        rows = np.arange(self.seen.size).reshape(-1, 2, 1)
        mine = [self.camera[:, None] * 6 + np.arange(6), 6 * self.cameras + self.point[:, None] * 3 + np.arange(3)]
        cols = np.concatenate(mine, axis=1)[:, None, :]
        shape = (len(cols), 2, 9)
        return np.broadcast_to(rows, shape).reshape(-1), np.broadcast_to(cols, shape).reshape(-1)


def project(xp, poses, points):
    """Pixels of points float[k,3] for poses float[k,6]: Rodrigues' rotation, a shift, and division by the depth."""
    w, shift = poses[:, :3], poses[:, 3:]
    angle = xp.sqrt(xp.sum(w * w, axis=1, keepdims=True) + 1e-20)
    axis, c, s = w / angle, xp.cos(angle), xp.sin(angle)
    along = xp.sum(axis * points, axis=1, keepdims=True)
    q = c * points + s * xp.cross(axis, points) + (1 - c) * along * axis + shift
    return -FOCAL * q[:, :2] / q[:, 2:]


def bundle(cameras=50, points=5000, seen=7, seed=0):
    """A scene of points in a cube, before a half circle of cameras."""
    rng = np.random.default_rng(seed)
    poses = np.concatenate([
        0.1 * rng.normal(size=(cameras, 3)), 0.5 * rng.normal(size=(cameras, 2)),
        -8 + 0.5 * rng.normal(size=(cameras, 1)),
    ], axis=1)  # fmt: skip
    places = rng.uniform(-2, 2, size=(points, 3))
    camera = np.concatenate([rng.choice(cameras, seen, replace=False) for _ in range(points)])
    point = np.repeat(np.arange(points), seen)
    pixels = project(np, poses[camera], places[point]) + NOISE * rng.normal(size=(len(camera), 2))
    near = [poses + 0.02 * rng.normal(size=poses.shape), places + 0.05 * rng.normal(size=places.shape)]
    return Bundle(camera, point, pixels, cameras, np.concatenate([a.reshape(-1) for a in near]))


def ours(made):
    """() -> (half the sum of squares, evaluations): the colours are found once."""
    rows, cols = made.sparsity()
    with jax.enable_x64(True):
        indices = jnp.asarray(np.stack([rows, cols], axis=1).astype(np.int32))
        pattern = BCOO((jnp.ones(len(rows)), indices), shape=(made.seen.size, made.start.size))
        colors, start = jo.sparse.coloring(pattern), jnp.asarray(made.start)

    def residual_fn(x):
        return made.residuals(jnp, x)

    def run():
        with jax.enable_x64(True):
            found = jo.least_squares(residual_fn, start, jac_sparsity=colors, tol=TOLERANCE)
            return float(found.value), int(found.evaluations.function)

    return run


def scipys(made):
    """() -> (half the sum of squares, evaluations)."""
    rows, cols = made.sparsity()
    pattern = scipy.sparse.coo_matrix((np.ones(len(rows)), (rows, cols)), (made.seen.size, made.start.size))

    def run():
        found = scipy.optimize.least_squares(
            lambda x: made.residuals(np, x), made.start, jac_sparsity=pattern, x_scale="jac", ftol=TOLERANCE
        )
        return float(found.cost), int(found.nfev)

    return run


def second(run):
    """The result and the seconds of the second run."""
    run()
    begun = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("cameras", 50), ("points", 5000), ("seen", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    made = bundle(given.cameras, given.points, given.seen)
    print(f"{made.seen.size} residuals, {made.start.size} parameters")
    (value, evaluations), mine = second(ours(made))
    print(f"jaxopt_ko  {mine:6.2f} s  {value:.9g}  {evaluations} evaluations")
    (value, evaluations), peers = second(scipys(made))
    print(f"scipy trf  {peers:6.2f} s  {value:.9g}  {evaluations} evaluations\nours / scipy {mine / peers:.2f}")


if __name__ == "__main__":
    main()
