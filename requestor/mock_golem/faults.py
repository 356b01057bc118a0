"""Faults: what can go wrong, when it does, decided by counting and by a seed.

Every fault has a trigger: skip the first `after` chances, then fire at most `times` times (null:
always), each time with the given `probability`. What a chance is depends on the kind and is told
in its description. Decisions depend on the seed, the provider's name, the kind and the number of
the chance alone, so they repeat from run to run whatever else happens.
"""

import random
from collections.abc import Callable, Sequence
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt


class Fault(BaseModel):
    """The trigger that all faults have."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: ClassVar[str] = ""
    after: int = Field(default=0, ge=0)
    times: PositiveInt | None = None
    probability: float = Field(default=1.0, ge=0.0, le=1.0)


class RejectAgreement(Fault):
    """Chance: each agreement put to the provider."""

    description: ClassVar[str] = "the provider rejects an agreement put to it"
    kind: Literal["reject_agreement"]


class NeverAnswers(Fault):
    """Chance: each counter-proposal."""

    description: ClassVar[str] = "the provider does not answer a counter-proposal"
    kind: Literal["never_answers"]


class SlowApproval(Fault):
    """Chance: each agreement put to the provider."""

    description: ClassVar[str] = "the provider takes `seconds` to approve an agreement"
    kind: Literal["slow_approval"]
    seconds: NonNegativeFloat = 20.0


class ActivityCreateFails(Fault):
    """Chance: each activity asked for."""

    description: ClassVar[str] = (
        "creating an activity answers `status`: 500 at once, or 408 after the caller's timeout"
    )
    kind: Literal["activity_create_fails"]
    status: Literal[408, 500] = 500


class DeployHangs(Fault):
    """Chance: each deploy command."""

    description: ClassVar[str] = "a deploy command never finishes"
    kind: Literal["deploy_hangs"]


class CommandFails(Fault):
    """Chance: each run command."""

    description: ClassVar[str] = "a run command fails with `exit_code`"
    kind: Literal["command_fails"]
    exit_code: int = Field(default=1, ge=1, le=255)


class CommandHangs(Fault):
    """Chance: each run command."""

    description: ClassVar[str] = "a run command never finishes"
    kind: Literal["command_hangs"]


class DiesInCommand(Fault):
    """Chance: each run command."""

    description: ClassVar[str] = (
        "the provider dies `after_seconds` into a run command: its processes are gone, no invoice "
        "comes; with `unreachable` its whole node is gone, so that its agreement cannot be ended; "
        "it comes back `returns_after_seconds` later (null: never)"
    )
    kind: Literal["dies_in_command"]
    after_seconds: NonNegativeFloat = 0.0
    unreachable: bool = False
    returns_after_seconds: PositiveFloat | None = None


class NetworkStall(Fault):
    """Chance: each batch of commands sent."""

    description: ClassVar[str] = (
        "after a batch was sent, no call to the provider is answered for `seconds`"
    )
    kind: Literal["network_stall"]
    seconds: PositiveFloat = 10.0


class ResultTampered(Fault):
    """Chance: each transfer out; with `consistent` each run command."""

    description: ClassVar[str] = (
        "a file that is transferred out differs from what the command wrote; with `consistent` "
        "the file is changed as its run ends, and its checksum in the run's output with it"
    )
    kind: Literal["result_tampered"]
    tamper: Literal[
        "truncate", "corrupt", "nan", "wrong_shape", "pickle", "huge", "empty", "not_json"
    ]
    consistent: bool = False
    huge_bytes: int = Field(default=1 << 30, ge=1)


class NoInvoice(Fault):
    """Chance: each agreement that ends."""

    description: ClassVar[str] = "no invoice is sent when an agreement ends"
    kind: Literal["no_invoice"]


class InvoiceTooHigh(Fault):
    """Chance: each invoice."""

    description: ClassVar[str] = "the invoice's amount is the right one times `factor`"
    kind: Literal["invoice_too_high"]
    factor: float = Field(default=10.0, gt=1.0)


class InvoiceWrongPlatform(Fault):
    """Chance: each invoice."""

    description: ClassVar[str] = "the invoice names a payment platform that was not agreed"
    kind: Literal["invoice_wrong_platform"]


class InvoiceWrongPayee(Fault):
    """Chance: each invoice."""

    description: ClassVar[str] = "the invoice is to be paid to an address that was not offered"
    kind: Literal["invoice_wrong_payee"]


class DebitNoteTooHigh(Fault):
    """Chance: each debit note."""

    description: ClassVar[str] = "the debit note's amount is the right one times `factor`"
    kind: Literal["debit_note_too_high"]
    factor: float = Field(default=10.0, gt=1.0)


class DebitNoteBackwards(Fault):
    """Chance: each debit note."""

    description: ClassVar[str] = "the debit note asks for half of what its activity has cost"
    kind: Literal["debit_note_backwards"]


class DebitNotePayable(Fault):
    """Chance: each debit note."""

    description: ClassVar[str] = "the debit note is to be paid at once, which nobody agreed to"
    kind: Literal["debit_note_payable"]


class DuplicateInvoice(Fault):
    """Chance: each invoice."""

    description: ClassVar[str] = "the invoice is sent twice, under two ids"
    kind: Literal["duplicate_invoice"]


class DebitNoteFlood(Fault):
    """Chance: each activity."""

    description: ClassVar[str] = "an activity sends `per_second` debit notes a second"
    kind: Literal["debit_note_flood"]
    per_second: float = Field(default=10.0, gt=0.0, le=1000.0)


class TerminatesAgreement(Fault):
    """Chance: each agreement approved."""

    description: ClassVar[str] = "the provider ends the agreement `after_seconds`, working or not"
    kind: Literal["terminates_agreement"]
    after_seconds: NonNegativeFloat = 10.0


class AllocationRefused(Fault):
    """Chance: each allocation asked for."""

    description: ClassVar[str] = "an allocation is refused for want of funds"
    kind: Literal["allocation_refused"]


class WrongKey(Fault):
    """Chance: each request that carries the app key."""

    description: ClassVar[str] = "the right app key is refused, as if it had been revoked"
    kind: Literal["wrong_key"]


class SubscriptionLost(Fault):
    """Chance: each poll for proposals."""

    description: ClassVar[str] = "a demand is forgotten; polls for its proposals answer 404"
    kind: Literal["subscription_lost"]


class DaemonRestart(Fault):
    """Chance: each time that the seconds or requests are reached; counted anew afterwards."""

    description: ClassVar[str] = (
        "the daemon restarts `after_seconds` or `after_requests`: connections are cut, nobody "
        "listens for `down_seconds`, demands are forgotten; providers and activities live on"
    )
    kind: Literal["daemon_restart"]
    times: PositiveInt | None = 1
    after_seconds: PositiveFloat | None = None
    after_requests: PositiveInt | None = None
    down_seconds: NonNegativeFloat = 0.5


ProviderFault = Annotated[
    RejectAgreement
    | NeverAnswers
    | SlowApproval
    | ActivityCreateFails
    | DeployHangs
    | CommandFails
    | CommandHangs
    | DiesInCommand
    | NetworkStall
    | ResultTampered
    | NoInvoice
    | InvoiceTooHigh
    | InvoiceWrongPlatform
    | InvoiceWrongPayee
    | DuplicateInvoice
    | DebitNoteTooHigh
    | DebitNoteBackwards
    | DebitNotePayable
    | DebitNoteFlood
    | TerminatesAgreement,
    Field(discriminator="kind"),
]
DaemonFault = Annotated[
    AllocationRefused | WrongKey | SubscriptionLost | DaemonRestart, Field(discriminator="kind")
]

_FaultType = TypeVar("_FaultType", bound=Fault)


class FaultSchedule:
    """Counts the chances of one provider (or of the daemon) and says which faults fire.

    Args:
        faults: the configured faults.
        seed: the fleet's seed.
        scope: the provider's name; different scopes draw different random numbers.
    """

    def __init__(self, faults: Sequence[Fault], seed: int, scope: str) -> None:
        self._triggers = [
            _Trigger(fault, random.Random(f"{seed}/{scope}/{type(fault).__name__}/{index}"))
            for index, fault in enumerate(faults)
        ]

    def fires(
        self, kind: type[_FaultType], among: Callable[[_FaultType], bool] = lambda fault: True
    ) -> _FaultType | None:
        """Take one chance of this kind; return the first configured fault that fires, if any.

        Only the faults for which `among` is true have this chance.
        """
        fired: _FaultType | None = None
        for trigger in self._triggers:
            # every trigger of the kind counts the chance, also when an earlier one has fired
            if isinstance(trigger.fault, kind) and among(trigger.fault):
                took_place = trigger.take()
                if took_place and fired is None:
                    fired = trigger.fault
        return fired

    def configured(self, kind: type[_FaultType]) -> list[_FaultType]:
        """Return the faults of this kind without taking a chance."""
        return [trigger.fault for trigger in self._triggers if isinstance(trigger.fault, kind)]


class _Trigger:
    def __init__(self, fault: Fault, generator: random.Random) -> None:
        self.fault = fault
        self._generator = generator
        self._chances = 0
        self._fired = 0

    def take(self) -> bool:
        self._chances += 1
        drawn = self._generator.random()
        if self._chances <= self.fault.after:
            return False
        if self.fault.times is not None and self._fired >= self.fault.times:
            return False
        if drawn >= self.fault.probability:
            return False
        self._fired += 1
        return True


def _kinds(union: object) -> tuple[type[Fault], ...]:
    members: tuple[type[Fault], ...] = union.__origin__.__args__  # type: ignore[attr-defined]
    return members


PROVIDER_FAULTS: tuple[type[Fault], ...] = _kinds(ProviderFault)
DAEMON_FAULTS: tuple[type[Fault], ...] = _kinds(DaemonFault)


def kind_of(fault: type[Fault]) -> str:
    """Return the name that a fleet file uses for this fault."""
    return str(fault.model_fields["kind"].annotation.__args__[0])  # type: ignore[union-attr]
