"""Hock and Schittkowski (LNEMS 187, 1981): some of their nonlinear programs as backend-neutral callables.

Each row: name, n, f(x, m) objective, eq(x, m) list of values = 0, ineq(x, m) list of values >= 0 (None if absent), bounds lb and ub (None = unbounded),
start x0, best known objective fopt, note. m is a math namespace (numpy, jax.numpy).
"""

from math import acos, asin, cos as _cos, log as _log, pi, sin as _sin, sqrt as _sqrt

INF = None

HS = []


def add(name, f, x0, fopt, eq=None, ineq=None, lb=None, ub=None, note=""):
    n = len(x0)
    HS.append(
        dict(
            name=name,
            n=n,
            f=f,
            eq=eq,
            ineq=ineq,
            lb=list(lb) if lb else [None] * n,
            ub=list(ub) if ub else [None] * n,
            x0=[float(v) for v in x0],
            fopt=float(fopt),
            note=note,
        )
    )


def rosen(x, m):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


add("HS1", rosen, [-2, 1], 0, lb=[None, -1.5])

add("HS3", lambda x, m: x[1] + 1e-5 * (x[1] - x[0]) ** 2, [10, 1], 0, lb=[None, 0])

add(
    "HS5",
    lambda x, m: m.sin(x[0] + x[1]) + (x[0] - x[1]) ** 2 - 1.5 * x[0] + 2.5 * x[1] + 1,
    [0, 0],
    -_sqrt(3) / 2 - pi / 3,
    lb=[-1.5, -3],
    ub=[4, 3],
)

add(
    "HS7",
    lambda x, m: m.log(1 + x[0] ** 2) - x[1],
    [2, 2],
    -_sqrt(3),
    eq=lambda x, m: [(1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4],
)

add(
    "HS9",
    lambda x, m: m.sin(pi * x[0] / 12) * m.cos(pi * x[1] / 16),
    [0, 0],
    -0.5,
    eq=lambda x, m: [4 * x[0] - 3 * x[1]],
)

add(
    "HS11",
    lambda x, m: (x[0] - 5) ** 2 + x[1] ** 2 - 25,
    [4.9, 0.1],
    -8.498464223,
    ineq=lambda x, m: [x[1] - x[0] ** 2],
)

add(
    "HS13",
    lambda x, m: (x[0] - 2) ** 2 + x[1] ** 2,
    [-2, -2],
    1,
    ineq=lambda x, m: [(1 - x[0]) ** 3 - x[1]],
    lb=[0, 0],
    note="constraint qualification fails at the solution; interior-point methods converge slowly and stop short",
)

add(
    "HS15",
    rosen,
    [-2, 1],
    306.5,
    ineq=lambda x, m: [x[0] * x[1] - 1, x[0] + x[1] ** 2],
    ub=[0.5, None],
    note="another local minimum 360.379767",
)

add("HS17", rosen, [-2, 1], 1, ineq=lambda x, m: [x[1] ** 2 - x[0], x[0] ** 2 - x[1]], lb=[-0.5, None], ub=[0.5, 1])

add(
    "HS19",
    lambda x, m: (x[0] - 10) ** 3 + (x[1] - 20) ** 3,
    [20.1, 5.84],
    -6961.81388,
    ineq=lambda x, m: [(x[0] - 5) ** 2 + (x[1] - 5) ** 2 - 100, -((x[0] - 6) ** 2) - (x[1] - 5) ** 2 + 82.81],
    lb=[13, 0],
    ub=[100, 100],
)

add(
    "HS21",
    lambda x, m: 0.01 * x[0] ** 2 + x[1] ** 2 - 100,
    [-1, -1],
    -99.96,
    ineq=lambda x, m: [10 * x[0] - x[1] - 10],
    lb=[2, -50],
    ub=[50, 50],
)

add(
    "HS23",
    lambda x, m: x[0] ** 2 + x[1] ** 2,
    [3, 1],
    2,
    ineq=lambda x, m: [
        x[0] + x[1] - 1,
        x[0] ** 2 + x[1] ** 2 - 1,
        9 * x[0] ** 2 + x[1] ** 2 - 9,
        x[0] ** 2 - x[1],
        x[1] ** 2 - x[0],
    ],
    lb=[-50, -50],
    ub=[50, 50],
    note="local minimum 9.4722",
)

add(
    "HS26",
    lambda x, m: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
    [-2.6, 2, 2],
    0,
    eq=lambda x, m: [(1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3],
)

add(
    "HS28",
    lambda x, m: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
    [-4, 1, 1],
    0,
    eq=lambda x, m: [x[0] + 2 * x[1] + 3 * x[2] - 1],
)

add(
    "HS30",
    lambda x, m: x[0] ** 2 + x[1] ** 2 + x[2] ** 2,
    [1, 1, 1],
    1,
    ineq=lambda x, m: [x[0] ** 2 + x[1] ** 2 - 1],
    lb=[1, -10, -10],
    ub=[10, 10, 10],
)

add(
    "HS32",
    lambda x, m: (x[0] + 3 * x[1] + x[2]) ** 2 + 4 * (x[0] - x[1]) ** 2,
    [0.1, 0.7, 0.2],
    1,
    eq=lambda x, m: [1 - x[0] - x[1] - x[2]],
    ineq=lambda x, m: [6 * x[1] + 4 * x[2] - x[0] ** 3 - 3],
    lb=[0, 0, 0],
)

add(
    "HS34",
    lambda x, m: -x[0],
    [0, 1.05, 2.9],
    -_log(_log(10)),
    ineq=lambda x, m: [x[1] - m.exp(x[0]), x[2] - m.exp(x[1])],
    lb=[0, 0, 0],
    ub=[100, 100, 10],
)

add(
    "HS36",
    lambda x, m: -x[0] * x[1] * x[2],
    [10] * 3,
    -3300,
    ineq=lambda x, m: [72 - x[0] - 2 * x[1] - 2 * x[2]],
    lb=[0] * 3,
    ub=[20, 11, 42],
)

add(
    "HS38",
    lambda x, m: (
        100 * (x[1] - x[0] ** 2) ** 2
        + (1 - x[0]) ** 2
        + 90 * (x[3] - x[2] ** 2) ** 2
        + (1 - x[2]) ** 2
        + 10.1 * ((x[1] - 1) ** 2 + (x[3] - 1) ** 2)
        + 19.8 * (x[1] - 1) * (x[3] - 1)
    ),
    [-3, -1, -3, -1],
    0,
    lb=[-10] * 4,
    ub=[10] * 4,
)

add(
    "HS40",
    lambda x, m: -x[0] * x[1] * x[2] * x[3],
    [0.8] * 4,
    -0.25,
    eq=lambda x, m: [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]],
)

add(
    "HS42",
    lambda x, m: (x[0] - 1) ** 2 + (x[1] - 2) ** 2 + (x[2] - 3) ** 2 + (x[3] - 4) ** 2,
    [1] * 4,
    28 - 10 * _sqrt(2),
    eq=lambda x, m: [x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2],
)

add(
    "HS44",
    lambda x, m: x[0] - x[1] - x[2] - x[0] * x[2] + x[0] * x[3] + x[1] * x[2] - x[1] * x[3],
    [0] * 4,
    -15,
    ineq=lambda x, m: [
        8 - x[0] - 2 * x[1],
        12 - 4 * x[0] - x[1],
        12 - 3 * x[0] - 4 * x[1],
        8 - 2 * x[2] - x[3],
        8 - x[2] - 2 * x[3],
        5 - x[2] - x[3],
    ],
    lb=[0] * 4,
    note="nonconvex QP, local minimum -13",
)

add(
    "HS46",
    lambda x, m: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
    [0.5 * _sqrt(2), 1.75, 0.5, 2, 2],
    0,
    eq=lambda x, m: [x[0] ** 2 * x[3] + m.sin(x[3] - x[4]) - 1, x[1] + x[2] ** 4 * x[3] ** 2 - 2],
    note="degenerate: fourth and sixth powers",
)

add(
    "HS49",
    lambda x, m: (x[0] - x[1]) ** 2 + (x[2] - 1) ** 2 + (x[3] - 1) ** 4 + (x[4] - 1) ** 6,
    [10, 7, 2, -3, 0.8],
    0,
    eq=lambda x, m: [x[0] + x[1] + x[2] + 4 * x[3] - 7, x[2] + 5 * x[4] - 6],
    note="degenerate",
)

_c51 = lambda r: lambda x, m: [x[0] + 3 * x[1] - r, x[2] + x[3] - 2 * x[4], x[1] - x[4]]

add(
    "HS51",
    lambda x, m: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
    [2.5, 0.5, 2, -1, 0.5],
    0,
    eq=_c51(4),
)

add(
    "HS53",
    lambda x, m: (x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2,
    [2] * 5,
    176 / 43,
    eq=_c51(0),
    lb=[-10] * 5,
    ub=[10] * 5,
)

_a56, _b56 = asin(_sqrt(1 / 4.2)), asin(_sqrt(5 / 7.2))

add(
    "HS60",
    lambda x, m: (x[0] - 1) ** 2 + (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
    [2] * 3,
    0.03256820025,
    eq=lambda x, m: [x[0] * (1 + x[1] ** 2) + x[2] ** 4 - 4 - 3 * _sqrt(2)],
    lb=[-10] * 3,
    ub=[10] * 3,
)

add(
    "HS62",
    lambda x, m: (
        -32.174
        * (
            255 * m.log((x[0] + x[1] + x[2] + 0.03) / (0.09 * x[0] + x[1] + x[2] + 0.03))
            + 280 * m.log((x[1] + x[2] + 0.03) / (0.07 * x[1] + x[2] + 0.03))
            + 290 * m.log((x[2] + 0.03) / (0.13 * x[2] + 0.03))
        )
    ),
    [0.7, 0.2, 0.1],
    -26272.51448,
    eq=lambda x, m: [x[0] + x[1] + x[2] - 1],
    lb=[0] * 3,
    ub=[1] * 3,
)

add(
    "HS64",
    lambda x, m: 5 * x[0] + 50000 / x[0] + 20 * x[1] + 72000 / x[1] + 10 * x[2] + 144000 / x[2],
    [1] * 3,
    6299.842428,
    ineq=lambda x, m: [1 - 4 / x[0] - 32 / x[1] - 120 / x[2]],
    lb=[1e-5] * 3,
)

add(
    "HS66",
    lambda x, m: 0.2 * x[2] - 0.8 * x[0],
    [0, 1.05, 2.9],
    0.5181632741,
    ineq=lambda x, m: [x[1] - m.exp(x[0]), x[2] - m.exp(x[1])],
    lb=[0] * 3,
    ub=[100, 100, 10],
)

add(
    "HS72",
    lambda x, m: 1 + x[0] + x[1] + x[2] + x[3],
    [1] * 4,
    727.67937,
    ineq=lambda x, m: [
        0.0401 - 4 / x[0] - 2.25 / x[1] - 1 / x[2] - 0.25 / x[3],
        0.010085 - 0.16 / x[0] - 0.36 / x[1] - 0.64 / x[2] - 0.64 / x[3],
    ],
    lb=[0.001] * 4,
    ub=[4e5, 3e5, 2e5, 1e5],
)


def _h74(a):
    return dict(
        f=lambda x, m: 3 * x[0] + 1e-6 * x[0] ** 3 + 2 * x[1] + 2e-6 / 3 * x[1] ** 3,
        x0=[0] * 4,
        eq=lambda x, m: [
            1000 * m.sin(-x[2] - 0.25) + 1000 * m.sin(-x[3] - 0.25) + 894.8 - x[0],
            1000 * m.sin(x[2] - 0.25) + 1000 * m.sin(x[2] - x[3] - 0.25) + 894.8 - x[1],
            1000 * m.sin(x[3] - 0.25) + 1000 * m.sin(x[3] - x[2] - 0.25) + 1294.8,
        ],
        ineq=lambda x, m: [x[3] - x[2] + a, x[2] - x[3] + a],
        lb=[0, 0, -a, -a],
        ub=[1200, 1200, a, a],
    )


add("HS74", fopt=5126.49811, **_h74(0.55))

add(
    "HS76",
    lambda x, m: (
        x[0] ** 2
        + 0.5 * x[1] ** 2
        + x[2] ** 2
        + 0.5 * x[3] ** 2
        - x[0] * x[2]
        + x[2] * x[3]
        - x[0]
        - 3 * x[1]
        + x[2]
        - x[3]
    ),
    [0.5] * 4,
    -4.681818181,
    ineq=lambda x, m: [5 - x[0] - 2 * x[1] - x[2] - x[3], 4 - 3 * x[0] - x[1] - 2 * x[2] + x[3], x[1] + 4 * x[2] - 1.5],
    lb=[0] * 4,
)

_c78 = lambda x, m: [
    x[0] ** 2 + x[1] ** 2 + x[2] ** 2 + x[3] ** 2 + x[4] ** 2 - 10,
    x[1] * x[2] - 5 * x[3] * x[4],
    x[0] ** 3 + x[1] ** 3 + 1,
]

_p5 = lambda x: x[0] * x[1] * x[2] * x[3] * x[4]

add("HS78", lambda x, m: _p5(x), [-2, 1.5, 2, -1, -1], -2.91970041, eq=_c78)

_b80 = dict(lb=[-2.3, -2.3, -3.2, -3.2, -3.2], ub=[2.3, 2.3, 3.2, 3.2, 3.2])

add("HS80", lambda x, m: m.exp(_p5(x)), [-2, 2, 2, -1, -1], 0.0539498478, eq=_c78, **_b80)


def _i83(x, m):
    a = 85.334407 + 0.0056858 * x[1] * x[4] + 0.0006262 * x[0] * x[3] - 0.0022053 * x[2] * x[4]
    b = 80.51249 + 0.0071317 * x[1] * x[4] + 0.0029955 * x[0] * x[1] + 0.0021813 * x[2] ** 2 - 90
    c = 9.300961 + 0.0047026 * x[2] * x[4] + 0.0012547 * x[0] * x[2] + 0.0019085 * x[2] * x[3] - 20
    return [a, 92 - a, b, 20 - b, c, 5 - c]


add(
    "HS83",
    lambda x, m: 5.3578547 * x[2] ** 2 + 0.8356891 * x[0] * x[4] + 37.293239 * x[0] - 40792.141,
    [78, 33, 27, 27, 27],
    -30665.53867,
    ineq=_i83,
    lb=[78, 33, 27, 27, 27],
    ub=[102, 45, 45, 45, 45],
)

add(
    "HS100",
    lambda x, m: (
        (x[0] - 10) ** 2
        + 5 * (x[1] - 12) ** 2
        + x[2] ** 4
        + 3 * (x[3] - 11) ** 2
        + 10 * x[4] ** 6
        + 7 * x[5] ** 2
        + x[6] ** 4
        - 4 * x[5] * x[6]
        - 10 * x[5]
        - 8 * x[6]
    ),
    [1, 2, 0, 4, 0, 1, 1],
    680.6300573,
    ineq=lambda x, m: [
        127 - 2 * x[0] ** 2 - 3 * x[1] ** 4 - x[2] - 4 * x[3] ** 2 - 5 * x[4],
        282 - 7 * x[0] - 3 * x[1] - 10 * x[2] ** 2 - x[3] + x[4],
        196 - 23 * x[0] - x[1] ** 2 - 6 * x[5] ** 2 + 8 * x[6],
        -4 * x[0] ** 2 - x[1] ** 2 + 3 * x[0] * x[1] - 2 * x[2] ** 2 - 5 * x[5] + 11 * x[6],
    ],
)

add(
    "HS106",
    lambda x, m: x[0] + x[1] + x[2],
    [5000, 5000, 5000, 200, 350, 150, 225, 425],
    7049.248020,
    ineq=lambda x, m: [
        1 - 0.0025 * (x[3] + x[5]),
        1 - 0.0025 * (x[4] + x[6] - x[3]),
        1 - 0.01 * (x[7] - x[4]),
        x[0] * x[5] - 833.33252 * x[3] - 100 * x[0] + 83333.333,
        x[1] * x[6] - 1250 * x[4] - x[1] * x[3] + 1250 * x[3],
        x[2] * x[7] - 1250000 - x[2] * x[4] + 2500 * x[4],
    ],
    lb=[100, 1000, 1000] + [10] * 5,
    ub=[10000] * 3 + [1000] * 5,
    note="badly scaled; HS book prints 7049.330923, later references 7049.2480",
)

_c112 = [-6.089, -17.164, -34.054, -5.914, -24.721, -14.986, -24.100, -10.708, -26.662, -22.179]


def _f112(x, m):
    s = 0.0
    for j in range(10):
        s = s + x[j]
    v = 0.0
    for j in range(10):
        v = v + x[j] * (_c112[j] + m.log(x[j] / s))
    return v


add(
    "HS112",
    _f112,
    [0.1] * 10,
    -47.76109026,
    eq=lambda x, m: [
        x[0] + 2 * x[1] + 2 * x[2] + x[5] + x[9] - 2,
        x[3] + 2 * x[4] + x[5] + x[6] - 1,
        x[2] + x[6] + x[7] + 2 * x[8] + x[9] - 1,
    ],
    lb=[1e-6] * 10,
    note="HS book prints -47.707579; -47.76109026 is the value of HS111 (the same problem in log variables)",
)

BY_NAME = {p["name"]: p for p in HS}
