"""On any mesh: where an optimizer's state lives, and its move to another one."""

from jaxopt_ko.core.naming import published, suggests
from jaxopt_ko.sharding.checkpoints import load_state, state_dict
from jaxopt_ko.sharding.layout import explain_shardings, place, state_shardings

__all__ = ["explain_shardings", "load_state", "place", "state_dict", "state_shardings"]

published("jaxopt_ko", globals(), __all__)
suggests(__name__, globals())
