"""Looking at a function or a run: measurements at a point (`diagnose`), values that are wrong in a step (`debug`)."""

from jaxopt_ko.analysis import debug, diagnose, landscapes, second_order
from jaxopt_ko.core.naming import answers_at

answers_at("jaxopt_ko", {
    "debug": debug, "diagnose": diagnose, "landscapes": landscapes, "second_order": second_order,
})  # fmt: skip
