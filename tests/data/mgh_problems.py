"""More, Garbow and Hillstrom (ACM TOMS 7(1), 1981): some of their test problems as residual functions, f(x) = sum_i r_i(x)^2.

Each row: id, name, n unknowns, m residuals, r(x, xp) with xp = numpy or jax.numpy, start x0, known minimum fopt, other published local minima alt.
"""

import numpy as np

PI = np.pi

E = []


def add(id, name, n, m, r, x0, fopt, alt=()):
    E.append(dict(id=id, name=name, n=n, m=m, r=r, x0=np.asarray(x0, float), fopt=float(fopt), alt=tuple(alt)))


def st(xp, *a):
    return xp.stack([xp.asarray(v) for v in a])


add(1, "rosenbrock", 2, 2, lambda x, xp: st(xp, 10 * (x[1] - x[0] ** 2), 1 - x[0]), [-1.2, 1], 0)

add(
    2,
    "freudenstein_roth",
    2,
    2,
    lambda x, xp: st(xp, -13 + x[0] + ((5 - x[1]) * x[1] - 2) * x[1], -29 + x[0] + ((x[1] + 1) * x[1] - 14) * x[1]),
    [0.5, -2],
    0,
    [48.984253679240],
)

add(
    3,
    "powell_badly_scaled",
    2,
    2,
    lambda x, xp: st(xp, 1e4 * x[0] * x[1] - 1, xp.exp(-x[0]) + xp.exp(-x[1]) - 1.0001),
    [0, 1],
    0,
)

add(
    5,
    "beale",
    2,
    3,
    lambda x, xp: st(xp, 1.5 - x[0] * (1 - x[1]), 2.25 - x[0] * (1 - x[1] ** 2), 2.625 - x[0] * (1 - x[1] ** 3)),
    [1, 1],
    0,
)


def _helical(x, xp):
    th = xp.arctan(x[1] / x[0]) / (2 * PI) + xp.where(x[0] < 0, 0.5, 0.0)
    return st(xp, 10 * (x[2] - 10 * th), 10 * (xp.sqrt(x[0] ** 2 + x[1] ** 2) - 1), x[2])


add(7, "helical_valley", 3, 3, _helical, [-1, 0, 0], 0)

_bardy = np.array([0.14, 0.18, 0.22, 0.25, 0.29, 0.32, 0.35, 0.39, 0.37, 0.58, 0.73, 0.96, 1.34, 2.10, 4.39])


def _bard(x, xp):
    u = np.arange(1, 16.0)
    v = 16 - u
    w = np.minimum(u, v)
    return _bardy - (x[0] + u / (v * x[1] + w * x[2]))


add(8, "bard", 3, 15, _bard, [1, 1, 1], 8.21487730657899e-3, [17.4286933])

_my = np.array(
    [34780, 28610, 23650, 19630, 16370, 13720, 11540, 9744, 8261, 7030, 6005, 5147, 4427, 3820, 3307, 2872.0]
)


def _meyer(x, xp):
    t = 45 + 5 * np.arange(1, 17.0)
    return x[0] * xp.exp(x[1] / (t + x[2])) - _my


add(10, "meyer", 3, 16, _meyer, [0.02, 4000, 250], 87.9458551710)


def _box(x, xp):
    t = 0.1 * np.arange(1, 11)
    return xp.exp(-t * x[0]) - xp.exp(-t * x[1]) - x[2] * (np.exp(-t) - np.exp(-10 * t))


add(12, "box3d", 3, 10, _box, [0, 10, 20], 0)

add(
    14,
    "wood",
    4,
    6,
    lambda x, xp: st(
        xp,
        10 * (x[1] - x[0] ** 2),
        1 - x[0],
        90**0.5 * (x[3] - x[2] ** 2),
        1 - x[2],
        10**0.5 * (x[1] + x[3] - 2),
        10**-0.5 * (x[1] - x[3]),
    ),
    [-3, -1, -3, -1],
    0,
    [7.8769],
)

_koy = np.array([0.1957, 0.1947, 0.1735, 0.1600, 0.0844, 0.0627, 0.0456, 0.0342, 0.0323, 0.0235, 0.0246])

_kou = np.array([4, 2, 1, 0.5, 0.25, 0.167, 0.125, 0.1, 0.0833, 0.0714, 0.0625])

add(
    15,
    "kowalik_osborne",
    4,
    11,
    lambda x, xp: _koy - x[0] * (_kou**2 + _kou * x[1]) / (_kou**2 + _kou * x[2] + x[3]),
    [0.25, 0.39, 0.415, 0.39],
    3.07505603849238e-4,
    [1.02734e-3],
)


def _bd(x, xp):
    t = np.arange(1, 21) / 5
    return (x[0] + t * x[1] - np.exp(t)) ** 2 + (x[2] + x[3] * np.sin(t) - np.cos(t)) ** 2


add(16, "brown_dennis", 4, 20, _bd, [25, 5, -5, -1], 85822.2016263563)

_o1 = np.array(
    [
        0.844,
        0.908,
        0.932,
        0.936,
        0.925,
        0.908,
        0.881,
        0.850,
        0.818,
        0.784,
        0.751,
        0.718,
        0.685,
        0.658,
        0.628,
        0.603,
        0.580,
        0.558,
        0.538,
        0.522,
        0.506,
        0.490,
        0.478,
        0.467,
        0.457,
        0.448,
        0.438,
        0.431,
        0.424,
        0.420,
        0.414,
        0.411,
        0.406,
    ]
)


def _osb1(x, xp):
    t = 10 * np.arange(33.0)
    return _o1 - (x[0] + x[1] * xp.exp(-t * x[3]) + x[2] * xp.exp(-t * x[4]))


add(17, "osborne1", 5, 33, _osb1, [0.5, 1.5, -1, 0.01, 0.02], 5.46489469748e-5)


def _biggs(x, xp):
    t = 0.1 * np.arange(1, 14)
    y = np.exp(-t) - 5 * np.exp(-10 * t) + 3 * np.exp(-4 * t)
    return x[2] * xp.exp(-t * x[0]) - x[3] * xp.exp(-t * x[1]) + x[5] * xp.exp(-t * x[4]) - y


add(18, "biggs_exp6", 6, 13, _biggs, [1, 2, 1, 1, 1, 1], 0, [5.65564992e-3, 0.3063667726])


def _watson(n):
    t = np.arange(1, 30) / 29.0
    j = np.arange(n)
    P = t[:, None] ** j  # t^(j-1) * x_j
    D = np.zeros((29, n))
    D[:, 1:] = j[1:] * t[:, None] ** (j[1:] - 1)  # (j-1) t^(j-2) x_j

    def r(x, xp):
        s = (P * x[None, :]).sum(1)
        return xp.concatenate([(D * x[None, :]).sum(1) - s**2 - 1, st(xp, x[0], x[1] - x[0] ** 2 - 1)])

    return r


add(20, "watson6", 6, 31, _watson(6), np.zeros(6), 2.28767005355e-3)


def _extros(x, xp):
    a, b = x[0::2], x[1::2]
    return xp.concatenate([10 * (b - a**2), 1 - a])


for n in (10, 100):
    add(21, f"ext_rosenbrock{n}", n, n, _extros, np.tile([-1.2, 1.0], n // 2), 0)


def _pen1(x, xp):
    return xp.concatenate([1e-5**0.5 * (x - 1), st(xp, xp.sum(x**2) - 0.25)])


add(23, "penalty1_4", 4, 5, _pen1, np.arange(1, 5.0), 2.249977500900e-5)


def _pen2(x, xp):
    n = x.shape[0]
    i = np.arange(2, n + 1)
    y = np.exp(i / 10) + np.exp((i - 1) / 10)
    a = 1e-5**0.5
    w = np.arange(n, 0, -1)
    return xp.concatenate(
        [
            st(xp, x[0] - 0.2),
            a * (xp.exp(x[1:] / 10) + xp.exp(x[:-1] / 10) - y),
            a * (xp.exp(x[1:] / 10) - np.exp(-0.1)),
            st(xp, xp.sum(w * x**2) - 1),
        ]
    )


add(24, "penalty2_4", 4, 8, _pen2, np.full(4, 0.5), 9.376293007355e-6)

_m, _n = 20, 10


def _cheby(x, xp):
    n = x.shape[0]
    u = 2 * x - 1
    t0, t1 = xp.ones(n), u
    out = []
    for i in range(1, n + 1):
        out.append(xp.sum(t1) / n + (1.0 / (i * i - 1) if i % 2 == 0 else 0.0))
        t0, t1 = t1, 2 * u * t1 - t0
    return xp.stack(out)


for n, f in ((7, 0), (8, 3.51687372568e-3), (9, 0), (10, 6.503954800882e-3)):
    add(35, f"chebyquad{n}", n, n, _cheby, np.arange(1, n + 1) / (n + 1), f, [4.772713e-3] if n == 10 else [])

PROBLEMS = E

BY_NAME = {p["name"]: p for p in E}
