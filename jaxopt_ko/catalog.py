"""A catalogue: one row per method, in English and in Korean, with its ancestors and the measured bytes of its state.

Equations are in the letters of the method's page; upright words are its keywords. Of optimizers g is the gradient, p
the parameters and u the update; of solvers p is the step, and p' its transpose.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_ko import errors
from jaxopt_ko.core.method import name_of, takes
from jaxopt_ko.core.tables import Table, width
from jaxopt_ko.optimizers.adabelief import acprop, adabelief
from jaxopt_ko.optimizers.adadelta import adadelta
from jaxopt_ko.optimizers.adafactor import adafactor
from jaxopt_ko.optimizers.adagrad import adagrad
from jaxopt_ko.optimizers.adam import adam, adamax, adamaxw, adamw, nadam, nadamw
from jaxopt_ko.optimizers.adamc import adamc
from jaxopt_ko.optimizers.adamuon import adamuon, normuon
from jaxopt_ko.optimizers.adan import adan
from jaxopt_ko.optimizers.ademamix import ademamix, simplified_ademamix
from jaxopt_ko.optimizers.adopt import adopt
from jaxopt_ko.optimizers.amsgrad import amsgrad
from jaxopt_ko.optimizers.apollo import apollo
from jaxopt_ko.optimizers.cocob import cocob
from jaxopt_ko.optimizers.dadaptation import dadapt_adamw
from jaxopt_ko.optimizers.dion import dion
from jaxopt_ko.optimizers.dog import dog, dowg
from jaxopt_ko.optimizers.fromage import fromage
from jaxopt_ko.optimizers.galore import galore
from jaxopt_ko.optimizers.kl_shampoo import kl_shampoo, kl_soap
from jaxopt_ko.optimizers.kron import psgd_kron
from jaxopt_ko.optimizers.lamb import lamb
from jaxopt_ko.optimizers.lars import lars
from jaxopt_ko.optimizers.lion import lion
from jaxopt_ko.optimizers.madgrad import madgrad
from jaxopt_ko.optimizers.momo import momo, momo_adam
from jaxopt_ko.optimizers.muon import muon
from jaxopt_ko.optimizers.noisy_sgd import noisy_sgd
from jaxopt_ko.optimizers.novograd import novograd
from jaxopt_ko.optimizers.optimistic import optimistic_adam_v2, optimistic_gradient_descent
from jaxopt_ko.optimizers.polyak import polyak_sgd
from jaxopt_ko.optimizers.prodigy import prodigy
from jaxopt_ko.optimizers.radam import radam
from jaxopt_ko.optimizers.rmsprop import rmsprop
from jaxopt_ko.optimizers.rprop import rprop
from jaxopt_ko.optimizers.scion import scion
from jaxopt_ko.optimizers.sgd import sgd
from jaxopt_ko.optimizers.shampoo import shampoo
from jaxopt_ko.optimizers.sign import sign_sgd, signum
from jaxopt_ko.optimizers.sm3 import sm3
from jaxopt_ko.optimizers.soap import soap
from jaxopt_ko.optimizers.sophia import sophia
from jaxopt_ko.optimizers.splus import splus
from jaxopt_ko.optimizers.yogi import yogi
from jaxopt_ko.projections import projection_non_negative
from jaxopt_ko.solvers.augmented import augmented_lagrangian
from jaxopt_ko.solvers.conjugate_gradient import nonlinear_cg
from jaxopt_ko.solvers.interior_point import interior_point
from jaxopt_ko.solvers.lbfgsb import lbfgsb
from jaxopt_ko.solvers.least_squares import gauss_newton, levenberg_marquardt
from jaxopt_ko.solvers.linear import cg
from jaxopt_ko.solvers.newton import newton, newton_cg
from jaxopt_ko.solvers.proximal import projected_gradient, prox_lasso, proximal_gradient
from jaxopt_ko.solvers.quadratic import quadratic_interior_point
from jaxopt_ko.solvers.quasi_newton import bfgs, lbfgs
from jaxopt_ko.types import GradientTransformation

LANGUAGES = ("en", "ko")
Text = tuple[str, str]  # in each of the languages

FAMILIES: dict[str, Text] = {
    "descent": ("gradient descent", "경사 하강법"),
    "adaptive": ("adaptive learning rates", "적응적 학습률"),
    "sign": ("steps by sign", "부호 스텝"),
    "rate-free": ("learning rates found on the way", "학습률을 스스로 찾기"),
    "layers": ("steps as large as the layer", "층의 크기에 맞춘 스텝"),
    "matrix": ("matrix preconditioners", "행렬 전처리"),
    "conjugate": ("conjugate gradients", "켤레 기울기"),
    "quasi-newton": ("quasi-Newton", "준뉴턴"),
    "newton": ("Newton", "뉴턴"),
    "squares": ("least squares", "최소제곱"),
    "composite": ("sets and penalties", "집합과 벌점"),
    "constrained": ("constraints", "제약"),
}
NEEDS: dict[str, Text] = {
    "gradient": ("gradient", "기울기"),
    "params": ("parameters", "매개변수"),
    "value": ("value", "손실 value"),
    "value_fn": ("value_fn", "함수 value_fn"),
    "residual_fn": ("residual_fn", "잔차 residual_fn"),
    "operator": ("operator and b", "연산자 operator와 b"),
    "products": ("Hessian products", "헤세 행렬-벡터 곱"),
    "hessian": ("Hessian", "헤세 행렬"),
    "bounds": ("bounds", "경계 bounds"),
    "projection": ("a projection", "사영"),
    "prox": ("a prox", "근접 연산자"),
    "constraints": ("equality, inequality", "제약식 equality, inequality"),
    "solver": ("a solver", "내부 솔버"),
    "matrices": ("vectors and matrices", "벡터와 행렬"),
}

METHODS: dict[str, Callable[..., GradientTransformation]] = {
    factory.__name__: factory
    for factory in (
        *(sgd, adagrad, rmsprop, adadelta, adam, adamw, adamc, adamax, adamaxw, nadam, nadamw, amsgrad),
        *(rprop, sign_sgd, signum, lion, yogi, radam, adabelief, adan),
        *(adafactor, sm3, galore, apollo, lars, novograd, lamb, fromage),
        *(ademamix, simplified_ademamix, adopt, acprop, madgrad, noisy_sgd, sophia),
        *(optimistic_gradient_descent, optimistic_adam_v2),
        *(shampoo, muon, normuon, adamuon, scion, soap, dion, psgd_kron, splus, kl_shampoo, kl_soap),
        *(polyak_sgd, cocob, dadapt_adamw, prodigy, dog, dowg, momo, momo_adam),
        *(cg, nonlinear_cg, bfgs, lbfgs, lbfgsb, newton, newton_cg, gauss_newton, levenberg_marquardt),
        *(projected_gradient, proximal_gradient, augmented_lagrangian, interior_point),
    )
} | dict.fromkeys(("linear_program", "quadratic_program"), quadratic_interior_point)


class Memory(NamedTuple):
    """Bytes of a state over n float32 parameters, with m residuals or inequalities: a polynomial of the two."""

    mn: int
    nn: int  # n**2
    m: int
    n: int
    rest: int  # counts, and what is as long for any problem
    root: int = 0  # sqrt(n): the sides of a matrix

    @property
    def per_parameter(self) -> int:
        """Bytes that a parameter adds, where none of them adds more than another (nn and mn are 0)."""
        return self.n

    def __str__(self) -> str:
        """Without the rest."""
        terms = ((self.mn, "mn"), (self.nn, "n²"), (self.m, "m"), (self.n, "n"), (self.root, "√n"))
        return " + ".join(f"{size}{letter}" for size, letter in terms if size) or "0"


class Row(NamedTuple):
    """A method."""

    name: str  # the public one, unless there are several rows of one factory
    title: Text
    family: str
    year: int
    paper: str
    equation: str  # LaTeX
    needs: tuple[str, ...]
    parents: tuple[str, ...]  # names of the rows that it grew out of
    sentence: Text
    strengths: Text
    not_for: Text
    factory: str = ""  # the public name, if it is another
    options: Mapping[str, Any] = {}

    @property
    def call(self) -> str:
        """How the method is written, but for the learning rate."""
        options = ", ".join(_shown(name, value) for name, value in self.options.items())
        return (self.factory or self.name) + (f"({options})" if options else "")

    @property
    def memory(self) -> Memory:
        """That of a state, measured."""
        return _measured(self.name)

    def make(self) -> GradientTransformation:
        """The method, with a learning rate of 0.1 if it takes one."""
        factory = METHODS[self.factory or self.name]
        rate = {"learning_rate": 0.1} if self.needs[0] == "gradient" and takes(factory, "learning_rate") else {}
        return factory(**rate, **self.options)


# fmt: off
ROWS = (
    Row("gradient_descent", ("Gradient descent", "경사 하강법"), "descent", 1847, "Cauchy 1847",
        r"u = -\mathrm{lr}\, g, \quad g = \nabla f(x)", ("gradient",), (),
        ("Steps down the gradient of the loss over all the data.",
         "모든 데이터에 대한 손실 함수의 기울기를 따라 내려갑니다."),
        ("simple; the loss never rises if the learning rate is small enough",
         "단순하고, 학습률이 충분히 작으면 손실이 늘지 않음"),
        ("a large condition number, where it zig-zags across the valley; many data",
         "조건수가 커서 좁은 계곡을 지그재그로 오가는 문제, 데이터가 많은 문제"),
        factory="sgd"),
    Row("sgd", ("Stochastic gradient descent", "확률적 경사 하강법"), "descent", 1951, "Robbins & Monro 1951",
        r"u = -\mathrm{lr}\, g, \quad g = \nabla f_{\mathrm{batch}}(x)", ("gradient",), ("gradient_descent",),
        ("Gradient descent by the gradient of one mini-batch at a time: noisy steps, but cheap ones.",
         "미니배치 하나의 기울기로 한 스텝씩 내려갑니다. 경로는 흔들리지만 스텝마다 드는 비용이 적습니다."),
        ("any amount of data; no state", "데이터가 아무리 많아도 되고, 상태가 없음"),
        ("narrow valleys, saddle points: momentum gets out of them sooner",
         "좁은 계곡과 안장점: 모멘텀이 더 빨리 벗어남")),
    Row("momentum", ("Momentum", "모멘텀"), "descent", 1964, "Polyak 1964",
        r"v \leftarrow \mathrm{momentum}\, v + g, \quad u = -\mathrm{lr}\, v", ("gradient",), ("sgd",),
        ("A velocity, the decaying sum of the gradients, damps the zig-zag and carries the step over flat places.",
         "공이 구르듯 기울기를 속도에 쌓아 지그재그를 줄이고, 평평한 곳을 관성으로 지나갑니다."),
        ("long valleys, saddle points; networks, once the learning rate is tuned",
         "긴 계곡과 안장점, 학습률을 잘 맞춘 신경망"),
        ("a learning rate that is too large: it overshoots the minimum", "큰 학습률: 최소점을 지나침(overshooting)"),
        factory="sgd", options={"momentum": 0.9}),
    Row("momentum_lr_inside", ("Momentum, learning rate inside", "모멘텀(학습률이 속도 안에)"), "descent", 2013,
        "Sutskever, Martens, Dahl & Hinton 2013",
        r"v \leftarrow \mathrm{momentum}\, v - \mathrm{lr}\, g, \quad u = v", ("gradient",), ("momentum",),
        ("Momentum with the learning rate inside the velocity: under a schedule old steps keep their old length.",
         "학습률을 속도 안에 넣은 모멘텀으로, 학습률을 줄여도 지난 스텝의 크기는 그대로 남습니다."),
        ("the form of textbooks; the same as the other while the learning rate is constant",
         "교과서의 형태이며, 학습률이 일정하면 모멘텀과 같음"),
        ("runs to be compared with optax or torch under a schedule: theirs is the other form",
         "스케줄을 쓰며 optax, torch와 비교할 때: 두 라이브러리는 다른 형태임"),
        factory="sgd", options={"momentum": 0.9, "lr_in_velocity": True}),
    Row("nesterov", ("Nesterov's accelerated gradient", "네스테로프 가속 경사(NAG)"), "descent", 1983,
        "Nesterov 1983; in this form Sutskever, Martens, Dahl & Hinton 2013",
        r"v \leftarrow \mathrm{momentum}\, v + g, \quad u = -\mathrm{lr}\,(g + \mathrm{momentum}\, v)",
        ("gradient",), ("momentum",),
        ("Momentum that looks a step ahead, and so brakes sooner where the ground rises.",
         "속도를 따라 한 스텝 앞을 내다보므로, 오르막을 만나면 모멘텀보다 일찍 속도를 줄입니다."),
        ("smooth convex functions: with the right momentum optimal, but for a constant, among methods of gradients",
         "매끄러운 볼록 함수: 모멘텀을 잘 정하면 기울기만 쓰는 방법 가운데 상수배를 빼고 최적"),
        ("gradients of much noise, in which a look ahead shows little", "잡음이 많은 기울기: 내다봐도 얻는 것이 적음"),
        factory="sgd", options={"momentum": 0.9, "nesterov": True}),
    Row("adagrad", ("AdaGrad", "AdaGrad(매개변수별 학습률)"), "adaptive", 2011,
        "Duchi, Hazan & Singer 2011, JMLR 12, Figure 1",
        r"h \leftarrow h + g^2, \quad u = -\mathrm{lr}\, \frac{g}{\sqrt{h + \epsilon}}", ("gradient",), ("sgd",),
        ("A learning rate of its own for each parameter: small for those whose gradients were large.",
         "매개변수마다 학습률을 따로 두어, 많이 변한 것은 적게, 적게 변한 것은 많이 움직입니다."),
        ("convex problems, sparse gradients", "볼록(convex) 문제, 희소한 기울기"),
        ("long training of networks: the steps only shrink", "신경망의 긴 학습: 스텝이 줄어들기만 함")),
    Row("rmsprop", ("RMSProp", "RMSProp(잊어 가는 AdaGrad)"), "adaptive", 2012, "Tieleman & Hinton 2012, lecture 6e",
        r"v \leftarrow \mathrm{decay}\, v + (1 - \mathrm{decay})\, g^2, \quad "
        r"u = -\mathrm{lr}\, \frac{g}{\sqrt{v + \epsilon}}", ("gradient",), ("adagrad",),
        ("AdaGrad that forgets: a moving average of the squares in the place of their sum.",
         "제곱의 합 대신 지수이동평균을 써서, 먼 과거의 기울기를 서서히 잊는 AdaGrad입니다."),
        ("losses that keep changing, recurrent networks", "계속 변하는 손실 함수, 순환 신경망"),
        ("a start that must be careful: without bias_correction the first steps are too long",
         "처음부터 크게 움직이면 안 될 때: bias_correction이 없으면 첫 스텝들이 너무 큼")),
    Row("rmsprop_centered", ("RMSProp, centered", "RMSProp(표준편차로 나누기)"), "adaptive", 2013,
        "Graves 2013, arXiv:1308.0850, equations 38-45",
        r"m \leftarrow \mathrm{decay}\, m + (1 - \mathrm{decay})\, g, \quad "
        r"u = -\mathrm{lr}\, \frac{g}{\sqrt{v - m^2 + \epsilon}}", ("gradient",), ("rmsprop",),
        ("RMSProp over the gradient's standard deviation: the steadier the gradient, the longer the step.",
         "기울기의 표준편차로 나누는 RMSProp으로, 기울기가 한결같을수록 스텝이 커집니다."),
        ("long slopes of little noise", "잡음이 적은 긴 비탈"),
        ("a small eps: where the gradient hardly varies the step explodes",
         "eps가 작은 경우: 기울기가 거의 변하지 않는 곳에서 스텝이 폭발함"),
        factory="rmsprop", options={"centered": True}),
    Row("adadelta", ("AdaDelta", "AdaDelta(학습률이 필요 없음)"), "adaptive", 2012,
        "Zeiler 2012, arXiv:1212.5701, Algorithm 1",
        r"u = -\mathrm{lr}\, \frac{\sqrt{E[\Delta x^2] + \epsilon}}{\sqrt{E[g^2] + \epsilon}}\, g, \quad "
        r"\mathrm{lr} = 1", ("gradient",), ("rmsprop",),
        ("The root mean square of past steps takes the learning rate's place, so the step has the parameters' units.",
         "학습률 자리에 지난 스텝의 제곱평균제곱근을 두어, 스텝이 매개변수와 같은 단위를 갖습니다."),
        ("no learning rate to tune", "맞출 학습률이 없음"),
        ("short runs: the first steps have the length sqrt(eps), and grow slowly",
         "짧은 학습: 첫 스텝의 크기가 sqrt(eps)이고 천천히 커짐")),
    Row("adam", ("Adam", "Adam(적응적 모멘트 추정)"), "adaptive", 2015,
        "Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1",
        r"m \leftarrow b_1 m + (1 - b_1)\, g, \quad v \leftarrow b_2 v + (1 - b_2)\, g^2, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}", ("gradient",), ("momentum", "rmsprop"),
        ("Momentum and RMSProp in one, both averages corrected for the bias of their start.",
         "모멘텀과 RMSProp을 합치고, 두 지수이동평균의 초반 편향을 보정합니다."),
        ("a sound first choice for networks, whatever the gradients' scale",
         "기울기의 크기가 어떻든 신경망에 먼저 써 볼 것"),
        ("a minimum to many digits: the steps do not shrink with the gradient",
         "최소점을 여러 자리까지 구할 때: 스텝이 기울기를 따라 줄지 않음")),
    Row("adamw", ("AdamW", "AdamW(분리된 가중치 감쇠)"), "adaptive", 2019,
        "Loshchilov & Hutter 2019, arXiv:1711.05101, Algorithm 2",
        r"u = -\mathrm{lr}\, \left(\frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon} + \mathrm{weight\_decay}\, p\right)",
        ("gradient", "params"), ("adam",),
        ("Adam with weight decay beside the gradient, not in it: all weights decay at one rate.",
         "가중치 감쇠를 기울기에 섞지 않고 따로 더해, 모든 가중치가 같은 비율로 줄어드는 Adam입니다."),
        ("networks that need regularization", "정규화(regularization)가 필요한 신경망"),
        ("biases and scales that should not decay, without a mask", "줄면 안 되는 편향이나 배율에 mask가 없을 때")),
    Row("adamc", ("AdamC", "AdamC(학습률에 맞춘 가중치 감쇠)"), "adaptive", 2025,
        "Defazio 2025, arXiv:2506.02285, Algorithm 1",
        r"u = -\mathrm{lr}\, \left(\frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon} + "
        r"\mathrm{weight\_decay}\, \frac{\mathrm{lr}}{\mathrm{max\_learning\_rate}}\, p\right)",
        ("gradient", "params"), ("adamw",),
        ("AdamW whose weight decay falls with the learning rate's schedule, so that gradients do not grow at its end.",
         "학습률 스케줄을 따라 가중치 감쇠도 줄여, 학습 막바지에 기울기가 커지지 않게 한 AdamW입니다."),
        ("long schedules over layers that a normalization follows", "정규화 층이 뒤따르는 층을 긴 스케줄로 학습할 때"),
        ("a constant learning rate, where it is AdamW; layers without normalization",
         "학습률이 일정할 때(AdamW와 같음)나 정규화 층이 없는 층")),
    Row("adamax", ("AdaMax", "AdaMax(무한대 노름의 Adam)"), "adaptive", 2015,
        "Kingma & Ba 2015, arXiv:1412.6980, Algorithm 2",
        r"u_t = \max(b_2 u_{t-1}, \vert g \vert + \epsilon), \quad u = -\mathrm{lr}\, \frac{\hat{m}}{u_t}",
        ("gradient",), ("adam",),
        ("Adam with a decaying maximum of the gradients in the place of their root mean square.",
         "제곱평균제곱근 대신 서서히 줄어드는 최댓값으로 나누는 Adam입니다."),
        ("gradients that are zero most of the time, such as those of embeddings", "임베딩처럼 대부분 0인 기울기"),
        ("gradients with outliers: one of them shortens many steps", "이상치가 있는 기울기: 스텝이 오랫동안 작아짐")),
    Row("adamaxw", ("AdaMaxW", "AdaMaxW(가중치 감쇠를 분리한 AdaMax)"), "adaptive", 2019,
        "Kingma & Ba 2015, arXiv:1412.6980; Loshchilov & Hutter 2019, arXiv:1711.05101",
        r"u = -\mathrm{lr}\, \left(\frac{\hat{m}}{u_t} + \mathrm{weight\_decay}\, p\right)",
        ("gradient", "params"), ("adamax", "adamw"),
        ("AdaMax with the decoupled weight decay of AdamW.", "AdamW처럼 가중치 감쇠를 분리한 AdaMax입니다."),
        ("embeddings that need regularization", "정규화(regularization)가 필요한 임베딩"),
        ("gradients with outliers, as AdaMax", "AdaMax와 마찬가지로 이상치가 있는 기울기")),
    Row("nadam", ("NAdam", "NAdam(네스테로프 모멘텀의 Adam)"), "adaptive", 2016,
        "Dozat 2016, ICLR workshop, Algorithm 2",
        r"\hat{m} = \frac{b_1 m}{1 - b_1^{t+1}} + \frac{(1 - b_1)\, g}{1 - b_1^t}, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}", ("gradient",), ("adam", "nesterov"),
        ("Adam whose mean gradient looks a step ahead, as Nesterov's does.",
         "네스테로프처럼 한 스텝 앞의 평균 기울기를 쓰는 Adam입니다."),
        ("where Adam is good, often in fewer steps", "Adam이 잘 맞는 곳, 흔히 더 적은 스텝으로"),
        ("runs to be compared with torch: give momentum_decay=4e-3 there",
         "torch와 비교할 때: momentum_decay=4e-3을 주어야 같음")),
    Row("nadamw", ("NAdamW", "NAdamW(가중치 감쇠를 분리한 NAdam)"), "adaptive", 2019,
        "Dozat 2016, ICLR workshop; Loshchilov & Hutter 2019, arXiv:1711.05101",
        r"u = -\mathrm{lr}\, \left(\frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon} + \mathrm{weight\_decay}\, p\right)",
        ("gradient", "params"), ("nadam", "adamw"),
        ("NAdam with the decoupled weight decay of AdamW.", "AdamW처럼 가중치 감쇠를 분리한 NAdam입니다."),
        ("where AdamW is good, often in fewer steps", "AdamW가 잘 맞는 곳, 흔히 더 적은 스텝으로"),
        ("biases and scales that should not decay, without a mask", "줄면 안 되는 편향이나 배율에 mask가 없을 때")),
    Row("amsgrad", ("AMSGrad", "AMSGrad(분모가 줄지 않는 Adam)"), "adaptive", 2018,
        "Reddi, Kale & Kumar 2018, arXiv:1904.09237, Algorithm 2",
        r"w \leftarrow \max(w, \hat{v}), \quad u = -\mathrm{lr}\, \frac{\hat{m}}{\sqrt{w} + \epsilon}",
        ("gradient",), ("adam",),
        ("Adam over the largest mean square so far, so that no learning rate ever rises again.",
         "지금까지 가장 큰 제곱평균으로 나누어, 매개변수의 학습률이 다시 커지지 않는 Adam입니다."),
        ("a proof of convergence where Adam has none", "Adam과 달리 수렴이 증명됨"),
        ("scarce memory: one vector more than Adam, and seldom better",
         "메모리가 귀할 때: Adam보다 벡터 하나가 더 들지만 더 나은 경우는 드묾")),
    Row("rprop", ("Rprop", "Rprop(부호로 스텝 크기를 조절)"), "sign", 1993,
        "Riedmiller & Braun 1993; Igel & Hüsken 2003, Neurocomputing 50",
        r"d \leftarrow d\, (1.2\, \mathrm{or}\, 0.5), \quad u = -d\, \mathrm{sign}(g)",
        ("gradient",), ("gradient_descent",),
        ("A step size for each parameter, longer while its gradient keeps its sign and shorter when that turns.",
         "매개변수마다 스텝 크기를 따로 두고, 기울기의 부호가 그대로면 늘리고 바뀌면 줄입니다."),
        ("no learning rate to tune; the gradient's size does not matter",
         "학습률을 조정할 필요가 없고 기울기의 크기와 무관함"),
        ("mini-batches: their noise turns the signs", "미니배치: 잡음 때문에 부호가 바뀜")),
    Row("sign_sgd", ("signSGD", "signSGD(부호 경사 하강법)"), "sign", 2018,
        "Bernstein et al. 2018, arXiv:1802.04434, Algorithm 1",
        r"u = -\mathrm{lr}\, \mathrm{sign}(g)",
        ("gradient",), ("sgd",),
        ("The sign of the gradient alone: every parameter moves by the learning rate.",
         "기울기의 부호만 씁니다. 모든 매개변수가 학습률만큼 움직입니다."),
        ("one bit a parameter to send between machines", "기계 사이에 매개변수마다 1비트만 보내면 됨"),
        ("small batches, whose noise it does not average", "배치가 작을 때: 잡음을 평균 내지 못함")),
    Row("signum", ("Signum", "Signum(평균의 부호)"), "sign", 2018,
        "Bernstein et al. 2018, arXiv:1802.04434, Algorithm 2",
        r"m \leftarrow \beta m + (1 - \beta)\, g, \quad u = -\mathrm{lr}\, \mathrm{sign}(m)",
        ("gradient",), ("sign_sgd", "momentum"),
        ("The sign of the gradients' running mean: signSGD with momentum.",
         "기울기 이동평균의 부호로 움직입니다. 모멘텀이 있는 signSGD입니다."),
        ("as signSGD, with the noise averaged; one vector of memory",
         "signSGD와 같지만 잡음이 평균됨. 메모리는 벡터 하나"),
        ("a minimum to many digits: steps keep their size", "여러 자리까지 정확한 최솟값: 스텝이 작아지지 않음")),
    Row("lion", ("Lion", "Lion(진화로 찾은 부호 모멘텀)"), "sign", 2023,
        "Chen et al. 2023, arXiv:2302.06675, Algorithm 2",
        r"u = -\mathrm{lr}\, (\mathrm{sign}(\beta_1 m + (1 - \beta_1)\, g) + \lambda x), \quad "
        r"m \leftarrow \beta_2 m + (1 - \beta_2)\, g",
        ("gradient", "params"), ("signum", "adamw"),
        ("Signum that leans on the newest gradient, with decoupled weight decay; found by a search over programs.",
         "가장 최근 기울기에 가중치를 더 둔 Signum에 분리된 가중치 감쇠를 더한 것으로, 프로그램 탐색으로 찾았습니다."),
        ("half the memory of AdamW", "메모리가 AdamW의 절반"),
        ("small batches; a learning rate copied from AdamW: it needs one 3 to 10 times smaller",
         "배치가 작을 때. AdamW의 학습률을 그대로 쓰면 안 되고 3~10배 작아야 함")),
    Row("yogi", ("Yogi", "Yogi(천천히 변하는 제곱평균)"), "adaptive", 2018,
        "Zaheer et al. 2018, NeurIPS, Algorithm 2",
        r"v \leftarrow v - (1 - \beta_2)\, \mathrm{sign}(v - g^2)\, g^2, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}",
        ("gradient",), ("adam",),
        ("Adam whose mean square moves by at most the new square, so that it does not forget a rare gradient at once.",
         "제곱평균이 새 제곱보다 더 많이 변하지 않는 Adam이라, 드문 기울기를 금방 잊지 않습니다."),
        ("sparse gradients", "드물게 나타나는(희소한) 기울기"),
        ("a quick fall of the gradients' size, which it follows slowly", "기울기가 급히 작아지는 문제: 천천히 따라감")),
    Row("radam", ("RAdam", "RAdam(분산을 바로잡은 Adam)"), "adaptive", 2020,
        "Liu et al. 2020, arXiv:1908.03265, Algorithm 2",
        r"u = -\mathrm{lr}\, r_t \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}, \quad "
        r"r_t^2 = \frac{(\rho_t - 4)(\rho_t - 2)\, \rho_\infty}{(\rho_\infty - 4)(\rho_\infty - 2)\, \rho_t}",
        ("gradient",), ("adam",),
        ("Adam that holds its steps back until the mean square is known from enough gradients.",
         "제곱평균이 믿을 만해질 때까지 스텝을 줄이는 Adam입니다. 워밍업이 들어 있는 셈입니다."),
        ("no warm-up schedule to choose", "워밍업 스케줄을 따로 정하지 않아도 됨"),
        ("its first steps are plain momentum, as long as the gradient is",
         "처음 몇 스텝은 모멘텀이라 기울기만큼 커짐")),
    Row("adabelief", ("AdaBelief", "AdaBelief(기울기를 믿는 정도)"), "adaptive", 2020,
        "Zhuang et al. 2020, arXiv:2010.07468, Algorithm 2",
        r"s \leftarrow \beta_2 s + (1 - \beta_2)(g - m)^2 + \epsilon, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m}}{\sqrt{\hat{s}} + \epsilon}",
        ("gradient",), ("adam",),
        ("Adam that divides by how far gradients are from their mean: long steps where they are as expected.",
         "기울기가 평균에서 벗어난 정도로 나누는 Adam이라, 예상과 같은 방향으로는 크게 움직입니다."),
        ("generalizes nearer to SGD than Adam does, in its authors' experiments",
         "저자들의 실험에서 Adam보다 SGD에 가깝게 일반화함"),
        ("an untuned eps: results change with it", "ε을 조정하지 않을 때: 결과가 크게 달라짐")),
    Row("adan", ("Adan", "Adan(기울기의 변화를 쓰는 네스테로프)"), "adaptive", 2022,
        "Xie et al. 2022, arXiv:2208.06677, Algorithm 1",
        r"n \leftarrow \beta_3 n + (1 - \beta_3)(g + \beta_2 d)^2, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m} + \beta_2 \hat{v}}{\sqrt{\hat{n}} + \epsilon}, "
        r"\quad d = g - g_{\mathrm{old}}",
        ("gradient",), ("adam", "nadam"),
        ("Adam with Nesterov's look ahead, made from the change between two gradients.",
         "두 기울기의 차이로 한 스텝 앞을 내다보는, 네스테로프 방식의 Adam입니다."),
        ("stands learning rates 5 to 10 times Adam's", "Adam보다 5~10배 큰 학습률을 견딤"),
        ("scarce memory: four vectors", "메모리가 귀할 때: 벡터 네 개")),
    Row("adafactor", ("Adafactor", "Adafactor(제곱평균을 행과 열로 나누어 기억)"), "adaptive", 2018,
        "Shazeer & Stern 2018, arXiv:1804.04235, Algorithms 4 and 5",
        r"R \leftarrow b_t R + (1 - b_t)\, \mathrm{rowmean}(g^2), \quad "
        r"C \leftarrow b_t C + (1 - b_t)\, \mathrm{colmean}(g^2), \quad "
        r"u = -\mathrm{lr}\; \mathrm{rms}(p)\, \frac{g}{\sqrt{R C / \bar{R}}}",
        ("gradient", "params"), ("adam",),
        ("Adam without momentum, whose mean square is kept for rows and columns of a matrix alone; steps are in "
         "proportion to the parameters.",
         "모멘텀 없는 Adam으로, 행과 열마다 제곱평균 하나만 기억합니다. 스텝은 매개변수의 크기에 비례합니다."),
        ("large matrices: m + n numbers for m n weights", "큰 행렬: 가중치 m n개에 숫자 m + n개만 기억"),
        ("leaves with only one axis of 128 or more, which keep the whole of it: lower min_dim_size_to_factor",
         "두 번째로 긴 축이 128보다 짧은 텐서: 제곱평균을 다 기억하므로 min_dim_size_to_factor를 낮출 것")),
    Row("sm3", ("SM3", "SM3(행과 열의 최댓값으로 어림하는 AdaGrad)"), "adaptive", 2019,
        "Anil, Gupta, Koren & Singer 2019, arXiv:1901.11150, Algorithm SM3-II",
        r"v = \min_a \mu_a + g^2, \quad \mu_a \leftarrow \max v, \quad "
        r"m \leftarrow b_1 m + (1 - b_1) \frac{g}{\sqrt{v}}, \quad u = -\mathrm{lr}\, m",
        ("gradient",), ("adagrad", "momentum"),
        ("AdaGrad whose sums are bounded by one number for each row and one for each column.",
         "제곱의 합을 행마다 하나, 열마다 하나의 상한으로 어림하는 AdaGrad입니다."),
        ("large embeddings, sparse gradients", "큰 임베딩, 희소한 기울기"),
        ("long runs: as AdaGrad's, its steps only shrink", "긴 학습: AdaGrad처럼 스텝이 줄어들기만 함")),
    Row("galore", ("GaLore", "GaLore(기울기를 저차원으로 사영)"), "adaptive", 2024,
        "Zhao et al. 2024, arXiv:2403.03507, Algorithm 2",
        r"R = P' g, \quad u = -\mathrm{lr}\; \mathrm{scale}\; P\, \mathrm{adam}(R), \quad "
        r"P = \mathrm{svd}_{\mathrm{rank}}(g)",
        ("gradient",), ("adam",),
        ("Adam on gradients that are projected to their first singular vectors, found anew every 200 steps.",
         "기울기를 큰 특이벡터 몇 개에 사영하고 그 안에서 Adam을 씁니다. 특이벡터는 200스텝마다 새로 구합니다."),
        ("wide matrices: moments as small as a low-rank adapter's, while all weights are trained",
         "큰 행렬: 모든 가중치를 학습하면서도 모멘트는 저랭크(low-rank) 어댑터만큼 작음"),
        ("small matrices; wherever a singular value decomposition is slow", "작은 행렬, 특잇값 분해가 느린 장치")),
    Row("apollo", ("APOLLO", "APOLLO(무작위 사영으로 채널 크기 조절)"), "adaptive", 2024,
        "Zhu et al. 2024, arXiv:2412.05270, Algorithm 1",
        r"R = P g, \quad N = \mathrm{adam}(R), \quad s_j = \frac{\Vert N_j\Vert}{\Vert R_j\Vert}, \quad "
        r"u = -\mathrm{lr}\; \mathrm{scale}\; g\, \mathrm{diag}(s)",
        ("gradient",), ("adam", "galore"),
        ("Gradients whose channels are made as long as Adam's step is in a random projection to a few dimensions.",
         "기울기를 무작위로 저차원에 사영해 Adam을 돌리고, 그 스텝 크기에 맞춰 기울기를 채널별로 조절합니다."),
        ("scarce memory: moments of a low rank, one for APOLLO-Mini, and no singular value decomposition",
         "메모리가 귀할 때: 저랭크(APOLLO-Mini는 랭크 1) 모멘트만 저장하고 특잇값 분해도 하지 않음"),
        ("small matrices; where memory is no concern", "작은 행렬, 메모리가 넉넉할 때")),
    Row("lars", ("LARS", "LARS(층별 적응 학습률)"), "layers", 2017,
        "You, Gitman & Ginsburg 2017, arXiv:1708.03888, Algorithm 1",
        r"d = g + \lambda p, \quad v \leftarrow \mathrm{momentum}\, v - "
        r"\mathrm{lr}\, \frac{\eta \Vert p \Vert}{\Vert d \Vert}\, d, \quad u = v",
        ("gradient", "params"), ("momentum",),
        ("Momentum whose steps are, in each layer, in proportion to the layer's weights.",
         "층마다 스텝 크기가 그 층의 가중치 크기에 비례하는 모멘텀입니다."),
        ("convolutional networks with batches of thousands", "배치가 수천인 합성곱 신경망"),
        ("small batches; biases and norms, which trust_ratio_mask leaves out",
         "작은 배치. 편향과 정규화 계수는 trust_ratio_mask로 빼 둘 것")),
    Row("novograd", ("NovoGrad", "NovoGrad(층별로 정규화한 모멘텀)"), "layers", 2019,
        "Ginsburg et al. 2019, arXiv:1905.11286, Algorithm 1",
        r"v \leftarrow b_2 v + (1 - b_2) \Vert g \Vert^2, \quad "
        r"m \leftarrow b_1 m + \frac{g}{\sqrt{v} + \epsilon} + \lambda p, \quad u = -\mathrm{lr}\, m",
        ("gradient", "params"), ("momentum", "adam"),
        ("Momentum of gradients divided by the mean norm of their layer: Adam with one second moment a layer.",
         "층별 평균 크기로 나눈 기울기의 모멘텀입니다. 2차 모멘트를 층마다 하나만 두는 Adam인 셈입니다."),
        ("the memory of momentum; speech and language models", "메모리가 모멘텀과 같음. 음성과 언어 모델"),
        ("coordinates of different scales within a layer", "한 층 안에서 좌표마다 크기가 크게 다를 때")),
    Row("lamb", ("LAMB", "LAMB(층별 적응 모멘트)"), "layers", 2020,
        "You et al. 2020, arXiv:1904.00962, Algorithm 2",
        r"a = \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon} + \lambda p, \quad "
        r"u = -\mathrm{lr}\, \frac{\Vert p \Vert}{\Vert a \Vert}\, a",
        ("gradient", "params"), ("adamw", "lars"),
        ("AdamW whose steps are, in each layer, in proportion to the layer's weights.",
         "층마다 스텝 크기가 그 층의 가중치 크기에 비례하는 AdamW입니다."),
        ("batches of tens of thousands", "배치가 수만일 때"),
        ("small batches, where AdamW does as well", "작은 배치: AdamW로 충분함")),
    Row("fromage", ("Fromage", "Fromage(층을 정해진 각도만큼 돌리기)"), "layers", 2020,
        "Bernstein, Vahdat, Yue & Liu 2020, arXiv:2002.03432, Algorithm 1",
        r"p_t = \frac{1}{\sqrt{1 + \mathrm{lr}^2}} "
        r"\left(p - \mathrm{lr}\, \frac{\Vert p \Vert}{\Vert g \Vert}\, g\right)",
        ("gradient", "params"), ("lars",),
        ("Each layer is turned towards its gradient by an angle that the learning rate alone decides.",
         "층마다 학습률이 정하는 각도만큼 가중치를 기울기 쪽으로 돌립니다."),
        ("no state, one hyperparameter, weights that do not grow",
         "상태가 없고, 하이퍼파라미터가 하나이며, 가중치가 커지지 않음"),
        ("weights that start at 0, and steps that are to end: it never rests",
         "0에서 시작하는 가중치, 스텝이 줄어야 하는 문제: 학습률을 줄이지 않으면 멈추지 않음")),
    Row("ademamix", ("AdEMAMix", "AdEMAMix(빠른 평균과 느린 평균)"), "adaptive", 2024,
        "Pagliardini, Ablin & Grangier 2024, arXiv:2409.03137, Algorithm 1",
        r"m_2 \leftarrow b_3 m_2 + (1 - b_3)\, g, \quad "
        r"u = -\mathrm{lr}\, \frac{\hat{m}_1 + \alpha m_2}{\sqrt{\hat{v}} + \epsilon}",
        ("gradient",), ("adam",),
        ("Adam with a second mean of the gradients, so slow that gradients of ten thousand steps ago still count.",
         "아주 느린 두 번째 지수이동평균을 더해, 1만 스텝 전의 기울기까지 기억하는 Adam입니다."),
        ("long training of language models", "언어 모델의 긴 학습"),
        ("short runs, data that change", "짧은 학습, 분포가 변하는 데이터")),
    Row("simplified_ademamix", ("Simplified AdEMAMix", "단순화한 AdEMAMix"), "adaptive", 2025,
        "Morwani, Vyas, Zhang & Kakade 2025, arXiv:2502.02431, Algorithm 1",
        r"m \leftarrow b_1 m + g, \quad u = -\mathrm{lr}\, \frac{m + \alpha g}{\sqrt{\hat{n}} + \epsilon}",
        ("gradient",), ("ademamix",),
        ("AdEMAMix with the gradient itself in the place of the fast mean: one vector of memory less.",
         "빠른 평균 자리에 기울기를 그대로 써서 벡터 하나를 아낀 AdEMAMix입니다."),
        ("large alpha for small batches, alpha = 0 for large ones", "배치가 작으면 큰 α, 배치가 크면 α = 0"),
        ("a learning rate copied from Adam: m is a sum, so it needs 1 - b1 times that",
         "Adam의 학습률을 그대로 쓸 때: m이 합이므로 1 - b1배로 줄여야 함")),
    Row("adopt", ("ADOPT", "ADOPT(어떤 β2로도 수렴하는 Adam)"), "adaptive", 2024,
        "Taniguchi et al. 2024, arXiv:2411.02853, Algorithm 2",
        r"r = \frac{g}{\max(\sqrt{v_{t-1}}, \epsilon)}, \quad m \leftarrow b_1 m + (1 - b_1)\, r, \quad "
        r"u = -\mathrm{lr}\, m", ("gradient",), ("adam",),
        ("Adam that divides by the mean square before this gradient, and averages only then.",
         "이번 기울기를 넣기 전의 제곱평균으로 먼저 나누고, 그 뒤에 평균을 내는 Adam입니다."),
        ("converges whatever b2 is", "b2를 어떻게 정해도 수렴함"),
        ("runs of a few steps: the first one only measures", "스텝이 몇 번뿐인 학습: 첫 스텝은 재기만 함")),
    Row("acprop", ("ACProp", "ACProp(한 스텝 늦은 AdaBelief)"), "adaptive", 2021,
        "Zhuang et al. 2021, arXiv:2110.05454, Algorithm 2",
        r"s_t = b_2 s_{t-1} + (1 - b_2)(g - m)^2 + \epsilon, \quad "
        r"u = -\mathrm{lr}\, \frac{g}{\sqrt{\hat{s}_{t-1}} + \epsilon}", ("gradient",), ("adabelief",),
        ("The gradient over AdaBelief's deviation of one step ago, of which it is independent.",
         "한 스텝 전까지의 편차로 기울기를 나눕니다. 나누는 수가 이번 기울기와 무관합니다."),
        ("converges where Adam does not", "Adam이 수렴하지 않는 문제에서도 수렴함"),
        ("a large first gradient, which it takes as it is: warm up",
         "첫 기울기가 클 때: 그대로 움직이므로 워밍업이 필요함")),
    Row("madgrad", ("MADGRAD", "MADGRAD(쌍대 평균)"), "adaptive", 2021,
        "Defazio & Jelassi 2021, arXiv:2101.11075, Algorithm 1",
        r"z = x_0 - \frac{s}{\sqrt[3]{v} + \epsilon}, \quad u = (1 - \mathrm{momentum})\, (z - p)",
        ("gradient", "params"), ("adagrad", "momentum"),
        ("From the start by the sum of all gradients, over the cube root of the sum of their squares.",
         "출발점에서 모든 기울기의 합만큼 움직이되, 제곱합의 세제곱근으로 나눕니다."),
        ("generalizes like SGD, adapts like Adam", "SGD처럼 일반화하고 Adam처럼 적응함"),
        ("scarce memory: three vectors; a weight decay copied from SGD: it needs less",
         "메모리가 귀할 때: 벡터 세 개. SGD의 가중치 감쇠는 너무 큼")),
    Row("noisy_sgd", ("Noisy SGD", "잡음을 더한 SGD"), "descent", 2015,
        "Neelakantan et al. 2015, arXiv:1511.06807, section 3",
        r"u = -\mathrm{lr}\, (g + \sigma_t z), \quad \sigma_t^2 = \frac{\eta}{t^\gamma}, \quad z \sim N(0, I)",
        ("gradient",), ("sgd",),
        ("SGD with Gaussian noise added to the gradient, less of it from step to step.",
         "기울기에 정규분포 잡음을 더하고 그 크기를 차츰 줄이는 SGD입니다."),
        ("very deep networks that start badly", "초깃값이 나쁜 아주 깊은 신경망"),
        ("a minimum to many digits", "여러 자리까지 정확한 최솟값"),
        options={"key": 0}),
    Row("optimistic_gradient_descent", ("Optimistic gradient descent", "낙관적 경사 하강법"), "descent", 2018,
        "Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, equation 3",
        r"u = -\mathrm{lr}\, (\alpha g_t + \beta\, (g_t - g_{t-1}))", ("gradient",), ("sgd",),
        ("Counts the gradient's change once more, as if the next step would bring it again.",
         "기울기의 변화를 한 번 더 더해, 다음에도 그만큼 변할 것처럼 미리 움직입니다."),
        ("games of two players, where gradient descent circles", "두 참가자의 게임: 경사 하강법은 맴돌기만 함"),
        ("plain minimization: it gains nothing", "단순한 최소화: 이득이 없음")),
    Row("optimistic_adam_v2", ("Optimistic Adam", "낙관적 Adam"), "adaptive", 2018,
        "Daskalakis, Ilyas, Syrgkanis & Zeng 2018, arXiv:1711.00141, Algorithm 1",
        r"r = \frac{\hat{m}}{\sqrt{\hat{v}} + \epsilon}, \quad "
        r"u = -\mathrm{lr}\, (\alpha r_t + \beta\, (r_t - r_{t-1}))",
        ("gradient",), ("adam", "optimistic_gradient_descent"),
        ("Optimistic gradient descent along Adam's direction.", "Adam의 방향에 낙관적 경사 하강법을 씁니다."),
        ("generative adversarial networks", "생성적 적대 신경망(GAN)"),
        ("plain minimization: Adam does it with a vector less", "단순한 최소화: Adam이 메모리를 덜 씀")),
    Row("sophia", ("Sophia", "Sophia(대각 헤세 행렬로 나누기)"), "newton", 2023,
        "Liu, Li, Hall, Liang & Ma 2023, arXiv:2305.14342, Algorithm 3",
        r"h \leftarrow b_2 h + (1 - b_2)\, r \odot H r, \quad "
        r"u = -\mathrm{lr}\, \mathrm{clip}\left(\frac{\hat{m}}{\max(\gamma h, \epsilon)}, 1\right)",
        ("value_fn", "params", "products"), ("newton", "signum"),
        ("The mean gradient over a mean diagonal of the Hessian, estimated every ten steps, each element clipped.",
         "10스텝마다 추정한 헤세 행렬의 대각으로 평균 기울기를 나누고, 성분마다 크기를 제한합니다."),
        ("language models", "언어 모델"),
        ("losses that are dear to differentiate twice", "두 번 미분하는 비용이 큰 손실 함수"),
        options={"learning_rate": 0.1}),
    Row("shampoo", ("Shampoo", "Shampoo(양쪽 전처리)"), "matrix", 2018,
        "Gupta et al. 2018, arXiv:1802.09568, Algorithm 1",
        r"L \leftarrow \beta_2 L + (1 - \beta_2)\, G G', \quad R \leftarrow \beta_2 R + (1 - \beta_2)\, G' G, \quad "
        r"U = -\mathrm{lr}\, L^{-1/4} G R^{-1/4}",
        ("gradient",), ("adagrad",),
        ("Adagrad for matrices: two factors, of the rows' and the columns' gradients so far, turn and scale the new.",
         "행렬용 AdaGrad로, 지난 기울기를 행과 열 방향으로 누적해 새 기울기를 회전하고 크기를 조절합니다."),
        ("fewer steps than Adam on large networks", "큰 신경망에서 Adam보다 스텝 수가 적음"),
        ("where inverse roots are dear: CPUs, sides of many thousands",
         "역제곱근 계산이 비쌀 때: CPU, 한 변이 수천을 넘을 때")),
    Row("muon", ("Muon", "Muon(직교화한 모멘텀)"), "matrix", 2024,
        "Jordan et al. 2024, kellerjordan.github.io/posts/muon",
        r"M \leftarrow \beta M + (1 - \beta)\, G, \quad M = U \Sigma V', \quad W \leftarrow W - \mathrm{lr}\, U V'",
        ("gradient",), ("nesterov", "shampoo"),
        ("Momentum for matrices, with every singular value brought to one by a few matrix products (Newton-Schulz).",
         "행렬의 모멘텀에서 모든 특잇값을 행렬 곱 몇 번(뉴턴-슐츠 반복)으로 1에 가깝게 만듭니다."),
        ("the fewest steps for hidden layers, with half of Adam's memory",
         "은닉층에서 스텝 수가 가장 적고 메모리는 Adam의 절반"),
        ("embeddings, heads, norms and biases: they go to another method",
         "임베딩, 출력층, 정규화, 편향: 다른 방법에 맡김")),
    Row("normuon", ("NorMuon", "NorMuon(뉴런별로 고르게 한 Muon)"), "matrix", 2025,
        "Li et al. 2025, arXiv:2510.05491, Algorithm 1",
        r"Q = U V', \quad v \leftarrow \beta_2 v + (1 - \beta_2)\, \mathrm{mean}(Q^2), \quad "
        r"N = \frac{Q}{\sqrt{v} + \epsilon}, \quad W \leftarrow W - 0.2\, \mathrm{lr}\, \sqrt{mn}\, "
        r"\frac{N}{\Vert N\Vert}",
        ("gradient",), ("muon", "adam"),
        ("Muon's step with every neuron brought to one length on average: one number more for each output.",
         "Muon의 스텝에서 뉴런별 크기를 평균적으로 같게 맞추며, 출력 하나에 숫자 하나만 더 기억합니다."),
        ("Muon's steps made even, at AdamW's learning rates", "AdamW의 학습률을 그대로 쓰며 Muon의 스텝을 고르게 함"),
        ("embeddings, heads, norms and biases: they go to another method",
         "임베딩, 출력층, 정규화, 편향: 다른 방법에 맡김")),
    Row("adamuon", ("AdaMuon", "AdaMuon(적응적 Muon)"), "matrix", 2025,
        "Si et al. 2025, arXiv:2507.11005, Algorithm 1",
        r"\mathrm{sign}(M) = U \Sigma V', \quad Q = U V', \quad V \leftarrow \beta V + (1 - \beta)\, Q^2, \quad "
        r"N = \frac{Q}{\sqrt{V} + \epsilon}, \quad W \leftarrow W - 0.2\, \mathrm{lr}\, \sqrt{mn}\, "
        r"\frac{N}{\Vert N\Vert}",
        ("gradient",), ("muon", "adam", "signum"),
        ("The sign of the momentum, orthogonalized, then divided by the root of its second moment as in Adam.",
         "모멘텀의 부호를 직교화한 뒤 Adam처럼 원소마다 2차 모멘트의 제곱근으로 나눕니다."),
        ("gradients of very different sizes within one matrix, at AdamW's learning rates",
         "한 행렬 안에서 기울기의 크기가 크게 다를 때, AdamW의 학습률을 그대로 씀"),
        ("scarce memory: twice Muon's", "메모리가 귀할 때: Muon의 두 배")),
    Row("scion", ("Scion", "Scion(층마다 노름을 고르는 방법)"), "matrix", 2025,
        "Pethick et al. 2025, arXiv:2502.07529, Algorithm 2",
        r"D \leftarrow \mathrm{momentum}\, D + (1 - \mathrm{momentum})\, G, \quad "
        r"W \leftarrow (1 - \mathrm{lr})\, W + \mathrm{lr}\, "
        r"\mathrm{argmin}_{\Vert X\Vert \leq \mathrm{radius}} \langle D, X\rangle",
        ("gradient", "params"), ("muon", "signum"),
        ("Every layer steps towards the best point of a ball in a norm of its own: singular values, rows, signs.",
         "층마다 특잇값, 행, 부호 가운데 알맞은 노름을 골라, 그 노름의 공 안에서 가장 좋은 점을 향해 움직입니다."),
        ("learning rates that hold for other widths; weights that stay bounded; half of Adam's memory, for all layers",
         "너비가 달라져도 그대로 쓰는 학습률, 한계를 넘지 않는 가중치, 모든 층에서 Adam의 절반인 메모리"),
        ("weights that begin outside of the ball, or have to leave it",
         "가중치가 공 밖에서 시작하거나 공을 벗어나야 할 때")),
    Row("soap", ("SOAP", "SOAP(Shampoo 고유기저의 Adam)"), "matrix", 2024,
        "Vyas et al. 2024, arXiv:2409.11321, Algorithm 3",
        r"G' = Q_L' G Q_R, \quad V \leftarrow \beta_2 V + (1 - \beta_2)\, G'^2, \quad "
        r"U = -\mathrm{lr}\, Q_L \frac{Q_L' M Q_R}{\sqrt{V} + \epsilon} Q_R'",
        ("gradient", "params"), ("shampoo", "adam"),
        ("Adam in the basis in which Shampoo's preconditioner is diagonal; the basis is made anew once in ten steps.",
         "Shampoo의 전처리 행렬이 대각이 되는 기저에서 도는 Adam이며, 기저는 10스텝마다 새로 구합니다."),
        ("fewer steps than Adam and than Shampoo, hardly anything to tune",
         "Adam이나 Shampoo보다 스텝 수가 적고 조정할 것이 거의 없음"),
        ("scarce memory: four square matrices a weight matrix", "메모리가 귀할 때: 가중치 행렬마다 정사각 행렬 네 개")),
    Row("dion", ("Dion", "Dion(저랭크 직교 스텝)"), "matrix", 2025,
        "Ahn et al. 2025, arXiv:2504.05295, Algorithm 1",
        r"B = M + G, \quad P = \mathrm{orth}(B Q), \quad R = B' P, \quad M = B - (1 - \mu)\, P R', \quad "
        r"Q = \frac{R}{\Vert R\Vert}, \quad W \leftarrow W - \mathrm{lr}\, P Q'",
        ("gradient", "params"), ("muon",),
        ("A step of low rank with orthonormal factors, by one power iteration; what is left out stays in the momentum.",
         "거듭제곱 반복 한 번으로 직교하는 저랭크 인수를 구해 스텝으로 삼고, 빠진 부분은 모멘텀에 남겨 둡니다."),
        ("large matrices, sharded ones most of all: its products are with r columns, where Muon's are with all",
         "큰 행렬, 특히 여러 장치에 나눈 행렬: Muon과 달리 열 r개짜리 행렬만 곱함"),
        ("embeddings, heads, norms and biases: they go to another method",
         "임베딩, 출력층, 정규화, 편향: 다른 방법에 맡김")),
    Row("psgd_kron", ("PSGD, Kronecker factors", "PSGD(크로네커 인수)"), "matrix", 2024,
        "Pooladzandi & Li 2024, arXiv:2402.11858, after Li 2015, arXiv:1512.04202",
        r"U = -\mathrm{lr}\, Q_L' Q_L M Q_R' Q_R, \quad "
        r"Q \leftarrow Q - \eta\, \mathrm{triu}\left(\frac{A A' - B B'}{\Vert A A' + B B' \Vert}\right) Q",
        ("gradient",), ("shampoo", "momentum"),
        ("A triangular factor for each side, fitted by gradient steps of its own until what comes out is white noise.",
         "행과 열마다 삼각행렬을 하나씩 두고, 전처리한 기울기가 백색 잡음이 되도록 그 행렬을 조금씩 맞춥니다."),
        ("no roots, no eigenvectors; half of SOAP's memory", "제곱근도 고유벡터도 구하지 않으며, 메모리는 SOAP의 절반"),
        ("short runs: the factors start from the identity and need hundreds of steps",
         "짧은 학습: 인수가 단위행렬에서 시작해 수백 스텝이 지나야 맞음")),
    Row("splus", ("SPlus", "SPlus(Shampoo 고유기저의 부호)"), "matrix", 2025,
        "Frans, Levine & Abbeel 2025, arXiv:2506.07254, Algorithm 1",
        r"M \leftarrow b_1 M + (1 - b_1)\, G, \quad "
        r"U = -\mathrm{lr}\, \frac{2}{m + n}\, Q_L\, \mathrm{sign}(Q_L' M Q_R)\, Q_R'",
        ("gradient", "params"), ("shampoo", "signum"),
        ("The sign of the momentum in the eigenbases of Shampoo's factors, which may be a hundred steps old.",
         "Shampoo의 고유기저에서 모멘텀의 부호만 취하므로, 100스텝 전의 기저를 써도 스텝 크기가 일정합니다."),
        ("decompositions once in a hundred steps, one learning rate for any width, averaged weights",
         "고유분해는 100스텝에 한 번, 너비가 달라도 같은 학습률, 가중치의 평균"),
        ("weights that are evaluated as they are, not averaged", "평균하지 않은 가중치로 평가할 때")),
    Row("kl_shampoo", ("KL-Shampoo", "KL-Shampoo(쿨백-라이블러 발산을 줄이는 Shampoo)"), "matrix", 2025,
        "Lin et al. 2025, arXiv:2509.03378",
        r"L \leftarrow b_2 L + (1 - b_2)\, \frac{G R^{-1} G'}{n}, \quad "
        r"R \leftarrow b_2 R + (1 - b_2)\, \frac{G' L^{-1} G}{m}, \quad U = -\mathrm{lr}\, L^{-1/2} M R^{-1/2}",
        ("gradient", "params"), ("shampoo", "soap"),
        ("Shampoo whose factors are each fitted to the gradients as the other one has made them white.",
         "한쪽 인수로 백색화한 기울기에 다른 쪽 인수를 번갈아 맞추어 가는 Shampoo입니다."),
        ("no grafting and no second moment: less memory than SOAP",
         "그래프팅(grafting)도 2차 모멘트도 필요 없어 SOAP보다 메모리가 적음"),
        ("short runs of gradients whose size is far from what init_factor says",
         "기울기의 크기가 init_factor와 크게 다른 짧은 학습")),
    Row("kl_soap", ("KL-SOAP", "KL-SOAP(KL-Shampoo 고유기저의 Adam)"), "matrix", 2025,
        "Lin et al. 2025, arXiv:2509.03378",
        r"G' = Q_L' G Q_R, \quad V \leftarrow b_2 V + (1 - b_2)\, G'^2, \quad "
        r"U = -\mathrm{lr}\, Q_L \frac{Q_L' M Q_R}{\sqrt{V} + \epsilon} Q_R'",
        ("gradient", "params"), ("soap", "kl_shampoo"),
        ("SOAP in the eigenbases of KL-Shampoo's factors.", "KL-Shampoo의 고유기저에서 도는 SOAP입니다."),
        ("bases that do not depend on how the other side is scaled", "다른 쪽 변의 크기에 좌우되지 않는 기저"),
        ("scarce memory: KL-Shampoo does as well without the squares",
         "메모리가 귀할 때: KL-Shampoo는 제곱 없이도 그만큼 빠름")),
    Row("polyak_sgd", ("SGD with Polyak's step", "폴랴크 스텝의 SGD"), "rate-free", 2021,
        "Loizou et al. 2021, arXiv:2002.10542",
        r"\eta = \min\left(\frac{f - f_{\min}}{\Vert g\Vert^2 + \epsilon}, \eta_{\max}\right), \quad u = -\eta\, g",
        ("gradient", "value"), ("gradient_descent",),
        ("The step that would reach the known least loss if the loss were a plane.",
         "손실이 평면이라면 알려진 최솟값에 한 번에 닿을 만큼을 한 스텝으로 움직입니다."),
        ("no learning rate where the least loss is known", "손실의 최솟값을 알 때 학습률이 필요 없음"),
        ("a least loss that is not known", "손실의 최솟값을 모를 때")),
    Row("cocob", ("COCOB", "COCOB(동전 내기)"), "rate-free", 2017,
        "Orabona & Tommasi 2017, arXiv:1705.07795, Algorithm 2",
        r"x = x_0 + \frac{\theta\,(L + R)}{L \max(G + L, \alpha L)}, \quad \theta = -\sum g, "
        r"\quad G = \sum \Vert g\Vert",
        ("gradient", "params"), ("adagrad",),
        ("Each weight bets what it has won on the sign of its next gradient.",
         "가중치마다 지금까지 딴 것을 다음 기울기의 부호에 겁니다."),
        ("no learning rate at all", "학습률이 전혀 없음"),
        ("scarce memory: five vectors", "메모리가 귀할 때: 벡터 다섯 개")),
    Row("dadapt_adamw", ("D-Adapted AdamW", "D-적응 AdamW"), "rate-free", 2023,
        "Defazio & Mishchenko 2023, arXiv:2301.07733, Algorithm 5",
        r"d \leftarrow \max\left(d, \frac{r}{(1 - \sqrt{\beta_2})\, \Vert s\Vert_1}\right), \quad "
        r"u = -\frac{m}{\sqrt{v} + \epsilon}, \quad m \leftarrow \beta_1 m + (1 - \beta_1)\, d\, g",
        ("gradient", "params"), ("adamw",),
        ("AdamW times an estimate of the distance from the start to the solution.",
         "출발점에서 해까지의 거리를 추정해 학습률로 쓰는 AdamW입니다."),
        ("near a tuned AdamW with no tuning", "조정 없이도 잘 조정한 AdamW에 가까움"),
        ("fine tuning from weights that are nearly right", "이미 거의 맞은 가중치를 미세 조정할 때")),
    Row("prodigy", ("Prodigy", "Prodigy(더 빠른 거리 추정)"), "rate-free", 2023,
        "Mishchenko & Defazio 2023, arXiv:2306.06101, Algorithm 4",
        r"d \leftarrow \max\left(d, \frac{r}{\Vert s\Vert_1}\right), \quad "
        r"r \leftarrow \sqrt{\beta_2}\, r + a\, \langle g, x_0 - x\rangle, "
        r"\quad u = -a\, \frac{m}{\sqrt{v} + d\, \epsilon}",
        ("gradient", "params"), ("dadapt_adamw",),
        ("D-Adaptation whose estimate grows faster, as gradients weigh more where it was larger.",
         "추정이 클 때의 기울기에 가중치를 더 두어 거리 추정이 더 빨리 커지는 D-적응입니다."),
        ("a sound first try where no learning rate is known", "학습률을 전혀 모를 때 먼저 써 볼 만함"),
        ("continuing from other weights: it remembers the start", "다른 가중치에서 이어 갈 때: 출발점을 기억함")),
    Row("dog", ("DoG", "DoG(거리 나누기 기울기)"), "rate-free", 2023,
        "Ivgi, Hinder & Carmon 2023, arXiv:2302.12022",
        r"u = -\frac{\max \Vert x - x_0\Vert}{\sqrt{\sum \Vert g\Vert^2 + \epsilon}}\, g",
        ("gradient", "params"), ("gradient_descent", "adagrad"),
        ("SGD whose rate is the distance gone over the root of all gradients' squares.",
         "지나온 거리를 기울기 제곱합의 제곱근으로 나눈 값이 학습률인 SGD입니다."),
        ("half of Adam's memory, nothing to tune", "메모리가 Adam의 절반이고 조정할 것이 없음"),
        ("evaluation without averaging the weights", "가중치를 평균하지 않고 평가할 때")),
    Row("dowg", ("DoWG", "DoWG(가중 기울기)"), "rate-free", 2023,
        "Khaled, Mishchenko & Jin 2023, arXiv:2305.16284, Algorithm 1",
        r"r \leftarrow \max(r, \Vert x - x_0\Vert), \quad v \leftarrow v + r^2 \Vert g\Vert^2, "
        r"\quad u = -\frac{r^2}{\sqrt{v} + \epsilon}\, g",
        ("gradient", "params"), ("dog",),
        ("DoG that weighs each gradient by the distance it was met at.",
         "기울기를 구한 지점까지의 거리를 그 기울기의 가중치로 쓰는 DoG입니다."),
        ("proved for smooth and for nonsmooth functions", "매끄러운 함수와 그렇지 않은 함수 모두에서 증명됨"),
        ("noisy gradients without averaging", "잡음이 큰데 평균하지 않을 때")),
    Row("momo", ("MoMo", "MoMo(모델로 정하는 모멘텀)"), "rate-free", 2023,
        "Schaipp et al. 2023, arXiv:2305.07583, Algorithm 1",
        r"\tau = \min\left(\mathrm{lr}, \frac{(f - f_{\min} - \gamma + \langle d, x\rangle)_+}"
        r"{\Vert d\Vert^2}\right), "
        r"\quad u = -\tau\, d",
        ("gradient", "params", "value"), ("momentum", "polyak_sgd"),
        ("Momentum that steps to where the mean of past losses, as planes, meets the lower bound.",
         "지난 손실들을 평면으로 보고 그 평균이 하한과 만나는 곳까지 가는 모멘텀입니다."),
        ("stands learning rates far too large", "지나치게 큰 학습률도 견딤"),
        ("losses whose least value is far from any known bound", "손실의 최솟값이 알려진 하한에서 멀 때")),
    Row("momo_adam", ("MoMo-Adam", "MoMo-Adam(모델로 정하는 Adam)"), "rate-free", 2023,
        "Schaipp et al. 2023, arXiv:2305.07583, Algorithm 2",
        r"\tau = \min\left(\mathrm{lr}, "
        r"\frac{(f - f_{\min} - \gamma + \langle d, x\rangle)_+}{\langle d, D^{-1} d\rangle}\right), "
        r"\quad u = -\tau\, D^{-1} d, \quad D = \sqrt{\hat{v}} + \epsilon",
        ("gradient", "params", "value"), ("momo", "adam"),
        ("MoMo in Adam's metric.", "Adam의 척도로 잰 MoMo입니다."),
        ("Adam without a tuned learning rate", "학습률을 조정하지 않은 Adam"),
        ("losses whose least value is far from any known bound", "손실의 최솟값이 알려진 하한에서 멀 때")),
    Row("cg", ("Conjugate gradients", "켤레 기울기법"), "conjugate", 1952,
        "Hestenes & Stiefel 1952; Nocedal & Wright 2006, algorithm 5.3",
        r"\alpha = \frac{r'z}{d'Ad}, \quad x \leftarrow x + \alpha d, \quad r \leftarrow r - \alpha A d, \quad z = M r",
        ("operator",), ("gradient_descent",),
        ("Solves A x = b, A positive definite, by products with A: n steps at most, but for rounding.",
         "양의 정부호인 A와의 곱만으로 A x = b를 풉니다. 반올림 오차가 없다면 많아야 n스텝입니다."),
        ("large linear systems and quadratics, with a preconditioner", "큰 연립 일차방정식과 이차함수, 전처리 가능"),
        ("functions that are not quadratic: newton_cg", "이차함수가 아닌 함수: newton_cg가 나음")),
    Row("nonlinear_cg", ("Nonlinear conjugate gradients", "비선형 켤레 기울기법"), "conjugate", 1964,
        "Fletcher & Reeves 1964; Hager & Zhang 2006, Pacific J. Optim. 2",
        r"p = -g + \beta\, p_{\mathrm{old}}, \quad x \leftarrow x + a\, p", ("value_fn",), ("cg",),
        ("Conjugate gradients for any smooth function, along a line search.",
         "켤레 기울기법을 일반적인 매끄러운 함수로 확장해 직선 탐색과 함께 씁니다."),
        ("smooth functions of very many parameters", "매개변수가 아주 많은 매끄러운 함수"),
        ("where lbfgs has room for its memory: it needs a third of the evaluations",
         "lbfgs를 쓸 메모리가 있을 때: 함수 평가가 3분의 1로 충분함")),
    Row("newton", ("Newton's method", "뉴턴법"), "newton", 1740,
        "Simpson 1740; in a trust region Moré & Sorensen 1983, doi:10.1137/0904038",
        r"(H + \lambda I)\, p = -g, \quad \vert p \vert \leq \Delta", ("value_fn", "hessian"), (),
        ("Steps to the minimum of the quadratic model, within a trust region that leads out of saddle points.",
         "이차 근사의 최소점으로 나아갑니다. 신뢰 영역 덕분에 안장점에서도 벗어납니다."),
        ("the fewest evaluations; ill-conditioned functions, saddle points", "적은 함수 평가, 큰 조건수, 안장점"),
        ("more than some thousand parameters: the Hessian is dense", "수천 개가 넘는 매개변수: 헤세 행렬이 조밀함")),
    Row("newton_cg", ("Newton-CG", "뉴턴-켤레 기울기법"), "newton", 1983,
        "Steihaug 1983, doi:10.1137/0720042; Nocedal & Wright 2006, algorithm 7.2",
        r"\vert H p + g \vert \leq \min(\mathrm{forcing}, \sqrt{\vert g \vert / \vert g \vert_{\max}})\, \vert g \vert",
        ("value_fn", "products"), ("newton", "cg"),
        ("Newton's step by conjugate gradients, as exactly as it is worth: the Hessian is never formed.",
         "뉴턴 스텝을 켤레 기울기법으로 필요한 만큼만 정확히 구하며, 헤세 행렬을 만들지 않습니다."),
        ("large smooth functions; saddle points", "매개변수가 많은 매끄러운 함수, 안장점"),
        ("few parameters and a dear function: newton takes fewer evaluations",
         "매개변수가 적고 함수 평가 비용이 클 때: newton의 함수 평가가 더 적음")),
    Row("bfgs", ("BFGS", "BFGS(준뉴턴법)"), "quasi-newton", 1970,
        "Broyden, Fletcher, Goldfarb & Shanno 1970; Nocedal & Wright 2006, algorithm 6.1",
        r"H_{\mathrm{new}} = (I - \rho s y') H (I - \rho y s') + \rho s s', \quad p = -H g", ("value_fn",), ("newton",),
        ("Learns the inverse Hessian from the differences of successive gradients.",
         "연속한 기울기의 차이로 헤세 행렬의 역행렬을 근사해 갑니다."),
        ("smooth functions of up to some hundred parameters", "매개변수가 수백 개까지인 매끄러운 함수"),
        ("more parameters: n² numbers, and as many operations an update; lbfgs",
         "매개변수가 더 많을 때: 한 스텝에 숫자 n²개의 메모리와 그만큼의 연산이 듦")),
    Row("lbfgs", ("L-BFGS", "L-BFGS(메모리를 줄인 BFGS)"), "quasi-newton", 1989,
        "Liu & Nocedal 1989; Nocedal & Wright 2006, algorithms 7.4 and 7.5",
        r"H_{i+1} = (I - \rho_i s_i y_i') H_i (I - \rho_i y_i s_i') + \rho_i s_i s_i', \quad "
        r"H_0 = \gamma I, \quad p = -H g", ("value_fn",), ("bfgs",),
        ("BFGS from the last ten pairs of differences alone: the first choice for a smooth function.",
         "최근 차이 10쌍만 기억하는 BFGS로, 매끄러운 함수에 먼저 써 볼 방법입니다."),
        ("smooth functions of any size", "크기를 가리지 않는 매끄러운 함수"),
        ("gradients of mini-batches: the pairs would measure the noise", "미니배치의 기울기: 차이가 잡음을 재게 됨")),
    Row("lbfgsb", ("L-BFGS-B", "L-BFGS-B(상자 안의 L-BFGS)"), "quasi-newton", 1995,
        "Byrd, Lu, Nocedal & Zhu 1995, doi:10.1137/0916069; Morales & Nocedal 2011, doi:10.1145/2049662.2049669",
        r"q(x + z) = f + g'z + \frac{1}{2}\, z'Bz, \quad p = P(x_s) - x", ("value_fn", "bounds"),
        ("lbfgs", "projected_gradient"),
        ("L-BFGS between bounds: the quadratic model is minimized along the projected gradient, then over the rest.",
         "경계 안의 L-BFGS로, 이차 근사를 사영된 기울기를 따라 줄인 뒤 남은 변수에서 마저 줄입니다."),
        ("smooth functions in a box; never evaluated outside", "상자 안의 매끄러운 함수, 상자 밖에서는 평가하지 않음"),
        ("constraints other than bounds; no bounds: lbfgs is cheaper", "경계가 아닌 제약, 경계 없는 문제(lbfgs)")),
    Row("gauss_newton", ("Gauss-Newton", "가우스-뉴턴법"), "squares", 1809, "Gauss 1809; its dogleg Powell 1970",
        r"p_n = \arg\min_p\, \vert r + J p \vert, \quad \vert D p \vert \leq \Delta", ("residual_fn",), ("newton",),
        ("Least squares by the linearized residuals, on the dogleg path within a trust region.",
         "잔차를 일차로 근사해 최소제곱을 풀고, 신뢰 영역 안의 꺾인 길(dogleg)로 나아갑니다."),
        ("small residuals and a well-conditioned Jacobian", "잔차가 작고 야코비 행렬의 조건수가 작은 문제"),
        ("a Jacobian near losing its rank: levenberg_marquardt",
         "야코비 행렬의 랭크가 부족할 수 있을 때: levenberg_marquardt가 나음")),
    Row("levenberg_marquardt", ("Levenberg-Marquardt", "레벤버그-마쿼트법"), "squares", 1944,
        "Levenberg 1944; Marquardt 1963; as Moré 1978, Lecture Notes in Mathematics 630",
        r"p = -(J'J + \lambda D^2)^{-1} J'r, \quad \lambda = 0\ \mathrm{or}\ \vert D p \vert = \Delta",
        ("residual_fn",), ("gauss_newton", "gradient_descent"),
        ("Between Gauss-Newton and gradient descent, by a damping that follows how linear the residuals prove.",
         "잔차가 얼마나 일차에 가까운지에 따라 감쇠를 조절해, 가우스-뉴턴과 경사 하강법 사이를 오갑니다."),
        ("sums of squares: curve fitting, bounds, robust losses", "제곱합: 곡선 맞춤, 경계, 강건 손실"),
        ("more than some thousand parameters, unless linear_solver is lsmr",
         "매개변수가 수천 개를 넘을 때 (linear_solver가 lsmr이면 가능)")),
    Row("projected_gradient", ("Projected gradient", "사영 경사 하강법"), "composite", 1964,
        "Goldstein 1964; accelerated as Beck & Teboulle 2009, SIAM J. Imaging Sciences 2",
        r"x_{\mathrm{new}} = P(y - s\, g(y))", ("value_fn", "projection"), ("gradient_descent",),
        ("Gradient steps, each projected back into the set.", "기울기를 따라 내려간 뒤 집합 안으로 사영합니다."),
        ("sets with a cheap projection: simplex, balls, cones", "사영이 쉬운 집합: 심플렉스, 공, 원뿔"),
        ("an ill-conditioned function in a box: lbfgsb", "상자 안의 조건수가 큰 함수: lbfgsb가 나음"),
        options={"projection": projection_non_negative}),
    Row("proximal_gradient", ("Proximal gradient, accelerated", "가속 근접 경사 하강법"), "composite", 2009,
        "Beck & Teboulle 2009, SIAM J. Imaging Sciences 2; restarts of O'Donoghue & Candès 2015",
        r"x_{\mathrm{new}} = \mathrm{prox}(y - s\, g(y), s), \quad "
        r"y = x_{\mathrm{new}} + \frac{t - 1}{t_{\mathrm{new}}} (x_{\mathrm{new}} - x)",
        ("value_fn", "prox"), ("projected_gradient", "nesterov"),
        ("Gradient steps on the smooth part, the penalty's prox on the rest, with Nesterov's momentum.",
         "매끄러운 부분은 기울기로, 벌점은 근접 연산자로 줄이며 네스테로프 모멘텀을 씁니다."),
        ("penalties with a kink: lasso, group lasso, nuclear norm", "꺾인 벌점: lasso, 그룹 lasso, 핵 노름"),
        ("ill-conditioned functions", "조건수가 큰 함수"),
        options={"prox": prox_lasso}),
    Row("augmented_lagrangian", ("Augmented Lagrangian", "증강 라그랑주법"), "constrained", 1969,
        "Hestenes 1969; Powell 1969; Birgin & Martínez 2014, algorithm 4.1, doi:10.1137/1.9781611973365",
        r"L = f + y'c_e + \frac{\rho}{2} \vert c_e \vert^2 "
        r"+ \frac{1}{2 \rho} (\vert \max(z + \rho c_i, 0) \vert^2 - \vert z \vert^2)",
        ("value_fn", "constraints", "solver"), ("gradient_descent",),
        ("A penalty and multipliers for the constraints: any solver minimizes, the multipliers follow the violation.",
         "제약을 벌점과 승수로 바꾸어 어떤 솔버로든 최소화하고, 제약을 어긴 만큼 승수를 갱신합니다."),
        ("constraints where the parameters are many", "매개변수가 많은 제약 문제"),
        ("few parameters and high accuracy: interior_point takes a tenth of the evaluations",
         "매개변수가 적고 정확해야 할 때: interior_point의 함수 평가가 10분의 1"),
        options={"inner": lbfgs()}),
    Row("linear_program", ("Linear program", "선형 계획"), "constrained", 1992,
        "Mehrotra 1992, SIAM J. Optim. 2; Nocedal & Wright 2006, algorithm 14.3; Xu, Hung & Ye 1996",
        r"\min\, c'x, \quad A x = b, \quad G x \leq h, \quad z s = \mu \to 0", ("matrices",), ("newton",),
        ("Mehrotra's predictor and corrector through the inside; infeasible and unbounded programs are recognized.",
         "메로트라의 예측자-수정자 내부점법으로 풀며, 해가 없는 문제와 하한이 없는 문제를 판별합니다."),
        ("dense linear programs, batches of them", "조밀한 선형 계획, 한꺼번에 푸는 여러 개"),
        ("large sparse programs; a good guess to start from", "크고 희소한 문제, 좋은 출발점을 살리고 싶을 때")),
    Row("quadratic_program", ("Quadratic program", "이차 계획"), "constrained", 2024,
        "Goulart & Chen 2024, arXiv:2405.12762; Nocedal & Wright 2006, algorithm 16.4",
        r"\min\, \frac{1}{2}\, x'Qx + c'x, \quad A x = b, \quad G x \leq h, \quad z s = \mu \to 0",
        ("matrices",), ("linear_program",),
        ("The same for convex quadratics, by the homogeneous embedding of the optimality conditions.",
         "최적성 조건을 동차형으로 바꾸어(homogeneous embedding) 볼록 이차 계획까지 풉니다."),
        ("dense convex programs, batches of them; derivatives by all data",
         "조밀한 볼록 이차 계획, 한꺼번에 푸는 여러 개, 모든 데이터에 대한 미분"),
        ("large sparse programs, unless banded; a good guess to start from",
         "크고 희소한 문제(띠 행렬은 가능), 좋은 출발점을 살리고 싶을 때")),
    Row("interior_point", ("Interior point", "내부점법"), "constrained", 2006,
        "Wächter & Biegler 2006, doi:10.1007/s10107-004-0559-y",
        r"\varphi = f - \mu \sum \log r, \quad \mu \to 0", ("value_fn", "hessian", "constraints", "bounds"),
        ("newton", "linear_program"),
        ("Newton's method, with a filter line search, on a barrier inside the constraints that is let down to nothing.",
         "제약 안쪽에 세운 장벽을 점점 낮추면서, 필터 직선 탐색을 쓰는 뉴턴법으로 풉니다."),
        ("smooth equalities, inequalities and bounds, to high accuracy", "매끄러운 등식, 부등식, 경계를 정확하게"),
        ("more than some thousand parameters or constraints: all is dense",
         "매개변수나 제약이 수천 개를 넘을 때: 모두 조밀한 행렬")),
)
# fmt: on
BY_NAME = {row.name: row for row in ROWS}

TITLES: dict[str, Text] = {
    "name": ("name", "이름"),
    "title": ("method", "방법"),
    "call": ("call", "호출"),
    "family": ("family", "계열"),
    "year": ("year", "연도"),
    "paper": ("source", "출처"),
    "equation": ("equation", "수식"),
    "memory": ("state, bytes", "상태(바이트)"),
    "needs": ("needs", "필요한 것"),
    "parents": ("grew out of", "바탕이 된 방법"),
    "sentence": ("in a sentence", "한마디로"),
    "strengths": ("good for", "잘 맞는 곳"),
    "not_for": ("not for", "쓰지 말아야 할 때"),
}
COLUMNS = ("name", "title", "year", "memory", "needs", "parents")
SHORT = ("title", "call", "year", "memory", "needs", "sentence")  # for a README
KEY: Text = (
    "Bytes of the state as measured, but for counts: n parameters in float32, m residuals or inequalities; solvers as "
    "`minimize` runs them.",
    "상태의 바이트 수는 스텝 카운터 등을 뺀 실측값입니다. 매개변수는 float32로 n개, 잔차나 부등식은 m개이며, "
    "솔버는 `minimize`로 실행할 때의 값입니다.",
)


def catalog(language: str = "en", columns: Sequence[str] = COLUMNS) -> Table:
    """A table of all methods; columns: any of TITLES, such as ("name", "equation", "paper")."""
    errors.check_choice("catalog", "language", language, LANGUAGES)
    for column in columns:
        errors.check_choice("catalog", "column", column, tuple(TITLES))
    i = LANGUAGES.index(language)
    body = tuple(tuple(_cell(row, column, i) for column in columns) for row in ROWS)
    return Table(tuple(columns), tuple(TITLES[column][i] for column in columns), body)


def page(name: str, language: str = "en") -> str:
    """All that the catalogue says of one method, a line each."""
    errors.check_choice("page", "name", name, tuple(BY_NAME))
    errors.check_choice("page", "language", language, LANGUAGES)
    i = LANGUAGES.index(language)
    size = max(width(title[i]) for title in TITLES.values())
    return "\n".join(
        title[i] + " " * (size + 2 - width(title[i])) + _cell(BY_NAME[name], column, i)
        for column, title in TITLES.items()
    )


class Node(NamedTuple):
    """A method in the family tree."""

    name: str
    title: str
    family: str
    year: int
    parents: tuple[str, ...]


class Tree(NamedTuple):
    """Which method grew out of which."""

    nodes: tuple[Node, ...]
    edges: tuple[tuple[str, str], ...]  # (parent, child)


def family_tree(language: str = "en") -> Tree:
    """Nodes and edges, for drawing."""
    errors.check_choice("family_tree", "language", language, LANGUAGES)
    i = LANGUAGES.index(language)
    nodes = tuple(Node(row.name, row.title[i], row.family, row.year, row.parents) for row in ROWS)
    return Tree(nodes, tuple((parent, row.name) for row in ROWS for parent in row.parents))


def mermaid(language: str = "en") -> str:
    """The family tree as a graph in Mermaid's words, which GitHub draws."""
    nodes, edges = family_tree(language)
    titles = (node.title.replace("(", "<br/>(") for node in nodes)
    lines = [f'  {node.name}["{title}<br/>{node.year}"]' for node, title in zip(nodes, titles, strict=True)]
    return "\n".join(["graph LR", *lines, *(f"  {parent} --> {child}" for parent, child in edges)])


def markdown(language: str = "en") -> str:
    """The short table and the family tree, for a README."""
    table = catalog(language, SHORT)._repr_markdown_()
    key = KEY[LANGUAGES.index(language)]
    return f"{table}\n\n{key}\n\n```mermaid\n{mermaid(language)}\n```"


def _cell(row: Row, column: str, i: int) -> str:
    if column == "family":
        return FAMILIES[row.family][i]
    if column == "needs":
        return ", ".join(NEEDS[need][i] for need in row.needs)
    if column == "parents":
        return ", ".join(row.parents)
    value = getattr(row, column)
    return str(value[i] if isinstance(value, tuple) and not isinstance(value, Memory) else value)


def _shown(name: str, value: Any) -> str:
    """An option as it is written; a function, which is the user's, by its part."""
    if isinstance(value, GradientTransformation):
        return f"{name_of(value)}()"
    return name if callable(value) else f"{name}={value!r}"


# ---- the size of a state --------------------------------------------------------------------------------

SIZES = ((4, 8), (6, 8), (8, 8), (4, 10), (6, 10))  # (n, m) where a polynomial of Memory's terms has one fit


@functools.cache
def _measured(name: str) -> Memory:
    row = BY_NAME[name]
    if row.family == "matrix":  # of square matrices of n weights
        sides = (64, 128, 256)
        fit = np.linalg.solve(np.vander(sides, 3).astype(float), [float(state_bytes(row, k * k, 0)) for k in sides])
        n, root, rest = map(round, fit)
        return Memory(0, 0, 0, n, rest, root)
    terms = [(m * n, n * n, m, n, 1) for n, m in SIZES]
    sizes = [state_bytes(row, n, m) for n, m in SIZES]
    return Memory(*(round(size) for size in np.linalg.solve(np.array(terms, float), np.array(sizes, float))))


def state_bytes(row: Row, n: int, m: int) -> int:
    """Of the state over n float32 parameters, with m residuals or inequalities where the method has such."""

    def start(params: jax.Array) -> Any:
        return row.make().init(params, **_problem(row, params, m))

    shape = (math.isqrt(n),) * 2 if row.family == "matrix" else (n,)
    state = jax.eval_shape(start, np.zeros(shape, np.float32))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def _problem(row: Row, x: jax.Array, m: int) -> dict[str, Any]:
    """The arguments that the method's init takes."""
    rows = jnp.ones((m, x.size), x.dtype)
    extra_args: dict[str, dict[str, Any]] = {
        "value_fn": {"value_fn": lambda p: jnp.sum(p * p)},
        "residual_fn": {"residual_fn": lambda p: rows @ p},
        "operator": {"operator": lambda p: p, "b": x},
        "constraints": {"inequality": lambda p: rows @ p},
        "matrices": {"c": x, "G": rows, "h": rows[:, 0]},
    }
    return {name: word for need in row.needs for name, word in extra_args.get(need, {}).items()}
