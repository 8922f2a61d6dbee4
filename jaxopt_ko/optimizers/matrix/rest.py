"""What the recipes of matrix methods share: the method for matrices, another one for the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxopt_ko.compose.chain import chain
from jaxopt_ko.compose.groups import partition
from jaxopt_ko.transforms.decay import add_decayed_weights
from jaxopt_ko.transforms.scaling import scale_by_learning_rate
from jaxopt_ko.types import GradientTransformation, Hyper, MaskOrFn, Params, PyTree


def matrices_and_rest(
    direction: GradientTransformation,
    rest: GradientTransformation,
    labels: Callable[[Params], PyTree],
    learning_rate: Hyper,
    weight_decay: Hyper,
    mask: MaskOrFn | None,
    names: tuple[str, str] = ("matrix", "rest"),
    between: Sequence[GradientTransformation] = (),
) -> GradientTransformation:
    """The step -lr (u + weight_decay p), u of the direction, for leaves with the first label; `rest` for the second.

    between: what stands between the direction and the decay.
    """
    decay = add_decayed_weights(weight_decay, mask)
    matrices = chain(direction, *between, decay, scale_by_learning_rate(learning_rate))
    return partition(dict(zip(names, (matrices, rest), strict=True)), labels)
