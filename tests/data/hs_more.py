"""More of Hock and Schittkowski (LNEMS 187, 1981), in the form of hs_problems.py: ineq >= 0, best known optima."""

from math import sqrt

import numpy as np

HS = []


def add(name, f, x0, fopt, eq=None, ineq=None, lb=None, ub=None, note=""):
    n = len(x0)
    HS.append(
        {
            "name": name, "n": n, "f": f, "eq": eq, "ineq": ineq, "lb": list(lb) if lb else [None] * n,
            "ub": list(ub) if ub else [None] * n, "x0": [float(v) for v in x0], "fopt": float(fopt), "note": note,
        }
    )  # fmt: skip


def rosen(x, m):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


add("HS2", rosen, [-2, 1], 0.0504261879, lb=[None, 1.5], note="local minimum 4.94122932")
add("HS4", lambda x, m: (x[0] + 1) ** 3 / 3 + x[1], [1.125, 0.125], 8 / 3, lb=[1, 0])
add("HS6", lambda x, m: (1 - x[0]) ** 2, [-1.2, 1], 0, eq=lambda x, m: [10 * (x[1] - x[0] ** 2)])
add("HS8", lambda x, m: -1 + 0 * x[0], [2, 1], -1, eq=lambda x, m: [x[0] ** 2 + x[1] ** 2 - 25, x[0] * x[1] - 9])
add("HS10", lambda x, m: x[0] - x[1], [-10, 10], -1,
    ineq=lambda x, m: [-3 * x[0] ** 2 + 2 * x[0] * x[1] - x[1] ** 2 + 1])  # fmt: skip
add("HS12", lambda x, m: 0.5 * x[0] ** 2 + x[1] ** 2 - x[0] * x[1] - 7 * x[0] - 7 * x[1], [0, 0], -30,
    ineq=lambda x, m: [25 - 4 * x[0] ** 2 - x[1] ** 2])  # fmt: skip
add("HS14", lambda x, m: (x[0] - 2) ** 2 + (x[1] - 1) ** 2, [2, 2], 9 - 2.875 * sqrt(7),
    ineq=lambda x, m: [-0.25 * x[0] ** 2 - x[1] ** 2 + 1], eq=lambda x, m: [x[0] - 2 * x[1] + 1])  # fmt: skip
add("HS16", rosen, [-2, 1], 0.25, ineq=lambda x, m: [x[0] + x[1] ** 2, x[0] ** 2 + x[1]], lb=[-0.5, None],
    ub=[0.5, 1], note="local minima 23.1446, 3.9821")  # fmt: skip
add("HS18", lambda x, m: 0.01 * x[0] ** 2 + x[1] ** 2, [2, 2], 5,
    ineq=lambda x, m: [x[0] * x[1] - 25, x[0] ** 2 + x[1] ** 2 - 25], lb=[2, 0], ub=[50, 50])  # fmt: skip
add("HS20", rosen, [-2, 1], 81.5 - 25 * sqrt(3),
    ineq=lambda x, m: [x[0] + x[1] ** 2, x[0] ** 2 + x[1], x[0] ** 2 + x[1] ** 2 - 1], lb=[-0.5, None],
    ub=[0.5, None], note="local minimum 40.19873")  # fmt: skip
add("HS22", lambda x, m: (x[0] - 2) ** 2 + (x[1] - 1) ** 2, [2, 2], 1,
    ineq=lambda x, m: [2 - x[0] - x[1], x[1] - x[0] ** 2])  # fmt: skip
add("HS24", lambda x, m: ((x[0] - 3) ** 2 - 9) * x[1] ** 3 / (27 * sqrt(3)), [1, 0.5], -1,
    ineq=lambda x, m: [x[0] / sqrt(3) - x[1], x[0] + sqrt(3) * x[1], 6 - x[0] - sqrt(3) * x[1]],
    lb=[0, 0])  # fmt: skip


def _f25(x, m):
    part = 0.01 * np.arange(1, 100)
    u = 25 + (-50 * np.log(part)) ** (2 / 3)
    return m.sum((-part + m.exp(-((u - x[1]) ** x[2]) / x[0])) ** 2)


add("HS25", _f25, [100, 12.5, 3], 0, lb=[0.1, 0, 0], ub=[100, 25.6, 5], note="flat at the start, f = 32.835 there")
add("HS27", lambda x, m: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2, [2, 2, 2], 0.04,
    eq=lambda x, m: [x[0] + x[2] ** 2 + 1])  # fmt: skip
add("HS29", lambda x, m: -x[0] * x[1] * x[2], [1, 1, 1], -16 * sqrt(2),
    ineq=lambda x, m: [48 - x[0] ** 2 - 2 * x[1] ** 2 - 4 * x[2] ** 2])  # fmt: skip
add("HS31", lambda x, m: 9 * x[0] ** 2 + x[1] ** 2 + 9 * x[2] ** 2, [1, 1, 1], 6,
    ineq=lambda x, m: [x[0] * x[1] - 1], lb=[-10, 1, -10], ub=[10, 10, 1])  # fmt: skip
add("HS33", lambda x, m: (x[0] - 1) * (x[0] - 2) * (x[0] - 3) + x[2], [0, 0, 3], sqrt(2) - 6,
    ineq=lambda x, m: [x[2] ** 2 - x[1] ** 2 - x[0] ** 2, x[0] ** 2 + x[1] ** 2 + x[2] ** 2 - 4], lb=[0, 0, 0],
    ub=[None, None, 5], note="local minimum -4")  # fmt: skip
add("HS35", lambda x, m: 9 - 8 * x[0] - 6 * x[1] - 4 * x[2] + 2 * x[0] ** 2 + 2 * x[1] ** 2 + x[2] ** 2
    + 2 * x[0] * x[1] + 2 * x[0] * x[2], [0.5] * 3, 1 / 9, ineq=lambda x, m: [3 - x[0] - x[1] - 2 * x[2]],
    lb=[0] * 3)  # fmt: skip
add("HS37", lambda x, m: -x[0] * x[1] * x[2], [10] * 3, -3456,
    ineq=lambda x, m: [72 - x[0] - 2 * x[1] - 2 * x[2], x[0] + 2 * x[1] + 2 * x[2]], lb=[0] * 3,
    ub=[42] * 3)  # fmt: skip
add("HS39", lambda x, m: -x[0], [2] * 4, -1,
    eq=lambda x, m: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2])  # fmt: skip
add("HS41", lambda x, m: 2 - x[0] * x[1] * x[2], [2] * 4, 52 / 27,
    eq=lambda x, m: [x[0] + 2 * x[1] + 2 * x[2] - x[3]], lb=[0] * 4, ub=[1, 1, 1, 2])  # fmt: skip
add("HS43", lambda x, m: x[0] ** 2 + x[1] ** 2 + 2 * x[2] ** 2 + x[3] ** 2 - 5 * x[0] - 5 * x[1] - 21 * x[2] + 7 * x[3],
    [0] * 4, -44, ineq=lambda x, m: [
        8 - x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - x[3] ** 2 - x[0] + x[1] - x[2] + x[3],
        10 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - 2 * x[3] ** 2 + x[0] + x[3],
        5 - 2 * x[0] ** 2 - x[1] ** 2 - x[2] ** 2 - 2 * x[0] + x[1] + x[3],
    ])  # fmt: skip
add("HS45", lambda x, m: 2 - x[0] * x[1] * x[2] * x[3] * x[4] / 120, [2] * 5, 1, lb=[0] * 5, ub=[1, 2, 3, 4, 5])
add("HS47", lambda x, m: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 3 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 4,
    [2, sqrt(2), -1, 2 - sqrt(2), 0.5], 0, eq=lambda x, m: [
        x[0] + x[1] ** 2 + x[2] ** 3 - 3, x[1] - x[2] ** 2 + x[3] - 1, x[0] * x[4] - 1,
    ], note="other stationary points; the cube is unbounded below elsewhere")  # fmt: skip
add("HS48", lambda x, m: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2, [3, 5, -3, 2, -2], 0,
    eq=lambda x, m: [x[0] + x[1] + x[2] + x[3] + x[4] - 5, x[2] - 2 * (x[3] + x[4]) + 3])  # fmt: skip
add("HS50", lambda x, m: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4 + (x[3] - x[4]) ** 2,
    [35, -31, 11, 5, -5], 0, eq=lambda x, m: [
        x[0] + 2 * x[1] + 3 * x[2] - 6, x[1] + 2 * x[2] + 3 * x[3] - 6, x[2] + 2 * x[3] + 3 * x[4] - 6,
    ])  # fmt: skip
add("HS52", lambda x, m: (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2, [2] * 5,
    1859 / 349, eq=lambda x, m: [x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]])  # fmt: skip
add("HS61", lambda x, m: 4 * x[0] ** 2 + 2 * x[1] ** 2 + 2 * x[2] ** 2 - 33 * x[0] + 16 * x[1] - 24 * x[2], [0] * 3,
    -143.6461422, eq=lambda x, m: [3 * x[0] - 2 * x[1] ** 2 - 7, 4 * x[0] - x[2] ** 2 - 11])  # fmt: skip
add("HS63", lambda x, m: 1000 - x[0] ** 2 - 2 * x[1] ** 2 - x[2] ** 2 - x[0] * x[1] - x[0] * x[2], [2] * 3,
    961.7151721, eq=lambda x, m: [8 * x[0] + 14 * x[1] + 7 * x[2] - 56, x[0] ** 2 + x[1] ** 2 + x[2] ** 2 - 25],
    lb=[0] * 3)  # fmt: skip
add("HS65", lambda x, m: (x[0] - x[1]) ** 2 + (x[0] + x[1] - 10) ** 2 / 9 + (x[2] - 5) ** 2, [-5, 5, 0], 0.9535288567,
    ineq=lambda x, m: [48 - x[0] ** 2 - x[1] ** 2 - x[2] ** 2], lb=[-4.5, -4.5, -5], ub=[4.5, 4.5, 5])  # fmt: skip
add("HS71", lambda x, m: x[0] * x[3] * (x[0] + x[1] + x[2]) + x[2], [1, 5, 5, 1], 17.0140173,
    ineq=lambda x, m: [x[0] * x[1] * x[2] * x[3] - 25],
    eq=lambda x, m: [x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 - 40], lb=[1] * 4, ub=[5] * 4)  # fmt: skip
add("HS77", lambda x, m: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
    [2] * 5, 0.24150513, eq=lambda x, m: [
        x[0] ** 2 * x[3] + m.sin(x[3] - x[4]) - 2 * sqrt(2), x[1] + x[2] ** 4 * x[3] ** 2 - 8 - sqrt(2),
    ])  # fmt: skip
add("HS79", lambda x, m: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 2 + (x[2] - x[3]) ** 4
    + (x[3] - x[4]) ** 4, [2] * 5, 0.0787768209, eq=lambda x, m: [
        x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * sqrt(2), x[1] - x[2] ** 2 + x[3] + 2 - 2 * sqrt(2), x[0] * x[4] - 2,
    ])  # fmt: skip
add("HS81", lambda x, m: m.exp(x[0] * x[1] * x[2] * x[3] * x[4]) - 0.5 * (x[0] ** 3 + x[1] ** 3 + 1) ** 2,
    [-2, 2, 2, -1, -1], 0.0539498478, eq=lambda x, m: [
        x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 + x[4] ** 2 - 10, x[1] * x[2] - 5 * x[3] * x[4],
        x[0] ** 3 + x[1] ** 3 + 1,
    ], lb=[-2.3, -2.3, -3.2, -3.2, -3.2], ub=[2.3, 2.3, 3.2, 3.2, 3.2])  # fmt: skip
add("HS93", lambda x, m: 0.0204 * x[0] * x[3] * (x[0] + x[1] + x[2])
    + 0.0187 * x[1] * x[2] * (x[0] + 1.57 * x[1] + x[3])
    + 0.0607 * x[0] * x[3] * x[4] ** 2 * (x[0] + x[1] + x[2])
    + 0.0437 * x[1] * x[2] * x[5] ** 2 * (x[0] + 1.57 * x[1] + x[3]), [5.54, 4.4, 12.02, 11.82, 0.702, 0.852],
    135.0759628, ineq=lambda x, m: [
        0.001 * x[0] * x[1] * x[2] * x[3] * x[4] * x[5] - 2.07,
        1 - 0.00062 * x[0] * x[3] * x[4] ** 2 * (x[0] + x[1] + x[2])
        - 0.00058 * x[1] * x[2] * x[5] ** 2 * (x[0] + 1.57 * x[1] + x[3]),
    ], lb=[0] * 6, note="f to the digits that this code finds; the book prints 135.075961")  # fmt: skip


def _i108(x, m):
    return [
        1 - x[2] ** 2 - x[3] ** 2, 1 - x[8] ** 2, 1 - x[4] ** 2 - x[5] ** 2, 1 - x[0] ** 2 - (x[1] - x[8]) ** 2,
        1 - (x[0] - x[4]) ** 2 - (x[1] - x[5]) ** 2, 1 - (x[0] - x[6]) ** 2 - (x[1] - x[7]) ** 2,
        1 - (x[2] - x[4]) ** 2 - (x[3] - x[5]) ** 2, 1 - (x[2] - x[6]) ** 2 - (x[3] - x[7]) ** 2,
        1 - x[6] ** 2 - (x[7] - x[8]) ** 2, x[0] * x[3] - x[1] * x[2], x[2] * x[8], -x[4] * x[8],
        x[4] * x[7] - x[5] * x[6],
    ]  # fmt: skip


add("HS108", lambda x, m: -0.5 * (x[0] * x[3] - x[1] * x[2] + x[2] * x[8] - x[4] * x[8] + x[4] * x[7] - x[5] * x[6]),
    [1] * 9, -0.8660254038, ineq=_i108, lb=[None] * 8 + [0], note="local minima -0.6749814, -0.5")  # fmt: skip


def _f113(x, m):
    return (
        x[0] ** 2 + x[1] ** 2 + x[0] * x[1] - 14 * x[0] - 16 * x[1] + (x[2] - 10) ** 2 + 4 * (x[3] - 5) ** 2
        + (x[4] - 3) ** 2 + 2 * (x[5] - 1) ** 2 + 5 * x[6] ** 2 + 7 * (x[7] - 11) ** 2 + 2 * (x[8] - 10) ** 2
        + (x[9] - 7) ** 2 + 45
    )  # fmt: skip


def _i113(x, m):
    return [
        105 - 4 * x[0] - 5 * x[1] + 3 * x[6] - 9 * x[7], -10 * x[0] + 8 * x[1] + 17 * x[6] - 2 * x[7],
        8 * x[0] - 2 * x[1] - 5 * x[8] + 2 * x[9] + 12,
        -3 * (x[0] - 2) ** 2 - 4 * (x[1] - 3) ** 2 - 2 * x[2] ** 2 + 7 * x[3] + 120,
        -5 * x[0] ** 2 - 8 * x[1] - (x[2] - 6) ** 2 + 2 * x[3] + 40,
        -0.5 * (x[0] - 8) ** 2 - 2 * (x[1] - 4) ** 2 - 3 * x[4] ** 2 + x[5] + 30,
        -(x[0] ** 2) - 2 * (x[1] - 2) ** 2 + 2 * x[0] * x[1] - 14 * x[4] + 6 * x[5],
        3 * x[0] - 6 * x[1] - 12 * (x[8] - 8) ** 2 + 7 * x[9],
    ]  # fmt: skip


add("HS113", _f113, [2, 3, 5, 5, 1, 2, 7, 3, 6, 10], 24.3062091, ineq=_i113)


def _e111(x, m):
    e = [m.exp(v) for v in x]
    return [
        e[0] + 2 * e[1] + 2 * e[2] + e[5] + e[9] - 2, e[3] + 2 * e[4] + e[5] + e[6] - 1,
        e[2] + e[6] + e[7] + 2 * e[8] + e[9] - 1,
    ]  # fmt: skip


_C = [-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.100, -10.708, -26.662, -22.179]


def _f111(x, m):
    e = [m.exp(v) for v in x]
    s = m.log(sum(e[1:], e[0]))
    return sum((e[j] * (_C[j] + x[j] - s) for j in range(1, 10)), e[0] * (_C[0] + x[0] - s))


add("HS111", _f111, [-2.3] * 10, -47.76109026, eq=_e111, lb=[-100] * 10, ub=[100] * 10)
