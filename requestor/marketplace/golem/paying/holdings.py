"""What is held in a daemon, and by whom: agreements, activities, unpaid invoices, allocations.

`survey` reads it from the daemon and changes nothing. `sort_out` is pure: it says what belongs to
which run by the mark in our demands and by the runs' ledgers; the rest is nobody's business of
ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from requestor.marketplace.golem.daemon.answers import decimal_field
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.golem.paying.settlement import CLOCK_MARGIN_SECONDS
from requestor.marketplace.money.bills import Bill, read_bill
from requestor.marketplace.money.ledger import LedgerSummary
from requestor.marketplace.offers.offer_terms import clean_name
from requestor.marketplace.ports import RUN_PROPERTY

_OPEN = ("ISSUED", "RECEIVED")


@dataclass(frozen=True)
class HeldAgreement:
    """An agreement in force; `run_id` is None if it does not carry our mark."""

    agreement_id: str
    run_id: str | None
    provider_name: str
    provider_id: str
    activities: tuple[str, ...] = ()


@dataclass(frozen=True)
class HeldAllocation:
    """Money that is set aside."""

    allocation_id: str
    total_glm: Decimal
    remaining_glm: Decimal
    platform: str = ""


@dataclass(frozen=True)
class Survey:
    """All that a daemon holds for `node_id`."""

    node_id: str
    agreements: tuple[HeldAgreement, ...]
    allocations: tuple[HeldAllocation, ...]
    invoices: tuple[Bill, ...]
    """Those that nobody has answered."""


@dataclass(frozen=True)
class Holdings:
    """What one run holds, or what nobody known holds."""

    agreements: tuple[HeldAgreement, ...] = ()
    allocations: tuple[HeldAllocation, ...] = ()
    invoices: tuple[Bill, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing."""
        return not (self.agreements or self.allocations or self.invoices)


@dataclass(frozen=True)
class Sorted:
    """A survey by owner.

    runs: by run id, of the runs that we know.
    strays: agreements that carry our mark, by the id of a run that is not known here.
    unknown: allocations that no ledger knows, and agreements without our mark: other programs'.
    """

    runs: Mapping[str, Holdings] = field(default_factory=dict)
    strays: Mapping[str, Holdings] = field(default_factory=dict)
    unknown: Holdings = Holdings()


async def survey(api: DaemonApi, since_unix_seconds: float) -> Survey:
    """Ask the daemon what it holds; invoices older than `since_unix_seconds` are left out.

    Raises:
        DaemonError: it does not answer.
    """
    node_id = await api.identity()
    agreements = [
        _agreement(agreement_id, await api.agreement(agreement_id))
        for agreement_id in await api.approved_agreements()
    ]
    ours = [
        replace(one, activities=await _activities(api, one.agreement_id)) if one.run_id else one
        for one in agreements
    ]
    allocations = [_allocation(row) for row in await api.allocations()]
    rows = await api.invoices(since_unix_seconds - CLOCK_MARGIN_SECONDS)
    invoices = [read_bill("invoice", row) for row in rows if row.get("status") in _OPEN]
    return Survey(node_id, tuple(ours), tuple(allocations), tuple(invoices))


def sort_out(found: Survey, ledgers: Mapping[str, LedgerSummary]) -> Sorted:
    """Say what belongs to whom; `ledgers` are those of all runs that are known, by run id.

    Of a run's invoices those count that may still be paid.
    """
    runs = {run_id: _held_by(run_id, ledger, found) for run_id, ledger in ledgers.items()}
    known = {one.allocation_id for held in runs.values() for one in held.allocations}
    marks = {one.run_id for one in found.agreements if one.run_id and one.run_id not in ledgers}
    return Sorted(
        runs=runs,
        strays={
            run_id: Holdings(tuple(one for one in found.agreements if one.run_id == run_id))
            for run_id in sorted(filter(None, marks))
        },
        unknown=Holdings(
            tuple(one for one in found.agreements if one.run_id is None),
            tuple(one for one in found.allocations if one.allocation_id not in known),
        ),
    )


def _held_by(run_id: str, ledger: LedgerSummary, found: Survey) -> Holdings:
    allocations = ledger.paid_by(found.node_id, ledger.open_allocations)
    amounts = ledger.paid_by(found.node_id, ledger.intended_amounts)
    unsettled = ledger.unsettled
    return Holdings(
        tuple(one for one in found.agreements if one.run_id == run_id),
        tuple(
            one
            for one in found.allocations
            if one.allocation_id in allocations or one.total_glm in amounts
        ),
        tuple(bill for bill in found.invoices if bill.agreement_id in unsettled),
    )


async def _activities(api: DaemonApi, agreement_id: str) -> tuple[str, ...]:
    try:
        return tuple(await api.activities(agreement_id))
    except DaemonError as error:
        if error.is_unreachable:
            raise
        return ()  # an agreement can be ended without knowing them


def _agreement(agreement_id: str, row: Mapping[str, Any]) -> HeldAgreement:
    demand, offer = _part(row, "demand"), _part(row, "offer")
    mark = _part(demand, "properties").get(RUN_PROPERTY)
    return HeldAgreement(
        agreement_id=agreement_id,
        run_id=mark if isinstance(mark, str) and mark else None,
        provider_name=clean_name(_part(offer, "properties").get("golem.node.id.name")),
        provider_id=str(offer.get("providerId", "")),
    )


def _part(row: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = row.get(name)
    return part if isinstance(part, Mapping) else {}


def _allocation(row: Mapping[str, Any]) -> HeldAllocation:
    return HeldAllocation(
        allocation_id=str(row.get("allocationId", "")),
        total_glm=decimal_field(row, "totalAmount"),
        remaining_glm=decimal_field(row, "remainingAmount"),
        platform=str(row.get("paymentPlatform", "")),
    )


def oldest_unix_seconds(ledgers: Iterable[LedgerSummary]) -> float:
    """Return when the first of some runs went to the market; 0 if none ever did."""
    times = [one.first_unix_seconds for one in ledgers if one.first_unix_seconds is not None]
    return min(times, default=0.0)
