"""One family, one file: state, rule and recipe together."""

from jaxopt_ko.optimizers.adabelief import ScaleByBeliefState, acprop, adabelief, scale_by_acprop, scale_by_belief
from jaxopt_ko.optimizers.adadelta import ScaleByAdaDeltaState, adadelta, scale_by_adadelta
from jaxopt_ko.optimizers.adafactor import FactoredState, adafactor, scale_by_factored_rms
from jaxopt_ko.optimizers.adagrad import ScaleByRssState, adagrad, scale_by_rss
from jaxopt_ko.optimizers.adam import (
    ScaleByAdamState,
    ScaleByNadamState,
    adam,
    adamax,
    adamaxw,
    adamw,
    nadam,
    nadamw,
    scale_by_adam,
    scale_by_adamax,
    scale_by_nadam,
)
from jaxopt_ko.optimizers.adamc import adamc
from jaxopt_ko.optimizers.adan import ScaleByAdanState, adan, scale_by_adan
from jaxopt_ko.optimizers.ademamix import (
    ScaleByAdemamixState,
    ScaleBySimplifiedAdEMAMixState,
    ademamix,
    scale_by_ademamix,
    scale_by_simplified_ademamix,
    simplified_ademamix,
)
from jaxopt_ko.optimizers.adopt import adopt, scale_by_adopt
from jaxopt_ko.optimizers.amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from jaxopt_ko.optimizers.fromage import fromage
from jaxopt_ko.optimizers.lamb import lamb
from jaxopt_ko.optimizers.lars import lars
from jaxopt_ko.optimizers.lion import ScaleByLionState, lion, scale_by_lion
from jaxopt_ko.optimizers.madgrad import MadgradState, madgrad, scale_by_madgrad
from jaxopt_ko.optimizers.matrix.axes import MuonDimensionNumbers
from jaxopt_ko.optimizers.matrix.blocks import adam_mini_blocks
from jaxopt_ko.optimizers.matrix.roles import ROLES, roles_of
from jaxopt_ko.optimizers.muon import MuonState, muon, orthogonalize, scale_by_muon
from jaxopt_ko.optimizers.noisy_sgd import noisy_sgd
from jaxopt_ko.optimizers.novograd import ScaleByNovogradState, novograd, scale_by_novograd
from jaxopt_ko.optimizers.optimistic import (
    ScaleByOptimisticGradientState,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from jaxopt_ko.optimizers.optimistic import optimistic_adam as optimistic_adam  # deprecated, as in optax
from jaxopt_ko.optimizers.polyak import polyak_sgd, scale_by_polyak
from jaxopt_ko.optimizers.radam import radam, scale_by_radam
from jaxopt_ko.optimizers.rmsprop import (
    ScaleByRmsState,
    ScaleByRmsWithCountState,
    ScaleByRStdDevState,
    ScaleByRStdDevWithCountState,
    rmsprop,
    scale_by_rms,
    scale_by_stddev,
)
from jaxopt_ko.optimizers.rprop import ScaleByRpropState, rprop, scale_by_rprop
from jaxopt_ko.optimizers.sgd import sgd
from jaxopt_ko.optimizers.shampoo import ScaleByShampooState, scale_by_shampoo, shampoo
from jaxopt_ko.optimizers.sign import scale_by_sign, sign_sgd, signum
from jaxopt_ko.optimizers.sm3 import ScaleBySM3State, scale_by_sm3, sm3
from jaxopt_ko.optimizers.soap import (
    ScaleBySoapMuonState,
    ScaleBySoapState,
    scale_by_soap,
    scale_by_soap_muon,
    soap,
    soap_muon,
)
from jaxopt_ko.optimizers.yogi import scale_by_yogi, yogi

__all__ = [
    "ROLES", "FactoredState", "MadgradState", "MuonDimensionNumbers", "MuonState", "ScaleByAdaDeltaState",
    "ScaleByAdamState", "ScaleByAdanState", "ScaleByAdemamixState", "ScaleByAmsgradState", "ScaleByBeliefState",
    "ScaleByLionState", "ScaleByNadamState", "ScaleByNovogradState", "ScaleByOptimisticGradientState",
    "ScaleByRStdDevState", "ScaleByRStdDevWithCountState", "ScaleByRmsState", "ScaleByRmsWithCountState",
    "ScaleByRpropState", "ScaleByRssState", "ScaleBySM3State", "ScaleByShampooState",
    "ScaleBySimplifiedAdEMAMixState", "ScaleBySoapMuonState", "ScaleBySoapState", "acprop", "adabelief", "adadelta",
    "adafactor", "adagrad", "adam", "adam_mini_blocks", "adamax", "adamaxw", "adamc", "adamw", "adan", "ademamix",
    "adopt", "amsgrad", "fromage", "lamb", "lars", "lion", "madgrad", "muon", "nadam", "nadamw", "noisy_sgd",
    "novograd", "optimistic_adam_v2", "optimistic_gradient_descent", "orthogonalize", "polyak_sgd", "radam",
    "rmsprop", "roles_of", "rprop", "scale_by_acprop", "scale_by_adadelta", "scale_by_adam", "scale_by_adamax",
    "scale_by_adan", "scale_by_ademamix", "scale_by_adopt", "scale_by_amsgrad", "scale_by_belief",
    "scale_by_factored_rms", "scale_by_lion", "scale_by_madgrad", "scale_by_muon", "scale_by_nadam",
    "scale_by_novograd", "scale_by_optimistic_gradient", "scale_by_polyak", "scale_by_radam", "scale_by_rms",
    "scale_by_rprop", "scale_by_rss", "scale_by_shampoo", "scale_by_sign", "scale_by_simplified_ademamix",
    "scale_by_sm3", "scale_by_soap", "scale_by_soap_muon", "scale_by_stddev", "scale_by_yogi", "sgd", "shampoo",
    "sign_sgd", "signum", "simplified_ademamix", "sm3", "soap", "soap_muon", "yogi",
]  # fmt: skip
