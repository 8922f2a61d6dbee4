"""Training in few bytes: parameters in 16 bits that move, states in 8 or 4 bits."""

__all__: list[str] = []
