"""Schedules: functions step (int32[], from 0) -> value (float[]), for any hyperparameter of any method.

Nearly all are ramps, from one value to the next along a line, a cosine or a power. Steps are compared as integers,
so the largest int32 step is as exact as the first. A step may be of any dtype, an array too; what is negative counts
as 0. Values may be traced, and pass unchecked then.

The types in a signature say what an argument must be. For any other, HyperparameterError is raised when the schedule
is made; its subclass HyperparameterTypeError for what is no number, no static whole number, no function.

Where optax 0.2.8 has the name, arguments and values are its own, but for these, each with a test beside it:
    warmup_constant_schedule with warmup_steps=0      the peak at once; optax stays at init_value for ever
    warmup_cosine_decay_schedule to a peak of 0       ends at end_value; optax ends at 0
    linear_onecycle_schedule, two boundaries in one   both are heeded; optax loses one of them
    exponential_decay, staircase, after 2**24 steps   counted in integers; optax rounds the step to float32
    exponential_decay with rate > 1 past end_value    derivative 0; optax's is NaN once the power has overflowed
    linear and polynomial, 1e-8 beside 1              the ends to the bit; optax takes their difference, and gives 0
    join_schedules                                    as many boundaries as it takes, or an error: optax drops what is
                                                      left over; each part is asked for its own steps alone
"""

from jaxopt_ko.compose.inject import (
    InjectHyperparamsState,
    InjectStatefulHyperparamsState,
    StatefulSchedule,
    WrappedSchedule,
    inject_hyperparams,
    inject_stateful_hyperparams,
)
from jaxopt_ko.schedules import cooldowns, curves
from jaxopt_ko.schedules.cooldowns import *
from jaxopt_ko.schedules.curves import *
from jaxopt_ko.types import Schedule

__all__ = [
    "InjectHyperparamsState", "InjectStatefulHyperparamsState", "Schedule", "StatefulSchedule", "WrappedSchedule",
    "inject_hyperparams", "inject_stateful_hyperparams",
]  # fmt: skip
__all__ += cooldowns.__all__
__all__ += curves.__all__
