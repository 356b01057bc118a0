"""Which of a fleet's faults a real daemon does not let happen."""

from requestor.mock_golem.faults import (
    DiesInCommand,
    Fault,
    InvoiceWrongPayee,
    InvoiceWrongPlatform,
)
from requestor.mock_golem.fleet import Fleet


def fault_notes(fleet: Fleet) -> list[str]:
    """Return a line for each provider's fault that does less on a real daemon than on the mock."""
    return [
        f"{model.name}: {note}"
        for model in fleet.expanded()
        for note in map(_note, model.faults)
        if note is not None
    ]


def _note(fault: Fault) -> str | None:
    if isinstance(fault, InvoiceWrongPlatform):
        return (
            "invoice_wrong_platform does nothing: the real daemon takes an invoice's platform "
            "from its agreement"
        )
    if isinstance(fault, InvoiceWrongPayee):
        return (
            "invoice_wrong_payee does nothing: the real daemon takes an invoice's payee from its "
            "agreement"
        )
    if isinstance(fault, DiesInCommand) and fault.unreachable:
        return (
            "dies_in_command with `unreachable` leaves its node reachable: all nodes are one "
            "daemon, so that the agreement can be ended"
        )
    return None
