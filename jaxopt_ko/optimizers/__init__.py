"""One family, one file: state, rule and recipe together."""

from jaxopt_ko.optimizers.adabelief import ScaleByBeliefState, acprop, adabelief, scale_by_acprop, scale_by_belief
from jaxopt_ko.optimizers.adabound import adabound
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
from jaxopt_ko.optimizers.adam_mini import ScaleByAdamMiniState, adam_mini, scale_by_adam_mini
from jaxopt_ko.optimizers.adamc import adamc
from jaxopt_ko.optimizers.adamp import adamp, scale_by_adamp, scale_by_sgdp, sgdp
from jaxopt_ko.optimizers.adamuon import (
    ScaleByAdaMuonState,
    ScaleByNorMuonState,
    adamuon,
    normuon,
    scale_by_adamuon,
    scale_by_normuon,
)
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
from jaxopt_ko.optimizers.aggmo import ScaleByAggmoState, aggmo, scale_by_aggmo
from jaxopt_ko.optimizers.amsgrad import ScaleByAmsgradState, amsgrad, scale_by_amsgrad
from jaxopt_ko.optimizers.apollo import ScaleByApolloState, apollo, scale_by_apollo
from jaxopt_ko.optimizers.asgo import ScaleByAsgoState, asgo, scale_by_asgo
from jaxopt_ko.optimizers.aurora import ScaleByAuroraState, aurora, scale_by_aurora
from jaxopt_ko.optimizers.came import ScaleByCameState, came, scale_by_came
from jaxopt_ko.optimizers.cocob import COCOBState, cocob, scale_by_cocob
from jaxopt_ko.optimizers.dadaptation import (
    DAdaptAdamWState,
    DAdaptLionState,
    DAdaptSgdState,
    dadapt_adamw,
    dadapt_lion,
    dadapt_sgd,
)
from jaxopt_ko.optimizers.dion import ScaleByDionState, dion, scale_by_dion
from jaxopt_ko.optimizers.dion2 import ScaleByDion2State, dion2, scale_by_dion2
from jaxopt_ko.optimizers.dog import (
    DoGState,
    DoWGState,
    ScaleByDistanceOverGradientsState,
    dog,
    dowg,
    scale_by_distance_over_gradients,
    scale_by_dog,
    scale_by_dowg,
)
from jaxopt_ko.optimizers.fira import ScaleByFiraState, fira, scale_by_fira
from jaxopt_ko.optimizers.fromage import fromage
from jaxopt_ko.optimizers.ftrl import FtrlState, ftrl
from jaxopt_ko.optimizers.galore import GaLoreDimensionNumbers, GaLoreState, galore, scale_by_galore
from jaxopt_ko.optimizers.grams import grams, scale_by_grams
from jaxopt_ko.optimizers.kl_shampoo import (
    ScaleByKlShampooState,
    ScaleByKlSoapState,
    kl_shampoo,
    kl_soap,
    scale_by_kl_shampoo,
    scale_by_kl_soap,
)
from jaxopt_ko.optimizers.kron import ScaleByKronState, psgd_kron, scale_by_kron
from jaxopt_ko.optimizers.lamb import lamb
from jaxopt_ko.optimizers.laprop import ScaleByLapropState, laprop, scale_by_laprop
from jaxopt_ko.optimizers.lars import lars
from jaxopt_ko.optimizers.lion import ScaleByLionState, lion, scale_by_lion
from jaxopt_ko.optimizers.madgrad import MadgradState, madgrad, scale_by_madgrad
from jaxopt_ko.optimizers.matrix.axes import MuonDimensionNumbers
from jaxopt_ko.optimizers.matrix.blocks import adam_mini_blocks
from jaxopt_ko.optimizers.matrix.roles import ROLES, roles_of
from jaxopt_ko.optimizers.momo import MomoAdamState, MomoState, momo, momo_adam
from jaxopt_ko.optimizers.muon import MuonState, muon, orthogonalize, scale_by_muon
from jaxopt_ko.optimizers.muown import MuownState, muown
from jaxopt_ko.optimizers.noisy_sgd import noisy_sgd
from jaxopt_ko.optimizers.novograd import ScaleByNovogradState, novograd, scale_by_novograd
from jaxopt_ko.optimizers.optimistic import (
    ScaleByOptimisticGradientState,
    optimistic_adam_v2,
    optimistic_gradient_descent,
    scale_by_optimistic_gradient,
)
from jaxopt_ko.optimizers.optimistic import optimistic_adam as optimistic_adam  # deprecated, as in optax
from jaxopt_ko.optimizers.polargrad import ScaleByPolarGradState, polargrad, scale_by_polargrad
from jaxopt_ko.optimizers.polyak import polyak_sgd, scale_by_polyak
from jaxopt_ko.optimizers.prodigy import ProdigyState, prodigy
from jaxopt_ko.optimizers.quasi_hyperbolic import ScaleByQhmState, qhadam, qhm, scale_by_qhadam, scale_by_qhm
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
from jaxopt_ko.optimizers.scion import scale_by_lmo, scion
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
from jaxopt_ko.optimizers.sophia import SophiaState, scale_by_sophia, sophia
from jaxopt_ko.optimizers.spam import ScaleByStableSpamState, scale_by_spam, scale_by_stable_spam, spam, stable_spam
from jaxopt_ko.optimizers.spectral_sphere import SpectralSphereState, spectral_sphere
from jaxopt_ko.optimizers.splus import ScaleBySplusState, scale_by_splus, splus
from jaxopt_ko.optimizers.stable_adamw import scale_by_stable_adam, stable_adamw
from jaxopt_ko.optimizers.yogi import scale_by_yogi, yogi

__all__ = [
    "ROLES", "COCOBState", "DAdaptAdamWState", "DAdaptLionState", "DAdaptSgdState", "DoGState", "DoWGState",
    "FactoredState", "FtrlState", "GaLoreDimensionNumbers", "GaLoreState", "MadgradState", "MomoAdamState", "MomoState",
    "MuonDimensionNumbers", "MuonState", "MuownState", "ProdigyState", "ScaleByAdaDeltaState", "ScaleByAdaMuonState",
    "ScaleByAdamMiniState", "ScaleByAdamState", "ScaleByAdanState", "ScaleByAdemamixState", "ScaleByAggmoState",
    "ScaleByAmsgradState", "ScaleByApolloState", "ScaleByAsgoState", "ScaleByAuroraState", "ScaleByBeliefState",
    "ScaleByCameState", "ScaleByDion2State", "ScaleByDionState", "ScaleByDistanceOverGradientsState",
    "ScaleByFiraState", "ScaleByKlShampooState", "ScaleByKlSoapState", "ScaleByKronState", "ScaleByLapropState",
    "ScaleByLionState", "ScaleByNadamState", "ScaleByNorMuonState", "ScaleByNovogradState",
    "ScaleByOptimisticGradientState", "ScaleByPolarGradState", "ScaleByQhmState", "ScaleByRStdDevState",
    "ScaleByRStdDevWithCountState", "ScaleByRmsState", "ScaleByRmsWithCountState", "ScaleByRpropState",
    "ScaleByRssState", "ScaleBySM3State", "ScaleByShampooState", "ScaleBySimplifiedAdEMAMixState",
    "ScaleBySoapMuonState", "ScaleBySoapState", "ScaleBySplusState", "ScaleByStableSpamState", "SophiaState",
    "SpectralSphereState", "acprop", "adabelief", "adabound", "adadelta", "adafactor", "adagrad", "adam", "adam_mini",
    "adam_mini_blocks", "adamax", "adamaxw", "adamc", "adamp", "adamuon", "adamw", "adan", "ademamix", "adopt", "aggmo",
    "amsgrad", "apollo", "asgo", "aurora", "came", "cocob", "dadapt_adamw", "dadapt_lion", "dadapt_sgd", "dion",
    "dion2", "dog", "dowg", "fira", "fromage", "ftrl", "galore", "grams", "kl_shampoo", "kl_soap", "lamb", "laprop",
    "lars", "lion", "madgrad", "momo", "momo_adam", "muon", "muown", "nadam", "nadamw", "noisy_sgd", "normuon",
    "novograd", "optimistic_adam_v2", "optimistic_gradient_descent", "orthogonalize", "polargrad", "polyak_sgd",
    "prodigy", "psgd_kron", "qhadam", "qhm", "radam", "rmsprop", "roles_of", "rprop", "scale_by_acprop",
    "scale_by_adadelta", "scale_by_adam", "scale_by_adam_mini", "scale_by_adamax", "scale_by_adamp", "scale_by_adamuon",
    "scale_by_adan", "scale_by_ademamix", "scale_by_adopt", "scale_by_aggmo", "scale_by_amsgrad", "scale_by_apollo",
    "scale_by_asgo", "scale_by_aurora", "scale_by_belief", "scale_by_came", "scale_by_cocob", "scale_by_dion",
    "scale_by_dion2", "scale_by_distance_over_gradients", "scale_by_dog", "scale_by_dowg", "scale_by_factored_rms",
    "scale_by_fira", "scale_by_galore", "scale_by_grams", "scale_by_kl_shampoo", "scale_by_kl_soap", "scale_by_kron",
    "scale_by_laprop", "scale_by_lion", "scale_by_lmo", "scale_by_madgrad", "scale_by_muon", "scale_by_nadam",
    "scale_by_normuon", "scale_by_novograd", "scale_by_optimistic_gradient", "scale_by_polargrad", "scale_by_polyak",
    "scale_by_qhadam", "scale_by_qhm", "scale_by_radam", "scale_by_rms", "scale_by_rprop", "scale_by_rss",
    "scale_by_sgdp", "scale_by_shampoo", "scale_by_sign", "scale_by_simplified_ademamix", "scale_by_sm3",
    "scale_by_soap", "scale_by_soap_muon", "scale_by_sophia", "scale_by_spam", "scale_by_splus", "scale_by_stable_adam",
    "scale_by_stable_spam", "scale_by_stddev", "scale_by_yogi", "scion", "sgd", "sgdp", "shampoo", "sign_sgd", "signum",
    "simplified_ademamix", "sm3", "soap", "soap_muon", "sophia", "spam", "spectral_sphere", "splus", "stable_adamw",
    "stable_spam", "yogi",
]  # fmt: skip
