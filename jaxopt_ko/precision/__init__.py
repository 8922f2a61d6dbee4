"""Training in few bytes: parameters in 16 bits that move, states in 8 or 4 bits."""

import importlib

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.precision.masters import (
    MasterWeightsState,
    SplitMasterState,
    master_params,
    master_weights,
    split_master,
    with_master,
)
from jaxopt_ko.precision.quantized import Quantized, QuantizedState, dequantized, quantized
from jaxopt_ko.precision.weights import KahanState, StochasticRoundingState, kahan, stochastic_rounding

__all__ = [
    "KahanState", "MasterWeightsState", "Quantized", "QuantizedState", "SplitMasterState", "StochasticRoundingState",
    "dequantized", "kahan", "master_params", "master_weights", "quantized", "split_master", "stochastic_rounding",
    "with_master",
]  # fmt: skip

published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
importlib.import_module("jaxopt_ko.states")  # where pickles look for what the states here are made of
