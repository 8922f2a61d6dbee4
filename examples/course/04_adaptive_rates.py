"""4과. AdaGrad, RMSProp, AdaDelta / Lesson 4. A rate for each parameter

"많이 변한 것은 적게, 적게 변한 것은 많이." AdaGrad는 기울기의 제곱을 매개변수마다 더해 그 제곱근으로 나눕니다. 합은
늘기만 하므로 스텝은 줄기만 합니다. RMSProp은 합 대신 지수이동평균을 써서 오래된 기울기를 잊고, AdaDelta는 학습률
자리에 지난 스텝의 크기를 둡니다.

"What has moved much moves little, what has moved little moves much." AdaGrad divides by the root of the sum of
squared gradients, one sum a parameter. The sum only grows, so the steps only shrink. RMSProp has a moving average in
its place and forgets; AdaDelta has the size of past steps in the place of the learning rate.
"""

import jax.numpy as jnp
import lesson
import numpy as np

import jaxopt_ko as jo

METHODS = {
    "AdaGrad": (jo.adagrad(1.0, initial_accumulator_value=0.0), lesson.GREEN, "-."),
    "RMSProp": (jo.rmsprop(1.0, decay=0.9), lesson.BLUE, "-"),
    "AdaDelta": (jo.adadelta(1.0, eps=1e-3), lesson.PINK, "--"),
}


def slope(x):
    return jnp.sum(x)  # 기울기가 언제나 1 / the gradient is 1 everywhere


def main():
    out = lesson.begin(__doc__)
    figure, (left, right) = lesson.axes()

    # 기울기가 늘 1일 때 AdaGrad의 스텝은 1/√t로 줄고, RMSProp은 학습률에 머물고, AdaDelta는 스스로 늘어납니다.
    # RMSProp의 첫 스텝이 세 배나 긴 까닭은 5과에서 봅니다.
    # Where the gradient is 1 AdaGrad's steps fall as 1/√t, RMSProp's stay at the rate, AdaDelta's grow.
    # Why the first step of RMSProp is three times too long is seen in lesson 5.
    for name, (optimizer, color, dash) in METHODS.items():
        length = np.abs(np.diff(lesson.walk(optimizer, slope, [0.0], 100)[:, 0]))
        print(f"{name}: 1번째 스텝 / step 1 {length[0]:.3f}, 100번째 / step 100 {length[-1]:.3f}")
        left.loglog(np.arange(1, 101), length, color=color, linestyle=dash, linewidth=2, label=name)
    left.set(
        xlabel="스텝 / step", ylabel="스텝의 길이 / its length", title="기울기가 늘 1일 때 / where the gradient is 1"
    )
    left.legend()

    # 함수를 1000배 해도 AdaGrad의 경로는 그대로입니다: 기울기의 크기로 나누기 때문입니다. SGD는 발산합니다.
    # With the function a thousandfold AdaGrad's path is the same, as it divides by the gradient's size. SGD diverges.
    valley = jo.landscapes.landscape("long_valley").fun
    start = (-10.0, 1.0)
    for factor in (1.0, 1000.0):
        ends = [
            lesson.walk(optimizer, lambda x, f=factor: f * valley(x), start, 40)[-1]
            for optimizer in (jo.adagrad(0.7, initial_accumulator_value=0.0, eps=1e-12), jo.sgd(0.15))
        ]
        adagrad, sgd = (f"({x:.3g}, {y:.3g})" for x, y in ends)
        print(f"{factor:g} f: AdaGrad {adagrad}, SGD {sgd}")

    lesson.contours(right, valley, (-11, 4), (-2.2, 2.2), np.geomspace(0.3, 80, 12))
    rates = {"AdaGrad": 0.7, "RMSProp": 0.15, "AdaDelta": 1.0}
    for name, (_, color, dash) in METHODS.items():
        make = {"AdaGrad": lambda lr: jo.adagrad(lr, initial_accumulator_value=0.0), "RMSProp": jo.rmsprop}
        optimizer = make.get(name, lambda lr: jo.adadelta(lr, eps=1e-3))(rates[name])
        path = lesson.walk(optimizer, valley, start, 80)
        right.plot(*path.T, color=color, linestyle=dash, marker="o", markersize=2.5, linewidth=1.2, label=name)
    right.set(xlabel="x", ylabel="y", title="긴 계곡, 80스텝 / a long valley, 80 steps")
    lesson.finish(figure, out)


if __name__ == "__main__":
    main()
