"""Methods that are imported when one of them is asked for; as in the room around it, one family, one file.

What other rooms build on stands there, and so do the classics.
"""

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.optimizers.more.adabound import adabound
from jaxopt_ko.optimizers.more.adam_mini import ScaleByAdamMiniState, adam_mini, scale_by_adam_mini
from jaxopt_ko.optimizers.more.adamp import adamp, scale_by_adamp, scale_by_sgdp, sgdp
from jaxopt_ko.optimizers.more.adamuon import (
    ScaleByAdaMuonState,
    ScaleByNorMuonState,
    adamuon,
    normuon,
    scale_by_adamuon,
    scale_by_normuon,
)
from jaxopt_ko.optimizers.more.aggmo import ScaleByAggmoState, aggmo, scale_by_aggmo
from jaxopt_ko.optimizers.more.apollo import ScaleByApolloState, apollo, scale_by_apollo
from jaxopt_ko.optimizers.more.asgo import ScaleByAsgoState, asgo, scale_by_asgo
from jaxopt_ko.optimizers.more.aurora import ScaleByAuroraState, aurora, scale_by_aurora
from jaxopt_ko.optimizers.more.came import ScaleByCameState, came, scale_by_came
from jaxopt_ko.optimizers.more.cocob import COCOBState, cocob, scale_by_cocob
from jaxopt_ko.optimizers.more.conda import ScaleByCondaState, conda, scale_by_conda
from jaxopt_ko.optimizers.more.dadaptation import (
    DAdaptAdamWState,
    DAdaptLionState,
    DAdaptSgdState,
    dadapt_adamw,
    dadapt_lion,
    dadapt_sgd,
)
from jaxopt_ko.optimizers.more.dion import ScaleByDionState, dion, scale_by_dion
from jaxopt_ko.optimizers.more.dion2 import ScaleByDion2State, dion2, scale_by_dion2
from jaxopt_ko.optimizers.more.dog import (
    DoGState,
    DoWGState,
    ScaleByDistanceOverGradientsState,
    dog,
    dowg,
    scale_by_distance_over_gradients,
    scale_by_dog,
    scale_by_dowg,
)
from jaxopt_ko.optimizers.more.fira import ScaleByFiraState, fira, scale_by_fira
from jaxopt_ko.optimizers.more.ftrl import FtrlState, ftrl
from jaxopt_ko.optimizers.more.galore import GaLoreDimensionNumbers, GaLoreState, galore, scale_by_galore
from jaxopt_ko.optimizers.more.grams import grams, scale_by_grams
from jaxopt_ko.optimizers.more.kl_shampoo import (
    ScaleByKlShampooState,
    ScaleByKlSoapState,
    kl_shampoo,
    kl_soap,
    scale_by_kl_shampoo,
    scale_by_kl_soap,
)
from jaxopt_ko.optimizers.more.kron import ScaleByKronState, psgd_kron, scale_by_kron
from jaxopt_ko.optimizers.more.laprop import ScaleByLapropState, laprop, scale_by_laprop
from jaxopt_ko.optimizers.more.momo import MomoAdamState, MomoState, momo, momo_adam
from jaxopt_ko.optimizers.more.muown import MuownState, muown
from jaxopt_ko.optimizers.more.polargrad import ScaleByPolarGradState, polargrad, scale_by_polargrad
from jaxopt_ko.optimizers.more.prodigy import ProdigyState, prodigy
from jaxopt_ko.optimizers.more.quasi_hyperbolic import ScaleByQhmState, qhadam, qhm, scale_by_qhadam, scale_by_qhm
from jaxopt_ko.optimizers.more.schedule_free_plus import ScheduleFreePlusState, schedule_free_plus
from jaxopt_ko.optimizers.more.scion import scale_by_lmo, scion
from jaxopt_ko.optimizers.more.sophia import SophiaState, scale_by_sophia, sophia
from jaxopt_ko.optimizers.more.spam import (
    ScaleByStableSpamState,
    scale_by_spam,
    scale_by_stable_spam,
    spam,
    stable_spam,
)
from jaxopt_ko.optimizers.more.spectral_sphere import SpectralSphereState, spectral_sphere
from jaxopt_ko.optimizers.more.splus import ScaleBySplusState, scale_by_splus, splus
from jaxopt_ko.optimizers.more.stable_adamw import scale_by_stable_adam, stable_adamw
from jaxopt_ko.optimizers.more.tam import ScaleByTamState, scale_by_tam, tam

__all__ = [
    "COCOBState", "DAdaptAdamWState", "DAdaptLionState", "DAdaptSgdState", "DoGState", "DoWGState", "FtrlState",
    "GaLoreDimensionNumbers", "GaLoreState", "MomoAdamState", "MomoState", "MuownState", "ProdigyState",
    "ScaleByAdaMuonState", "ScaleByAdamMiniState", "ScaleByAggmoState", "ScaleByApolloState", "ScaleByAsgoState",
    "ScaleByAuroraState", "ScaleByCameState", "ScaleByCondaState", "ScaleByDion2State", "ScaleByDionState",
    "ScaleByDistanceOverGradientsState", "ScaleByFiraState", "ScaleByKlShampooState", "ScaleByKlSoapState",
    "ScaleByKronState", "ScaleByLapropState", "ScaleByNorMuonState", "ScaleByPolarGradState", "ScaleByQhmState",
    "ScaleBySplusState", "ScaleByStableSpamState", "ScaleByTamState", "ScheduleFreePlusState", "SophiaState",
    "SpectralSphereState", "adabound", "adam_mini", "adamp", "adamuon", "aggmo", "apollo", "asgo", "aurora", "came",
    "cocob", "conda", "dadapt_adamw", "dadapt_lion", "dadapt_sgd", "dion", "dion2", "dog", "dowg", "fira", "ftrl",
    "galore", "grams", "kl_shampoo", "kl_soap", "laprop", "momo", "momo_adam", "muown", "normuon", "polargrad",
    "prodigy", "psgd_kron", "qhadam", "qhm", "scale_by_adam_mini", "scale_by_adamp", "scale_by_adamuon",
    "scale_by_aggmo", "scale_by_apollo", "scale_by_asgo", "scale_by_aurora", "scale_by_came", "scale_by_cocob",
    "scale_by_conda", "scale_by_dion", "scale_by_dion2", "scale_by_distance_over_gradients", "scale_by_dog",
    "scale_by_dowg", "scale_by_fira", "scale_by_galore", "scale_by_grams", "scale_by_kl_shampoo", "scale_by_kl_soap",
    "scale_by_kron", "scale_by_laprop", "scale_by_lmo", "scale_by_normuon", "scale_by_polargrad", "scale_by_qhadam",
    "scale_by_qhm", "scale_by_sgdp", "scale_by_sophia", "scale_by_spam", "scale_by_splus", "scale_by_stable_adam",
    "scale_by_stable_spam", "scale_by_tam", "schedule_free_plus", "scion", "sgdp", "sophia", "spam", "spectral_sphere",
    "splus", "stable_adamw", "stable_spam", "tam",
]  # fmt: skip

published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
