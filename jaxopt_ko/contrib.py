"""The names of optax.contrib: the same objects as at the top level."""

from typing import Any

from jaxopt_ko.core.naming import of_the_face

__all__ = [  # noqa: F822  # the objects of the face
    "COCOBState", "DAdaptAdamWState", "DifferentiallyPrivateAggregateState", "DoGState", "DoWGState",
    "GaLoreDimensionNumbers", "GaLoreState", "HutchinsonState", "MadgradState", "MechanicState",
    "MomoAdamState", "MomoState", "MuonDimensionNumbers", "MuonState", "NormalizeState", "ProdigyState",
    "ReduceLROnPlateauState", "SAMState", "ScaleByAdemamixState", "ScaleBySimplifiedAdEMAMixState",
    "ScheduleFreeState", "SophiaState", "SplitRealAndImaginaryState", "acprop", "ademamix", "adopt", "cocob",
    "dadapt_adamw", "differentially_private_aggregate", "dog", "dowg", "dpsgd", "galore",
    "hutchinson_estimator_diag_hessian", "madgrad", "mechanize", "momo", "momo_adam", "muon", "normalize",
    "prodigy", "reduce_on_plateau", "sam", "scale_by_acprop", "scale_by_ademamix", "scale_by_adopt",
    "scale_by_cocob", "scale_by_galore", "scale_by_madgrad", "scale_by_muon", "scale_by_simplified_ademamix",
    "schedule_free", "schedule_free_adamw", "schedule_free_eval_params", "schedule_free_sgd",
    "simplified_ademamix", "sophia", "split_real_and_imaginary",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    return of_the_face(__name__, name, __all__)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
