"""Smaller steps once a value stops falling. After Keras's and torch's ReduceLROnPlateau."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_ko import errors, tree
from jaxopt_ko.compose import transform
from jaxopt_ko.errors import NONNEGATIVE, Domain
from jaxopt_ko.lift import name_of
from jaxopt_ko.numerics import next_count, scalar_dtype, value_at, zero_count
from jaxopt_ko.types import GradientTransformation, Hyper, Params, Updates

FACTOR = Domain(0.0, 1.0, "in (0, 1)", low_open=True)
