"""Three problems of optimal control by direct collocation (the trapezoidal rule), for any number of intervals: the
hanging chain and the Goddard rocket of COPS 3.0 (Dolan, More & Munson 2004, ANL/MCS-TM-273), and a pendulum that is
swung up by a small torque.

Each is written once: `xp` is jax.numpy, or a shim of casadi's words for the same, `casadi_words()`.

    python examples/benchmarks/optimal_control.py --intervals 100 --sparse     # solves the three, prints a table
"""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Control(NamedTuple):
    """minimize fun(x) subject to equality(x) = 0, lower <= x <= upper."""

    fun: Callable[[Any, Any], Any]  # (x, xp) -> a number
    equality: Callable[[Any, Any], Any]  # (x, xp) -> float[m]
    start: np.ndarray  # float[n]
    lower: np.ndarray  # float[n]
    upper: np.ndarray  # float[n]


def trapezoids(y: Any, dy: Any, h: Any) -> Any:
    """y' = dy between neighbours: what is missed."""
    return y[1:] - y[:-1] - 0.5 * h * (dy[1:] + dy[:-1])


def hanging_chain(intervals: int) -> Control:
    """The height x of a chain of length 4 between (0, 1) and (1, 3), and its slope u: the least potential energy."""
    k, h, length, a, b = intervals + 1, 1.0 / intervals, 4.0, 1.0, 3.0

    def arc(u: Any, xp: Any) -> Any:
        return xp.sqrt(1.0 + u * u)

    def total(y: Any, xp: Any) -> Any:
        return 0.5 * h * xp.sum(y[1:] + y[:-1])

    def fun(z: Any, xp: Any) -> Any:
        return total(z[:k] * arc(z[k:], xp), xp)

    def equality(z: Any, xp: Any) -> Any:
        x, u = z[:k], z[k:]
        ends = [x[:1] - a, x[k - 1 :] - b]
        return xp.concatenate([trapezoids(x, u, h), *ends, xp.reshape(total(arc(u, xp), xp) - length, (1,))])

    t = np.linspace(0.0, 1.0, k)
    start = np.concatenate([4 * abs(b - a) * t * (t / 2 - 0.25) + a, 4 * abs(b - a) * (t - 0.25)])
    free = np.full(2 * k, np.inf)
    return Control(fun, equality, start, -free, free)


def goddard_rocket(intervals: int) -> Control:
    """Height, velocity, mass and thrust of a rocket, and the length of an interval: the greatest final height."""
    k = intervals + 1
    h_0, v_0, m_0, g_0, c_t, h_c, v_c, m_c = 1.0, 0.0, 1.0, 1.0, 3.5, 500.0, 620.0, 0.6
    c, m_f, d_c = 0.5 * np.sqrt(g_0 * h_0), m_c * m_0, 0.5 * v_c * m_0 / g_0
    most = c_t * m_0 * g_0

    def fun(z: Any, xp: Any) -> Any:
        return -xp.sum(z[k - 1 : k])

    def equality(z: Any, xp: Any) -> Any:
        h, v, m, thrust, step = z[:k], z[k : 2 * k], z[2 * k : 3 * k], z[3 * k : 4 * k], z[4 * k :]
        drag = d_c * v * v * xp.exp(-h_c * (h - h_0) / h_0)
        gravity = g_0 * h_0**2 / (h * h)
        return xp.concatenate([
            trapezoids(h, v, step), trapezoids(v, (thrust - drag) / m - gravity, step), trapezoids(m, -thrust / c, step)
        ])  # fmt: skip

    s = np.linspace(0.0, 1.0, k)
    ones = np.ones(k)
    start = np.concatenate([ones, s * (1 - s), (m_f - m_0) * s + m_0, most / 2 * ones, [1.0 / intervals]])
    lower = np.concatenate([h_0 * ones, 0 * ones, m_f * ones, 0 * ones, [0.0]])
    upper = np.concatenate([np.inf * ones, np.inf * ones, m_0 * ones, most * ones, [np.inf]])
    for at, value in ((0, h_0), (k, v_0), (2 * k, m_0), (3 * k - 1, m_f)):
        start[at] = lower[at] = upper[at] = value
    return Control(fun, equality, start, lower, upper)


def pendulum(intervals: int) -> Control:
    """Angle, velocity and torque of a pendulum that hangs and stands after 4 seconds: the least squared torque, none
    larger than 5, where gravity pulls with 9.81."""
    k, h, most = intervals + 1, 4.0 / intervals, 5.0

    def fun(z: Any, xp: Any) -> Any:
        u = z[2 * k :]
        return 0.5 * h * xp.sum(u[1:] * u[1:] + u[:-1] * u[:-1])

    def equality(z: Any, xp: Any) -> Any:
        q, w, u = z[:k], z[k : 2 * k], z[2 * k :]
        bend = u - 9.81 * xp.sin(q) - 0.1 * w
        return xp.concatenate([trapezoids(q, w, h), trapezoids(w, bend, h)])

    s = np.linspace(0.0, 1.0, k)
    start = np.concatenate([np.pi * s, np.full(k, np.pi / 4.0), np.zeros(k)])
    lower = np.concatenate([np.full(2 * k, -np.inf), np.full(k, -most)])
    upper = -lower
    for at, value in ((0, 0.0), (k - 1, np.pi), (k, 0.0), (2 * k - 1, 0.0)):
        start[at] = lower[at] = upper[at] = value
    return Control(fun, equality, start, lower, upper)


PROBLEMS = {
    "hanging chain": (hanging_chain, 2),
    "goddard rocket": (goddard_rocket, 4),
    "pendulum": (pendulum, 3),
}  # with the unknowns of an interval


def casadi_words() -> Any:
    """casadi's functions by the names of jax.numpy's."""
    import casadi  # noqa: PLC0415

    return types.SimpleNamespace(
        sum=casadi.sum1, sqrt=casadi.sqrt, exp=casadi.exp, sin=casadi.sin, reshape=lambda x, shape: x,
        concatenate=lambda parts: casadi.vertcat(*parts),
    )  # fmt: skip


def by_ipopt(problem: Control, tol: float, dense: bool) -> Callable[[], tuple[float, int]]:
    """() -> (value, evaluations of Lagrangian Hessians); dense: Ipopt is told of every entry of the derivatives."""
    import casadi as ca  # noqa: PLC0415

    xp, x = casadi_words(), ca.MX.sym("x", problem.start.size)
    f, g = problem.fun(x, xp), problem.equality(x, xp)
    given: dict[str, Any] = {}
    if dense:
        m, n = g.numel(), x.numel()
        p, sigma, y = ca.MX.sym("p", 0), ca.MX.sym("sigma"), ca.MX.sym("y", m)
        J = ca.densify(ca.jacobian(g, x))
        H = ca.triu(ca.densify(ca.hessian(sigma * f + ca.dot(y, g), x)[0]))
        given["jac_g"] = ca.Function("jac_g", [x, p], [g, ca.project(J, ca.Sparsity.dense(m, n))])
        given["hess_lag"] = ca.Function("hess_lag", [x, p, sigma, y], [ca.project(H, ca.Sparsity.upper(n))])
    options = {"ipopt.tol": tol, "ipopt.print_level": 0, "print_time": False, "ipopt.sb": "yes", **given}
    solver = ca.nlpsol("solver", "ipopt", {"x": x, "f": f, "g": g}, options)

    def run() -> tuple[float, int]:
        found = solver(x0=problem.start, lbx=problem.lower, ubx=problem.upper, lbg=0, ubg=0)
        stats = solver.stats()
        if not stats["success"]:
            raise RuntimeError(stats["return_status"])
        return float(found["f"]), int(stats["iter_count"])

    return run
