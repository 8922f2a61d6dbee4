"""More, Garbow and Hillstrom (ACM TOMS 7(1), 1981): the rest of their test problems, in the rows of mgh_problems.

Local minima that the paper has not are those of Kuntsevich and Kappel's page of the SolvOpt tests (University of Graz);
some lie at infinity: of jennrich_sampson with x2 at minus infinity, of osborne2 with the bells gone.
"""

import numpy as np

from .mgh_problems import _pen1, _pen2, _watson, st

E = []


def add(id, name, n, m, r, x0, fopt, alt=()):
    row = {"id": id, "name": name, "n": n, "m": m, "r": r}
    E.append(row | {"x0": np.asarray(x0, float), "fopt": float(fopt), "alt": tuple(alt)})


add(
    4,
    "brown_badly_scaled",
    2,
    3,
    lambda x, xp: st(xp, x[0] - 1e6, x[1] - 2e-6, x[0] * x[1] - 2),
    [1, 1],
    0,
)


def _jensam(x, xp):
    i = np.arange(1, 11.0)
    return 2 + 2 * i - (xp.exp(i * x[0]) + xp.exp(i * x[1]))


add(6, "jennrich_sampson", 2, 10, _jensam, [0.3, 0.4], 124.362182355615, [259.580190134253])

_gauy = np.array(
    [
        *[0.0009, 0.0044, 0.0175, 0.0540, 0.1295, 0.2420, 0.3521, 0.3989],
        *[0.3521, 0.2420, 0.1295, 0.0540, 0.0175, 0.0044, 0.0009],
    ]
)


def _gauss(x, xp):
    t = (8 - np.arange(1, 16.0)) / 2
    return x[0] * xp.exp(-x[1] * (t - x[2]) ** 2 / 2) - _gauy


add(9, "gaussian", 3, 15, _gauss, [0.4, 1, 0], 1.12793276962e-8)


def _gulf(m):  # the "m i" in the printed |y_i m i x_2| stands for a minus: the minimum is at (50, 25, 1.5)
    t = np.arange(1, m + 1) / 100
    y = 25 + (-50 * np.log(t)) ** (2 / 3)
    return lambda x, xp: xp.exp(-(xp.abs(y - x[1]) ** x[2]) / x[0]) - t


add(11, "gulf", 3, 99, _gulf(99), [5, 2.5, 0.15], 0)


def _powsing(x, xp):
    a, b, c, d = x[0::4], x[1::4], x[2::4], x[3::4]
    return xp.concatenate([a + 10 * b, 5**0.5 * (c - d), (b - 2 * c) ** 2, 10**0.5 * (a - d) ** 2])


add(13, "powell_singular", 4, 4, _powsing, [3, -1, 0, 1], 0)

_o2 = np.array(
    [
        *[1.366, 1.191, 1.112, 1.013, 0.991, 0.885, 0.831, 0.847, 0.786, 0.725, 0.746, 0.679, 0.608],
        *[0.655, 0.616, 0.606, 0.602, 0.626, 0.651, 0.724, 0.649, 0.649, 0.694, 0.644, 0.624, 0.661],
        *[0.612, 0.558, 0.533, 0.495, 0.500, 0.423, 0.395, 0.375, 0.372, 0.391, 0.396, 0.405, 0.428],
        *[0.429, 0.523, 0.562, 0.607, 0.653, 0.672, 0.708, 0.633, 0.668, 0.645, 0.632, 0.591, 0.559],
        *[0.597, 0.625, 0.739, 0.710, 0.729, 0.720, 0.636, 0.581, 0.428, 0.292, 0.162, 0.098, 0.054],
    ]
)


def _osb2(x, xp):
    t = np.arange(65.0) / 10
    s = x[0] * xp.exp(-t * x[4])
    for j in (1, 2, 3):
        s = s + x[j] * xp.exp(-((t - x[7 + j]) ** 2) * x[4 + j])
    return _o2 - s


add(
    19,
    "osborne2",
    11,
    65,
    _osb2,
    [1.3, 0.65, 0.65, 0.7, 0.6, 3, 5, 7, 2, 4.5, 5.5],
    4.01377362935478e-2,
    [1.78981358688109, 26.305657],
)

for n, f in ((9, 1.39976013809872e-6), (12, 4.72238110729339e-10)):
    add(20, f"watson{n}", n, 31, _watson(n), np.zeros(n), f)

for n in (20, 100):
    add(22, f"ext_powell_singular{n}", n, n, _powsing, np.tile([3.0, -1, 0, 1], n // 4), 0)

add(23, "penalty1_10", 10, 11, _pen1, np.arange(1, 11.0), 7.0876514670904e-5)

add(24, "penalty2_10", 10, 20, _pen2, np.full(10, 0.5), 2.93660537456746e-4)


def _vardim(x, xp):
    s = xp.sum(np.arange(1, x.shape[0] + 1.0) * (x - 1))
    return xp.concatenate([x - 1, st(xp, s, s**2)])


add(25, "variably_dimensioned10", 10, 12, _vardim, 1 - np.arange(1, 11) / 10, 0)


def _trig(x, xp):
    n = x.shape[0]
    return n - xp.sum(xp.cos(x)) + np.arange(1, n + 1.0) * (1 - xp.cos(x)) - xp.sin(x)


add(26, "trigonometric10", 10, 10, _trig, np.full(10, 0.1), 0, [2.7950561218770e-5])


def _brown(x, xp):
    return xp.concatenate([x[:-1] + xp.sum(x) - (x.shape[0] + 1), st(xp, xp.prod(x) - 1)])


add(27, "brown_almost_linear10", 10, 10, _brown, np.full(10, 0.5), 0, [1])


def _bound(x, xp):  # x with a zero at either end
    return xp.concatenate([np.zeros(1), x, np.zeros(1)])


def _disbv(x, xp):
    h = 1 / (x.shape[0] + 1)
    t = h * np.arange(1, x.shape[0] + 1)
    z = _bound(x, xp)
    return 2 * x - z[:-2] - z[2:] + h**2 * (x + t + 1) ** 3 / 2


def _disie(x, xp):
    h = 1 / (x.shape[0] + 1)
    t = h * np.arange(1, x.shape[0] + 1)
    green = np.minimum(t, t[:, None]) * (1 - np.maximum(t, t[:, None]))
    return x + h / 2 * xp.sum(green * ((x + t + 1) ** 3)[None, :], axis=1)


_ten = np.arange(1, 11) / 11

add(28, "discrete_boundary_value10", 10, 10, _disbv, _ten * (_ten - 1), 0)

add(29, "discrete_integral10", 10, 10, _disie, _ten * (_ten - 1), 0)


def _broyt(x, xp):
    z = _bound(x, xp)
    return (3 - 2 * x) * x - z[:-2] - 2 * z[2:] + 1


def _broyb(x, xp):
    i = np.arange(x.shape[0])
    d = i - i[:, None]  # j - i
    near = ((d != 0) & (d >= -5) & (d <= 1)).astype(float)
    return x * (2 + 5 * x**2) + 1 - xp.sum(near * (x * (1 + x))[None, :], axis=1)


add(
    30,
    "broyden_tridiagonal10",
    10,
    10,
    _broyt,
    np.full(10, -1.0),
    0,
    [0.39737346895853, 0.71260601731262, 1.02865203567795, 1.05122618838356, 1.34953612374127, 1.36025590473840],
)

add(31, "broyden_banded10", 10, 10, _broyb, np.full(10, -1.0), 0, [2.68021992072613, 3.05727843242582])


_m, _n = 20, 10


def _linfr(x, xp):
    s = 2 / _m * xp.sum(x)
    return xp.concatenate([x - s - 1, xp.zeros(_m - _n) - s - 1])


def _linr1(x, xp):
    return np.arange(1, _m + 1.0) * xp.sum(np.arange(1, _n + 1.0) * x) - 1


def _linr1z(x, xp):
    i = np.append(np.arange(_m - 1.0), 0)  # i - 1, but nothing in the last row
    return i * xp.sum(np.arange(2.0, _n) * x[1:-1]) - 1


add(32, "linear_full_rank", _n, _m, _linfr, np.ones(_n), _m - _n)

add(33, "linear_rank1", _n, _m, _linr1, np.ones(_n), _m * (_m - 1) / (2 * (2 * _m + 1)))

add(34, "linear_rank1_zero", _n, _m, _linr1z, np.ones(_n), (_m**2 + 3 * _m - 6) / (2 * (2 * _m - 3)))

PROBLEMS = E

BY_NAME = {p["name"]: p for p in E}
