"""Training in few bytes: parameters in 16 bits that move, states in 8 or 4 bits."""

from jaxopt_ko.precision.quantized import Quantized, QuantizedState, dequantized, quantized

__all__ = ["Quantized", "QuantizedState", "dequantized", "quantized"]
