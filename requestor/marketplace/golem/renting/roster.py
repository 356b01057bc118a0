"""The leases of one session: who is at work, who left, and who is to blame."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from requestor.marketplace.choice.failures import FailureKind
from requestor.marketplace.golem.daemon.patient_calls import PatientDaemonApi
from requestor.marketplace.golem.daemon.presence import DaemonPresence
from requestor.marketplace.golem.paying.bookkeeping import Bookkeeper
from requestor.marketplace.golem.renting.lease import GolemLease
from requestor.marketplace.golem.renting.provider_records import ProviderRecords
from requestor.marketplace.golem.renting.worker_service import WorkerService
from requestor.marketplace.offers.offer_terms import clean_name
from requestor.marketplace.ports import LeaseInfo

CEILING = "golem.max_price.agreement_glm"

RELEASE_SECONDS = 2.0
"""A released lease's agreement is over by then; one at its ceiling is ended at the latest now."""


class LeaseRoster:
    """Keeps the leases of a session (`worker_service.LeaseKeeper`).

    Args:
        books: knows agreements and their prices.
        records: learns how providers did.
        api: asked how a provider's start went.
        presence: whether the daemon is there; a provider is not blamed for its absence.
        end_agreement: ends one whether or not there is a lease.
        deploy_timeout_seconds: how long a provider may take to become ready.
        notice: told what a person should know.
        learner: what workers load before they are ready.
    """

    def __init__(
        self,
        books: Bookkeeper,
        records: ProviderRecords,
        api: PatientDaemonApi,
        presence: DaemonPresence,
        *,
        end_agreement: Callable[[str], None],
        deploy_timeout_seconds: float,
        notice: Callable[[str], None],
        learner: str = "sb3",
    ) -> None:
        self._books = books
        self._records = records
        self._api = api
        self._notice = notice
        self._end_agreement = end_agreement
        self._capped: dict[str, float] = {}
        self._leases: dict[str, GolemLease] = {}
        self._notes: set[asyncio.Task[None]] = set()
        self.ready: asyncio.Queue[GolemLease] = asyncio.Queue()
        self.presence = presence
        self.deploy_timeout_seconds = deploy_timeout_seconds
        self.learner = learner
        self.is_closing = False

    def __iter__(self) -> Iterator[tuple[str, GolemLease]]:
        """Iterate over (agreement id, lease) of those at work now."""
        return iter(list(self._leases.items()))

    def __contains__(self, agreement_id: str) -> bool:
        """Tell whether there is a lease under an agreement."""
        return agreement_id in self._leases

    def close(self) -> None:
        """Release all; from here on nobody is blamed for an end."""
        self.is_closing = True
        for note in self._notes:
            note.cancel()
        for _, lease in self:
            lease.release("the run is over", avoid=False)

    def open_lease(self, service: WorkerService) -> GolemLease:
        """Make a lease of a service whose worker is ready."""
        agreement_id = service.agreement_id
        account = self._books.account_of(agreement_id)
        info = LeaseInfo(
            id=agreement_id[:12],
            provider_name=clean_name(service.provider_name),
            provider_id=str(service.provider_id),
            agreement_id=agreement_id,
            prices=account.prices,
            wallet=self._records.wallet_of(agreement_id),
        )
        lease = GolemLease(
            info, self._released, lambda: self.presence.away_seconds, self._assessed
        )
        self._leases[agreement_id] = lease
        started = time.monotonic() - account.approved_seconds
        note = asyncio.create_task(self._records.note_start(agreement_id, started, self._api))
        self._notes.add(note)
        note.add_done_callback(self._notes.discard)
        self.ready.put_nowait(lease)
        return lease

    def _assessed(self, lease: GolemLease, useful_steps: int, seconds: float) -> None:
        self._records.assessed(lease.info.agreement_id, useful_steps, seconds)

    def lease_closed(self, lease: GolemLease, reason: str) -> None:
        """Note the end of a lease; unless we are closing, its provider failed us."""
        info = lease.info
        if self._leases.pop(info.agreement_id, None) is None:
            return
        self._records.lease_ended(info.agreement_id, lease.orders_done, lease.busy_seconds)
        if not self.is_closing and not lease.was_released:
            self.suspect(info.agreement_id, lease.failure, reason)

    def start_failed(self, service: WorkerService, reason: str) -> None:
        """Note that a provider never became ready."""
        if not self.is_closing and service.agreement_id not in self._capped:
            name = clean_name(service.provider_name)
            self._notice(f"{name}: {reason}")
            self.suspect(service.agreement_id, "not_ready", reason)

    def _released(self, lease: GolemLease, reason: str, avoid: bool) -> None:
        if avoid:
            self._records.failed(lease.info.agreement_id, lease.failure, reason)

    def part(self, agreement_id: str, reason: str) -> None:
        """End the lease of a provider that did not outlive the daemon's absence."""
        lease = self._leases.get(agreement_id)
        if lease is not None:
            lease.close(reason)
            self.lease_closed(lease, reason)

    def suspect(self, agreement_id: str, failure: FailureKind, reason: str) -> None:
        """Blame a provider for a failure, unless the daemon's absence or we explain it."""
        if not self.presence.is_unsettled and agreement_id not in self._capped:
            self._records.failed(agreement_id, failure, reason)

    def at_ceiling(self, agreement_id: str) -> None:
        """Give up a provider whose agreement has cost as much as one may.

        Heard again until the agreement is over: a lease has a little time to end it.
        """
        now = time.monotonic()
        is_news = agreement_id not in self._capped
        since = self._capped.setdefault(agreement_id, now)
        lease = self._leases.get(agreement_id)
        if lease is not None:
            lease.release(f"its agreement has come to {CEILING}", avoid=False)
        if now - since >= RELEASE_SECONDS or (is_news and lease is None):
            self._end_agreement(agreement_id)
        if is_news:
            seconds = now - self._books.account_of(agreement_id).approved_seconds
            self._tell_of_ceiling(agreement_id, seconds, was_ready=lease is not None)

    def _tell_of_ceiling(self, agreement_id: str, seconds: float, *, was_ready: bool) -> None:
        if self._records.came_to_ceiling(agreement_id, seconds, was_ready=was_ready):
            state = "" if was_ready else " and was not ready for work"
            self._notice(
                f"{self._books.name_of(agreement_id)}: its agreement came to {CEILING} after "
                f"{seconds:.0f} s{state}; it is not rented again in this session"
            )

    def terminated(self, agreement_id: str, reason: Mapping[str, Any]) -> None:
        """End the lease of an agreement that yapapi has ended over our heads.

        It does so when a provider sends more debit notes than were agreed, and cancels the
        instance; what the instance was about to do is never told.
        """
        lease = self._leases.get(agreement_id)
        if lease is not None:
            text = f"the agreement was terminated: {reason.get('message', 'no reason given')}"
            is_flood = "DebitNotes" in str(reason.get("golem.requestor.code", ""))
            lease.failure = "note_flood" if is_flood else "ended_agreement"
            lease.close(text)
            self.lease_closed(lease, text)
