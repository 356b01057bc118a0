"""Why a daemon would not accept a bill: whether the bill is to blame, or the moment."""

from __future__ import annotations

import re

from requestor.marketplace.golem.daemon.answers import is_passing
from requestor.marketplace.golem.daemon.failure_words import describe_failure

_FUNDS = re.compile(r"not enough funds|allocation .{0,80}(not found|released)", re.IGNORECASE)


def may_pass(error: BaseException) -> bool:
    """Say whether a bill that was not accepted may be accepted later: it is not to blame."""
    return is_passing(error) or lacks_funds(error)


def lacks_funds(error: BaseException) -> bool:
    """Say whether a bill was not accepted for want of money in the allocation, or of that."""
    said = f"{describe_failure(error)} {getattr(error, 'message', '')}"
    return getattr(error, "status", None) == 410 or _FUNDS.search(said) is not None
