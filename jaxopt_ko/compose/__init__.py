"""How transformations are put together: chains, masks, groups, hyperparameters that live in the state."""

from jaxopt_ko.compose.basic import identity, init_empty_state, stateless, stateless_with_tree_map
from jaxopt_ko.compose.chain import apply_updates, chain, named_chain
from jaxopt_ko.compose.extra_args import with_extra_args_support
from jaxopt_ko.compose.groups import (
    MaskedState,
    MultiTransformState,
    PartitionState,
    labels_by_path,
    masked,
    multi_transform,
    partition,
)
from jaxopt_ko.compose.inject import (
    InjectHyperparamsState,
    InjectStatefulHyperparamsState,
    StatefulSchedule,
    WrappedSchedule,
    WrappedScheduleState,
    inject_hyperparams,
    inject_stateful_hyperparams,
)

__all__ = [
    "InjectHyperparamsState", "InjectStatefulHyperparamsState", "MaskedState", "MultiTransformState",
    "PartitionState", "StatefulSchedule", "WrappedSchedule", "WrappedScheduleState", "apply_updates", "chain",
    "identity", "init_empty_state", "inject_hyperparams", "inject_stateful_hyperparams", "labels_by_path", "masked",
    "multi_transform", "named_chain", "partition", "stateless", "stateless_with_tree_map", "with_extra_args_support",
]  # fmt: skip
