"""An audit by providers, from the first question to a verdict.

`requestor/trust/disputes.py` says what has to be done once more and who is wrong; this has it done:
by a provider first, and where the two differ by this machine if its bits are equal, else by a
third. A witness that is not believed clears nobody: the item is looked at again without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from provider_image.wire import WireError
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.training_run.auditing.replaying import Replayed, Replaying, Work
from requestor.training_run.auditing.witnesses import Witnesses
from requestor.training_run.orders.deliveries import Delivery
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import MODEL_NAME, STATE_NAME, RoundFiles
from requestor.trust.disputes import Account, Dispute, Verdict

PATIENCE = 2.0
"""An audit by providers may take so many times what an order may."""


@dataclass(frozen=True)
class Liar:
    """A witness that was convicted, and of what."""

    delivery: Delivery
    dispute: Dispute
    verdict: Verdict


@dataclass(frozen=True)
class Hearing:
    """What came of an audit by providers: the last dispute, and the witnesses it has convicted.

    doubted: voices of which one at least is wrong, and nobody can tell which.
    other: the last whole account that another execution gave, with its update; None without any.
    """

    dispute: Dispute
    verdict: Verdict
    liars: tuple[Liar, ...] = ()
    doubted: frozenset[str] = frozenset()
    other: Replayed | None = None

    @property
    def is_unheard(self) -> bool:
        """True if nobody could do the work again."""
        return self.dispute.witness is None


@dataclass(frozen=True)
class Court:
    """Holds hearings; `has_equal_bits` tells whether this machine may have a say in one."""

    replays: Replaying
    witnesses: Witnesses
    has_equal_bits: Callable[[Delivery], bool]

    async def hear(
        self, delivery: Delivery, work: Work, desk: RoundDesk, disbelieved: Collection[str]
    ) -> Hearing:
        """Audit a delivery, whose sender is known, asking none of the `disbelieved` voices."""
        accused = account_of(delivery)
        assert accused is not None
        until = asyncio.get_running_loop().time() + PATIENCE * desk.files.order_timeout_seconds
        case = _Case(self, delivery, work, desk, until)
        dispute = Dispute(accused, silent=frozenset(disbelieved))
        while True:
            while dispute.next_replay is not None:
                dispute = await case.go_on(dispute)
            verdict = dispute.verdict
            assert verdict is not None
            case.doubted |= dispute.doubted
            liars = [voice for voice in verdict.convicted if voice != accused.by]
            is_backed = any(voice != accused.by for voice in verdict.contradicted)
            if not liars and not is_backed:
                doubted = frozenset(case.doubted)
                return Hearing(dispute, verdict, tuple(case.liars), doubted, case.other)
            case.liars += [Liar(case.heard[voice], dispute, verdict) for voice in liars]
            dispute = dispute.without_witness()


class _Case:
    def __init__(
        self, court: Court, delivery: Delivery, work: Work, desk: RoundDesk, until: float
    ) -> None:
        self._court = court
        self._delivery = delivery
        self._work = work
        self._desk = desk
        self._until = until
        self.heard: dict[str, Delivery] = {}
        self.liars: list[Liar] = []
        self.doubted: set[str] = set()
        self.other: Replayed | None = None

    async def go_on(self, dispute: Dispute) -> Dispute:
        """Have done what is due next."""
        is_contested = dispute.witness is not None or bool(self.liars or self.doubted)
        if is_contested and self._court.has_equal_bits(self._delivery):
            return await self._here(dispute)
        return await self._elsewhere(dispute)

    async def _here(self, dispute: Dispute) -> Dispute:
        step = dispute.next_replay
        assert step is not None
        try:
            again = await self._court.replays.replay(self._work, step, is_fresh=True)
        except (LocalWorkerError, WireError):
            return dispute.given_up()
        if step.last is None:
            self.other = again
        return dispute.heard(again.account)

    async def _elsewhere(self, dispute: Dispute) -> Dispute:
        answer = await self._court.witnesses.ask(
            self._delivery.update.item,
            self._desk,
            self._delivery,
            barred=dispute.barred,
            seconds=self._until - asyncio.get_running_loop().time(),
        )
        said = answer.delivery
        if said is None:
            return dispute.vanished(answer.voice) if answer.voice else dispute.given_up()
        account = account_of(said)
        assert account is not None
        self.heard[answer.voice] = said
        self.other = Replayed(account, said.update.tensors, said.metrics)
        return dispute.heard(account)


def held_desk(files: RoundFiles, work: Work) -> RoundDesk:
    """Return a desk that makes the order of `work`, of files that stay as long as it is held."""
    states = {}
    if STATE_NAME in work.inputs:
        reference, _ = files.client_states[work.order.client]
        states[work.order.client] = reference, work.inputs[STATE_NAME]
    return RoundDesk(replace(files, model_path=work.inputs[MODEL_NAME], client_states=states))


def account_of(delivery: Delivery) -> Account | None:
    """Return what a provider says of its work; None where the provider is not known."""
    if delivery.source is None or not delivery.result_sha256:
        return None
    by = None if delivery.is_own else delivery.source.voice
    return Account(by, delivery.links, delivery.result_sha256)
