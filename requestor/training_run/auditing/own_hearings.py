"""An audit by this machine, from the first execution to a verdict; `hearings.py` has the others.

`requestor/trust/disputes.py` says what has to be done once more and who is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from provider_image.wire import WireError
from requestor.evaluation.local_worker import LocalWorkerError
from requestor.training_run.auditing.hearings import Hearing, account_of
from requestor.training_run.auditing.replaying import Replayed, Replaying, Work
from requestor.training_run.orders.deliveries import Delivery
from requestor.trust.disputes import Account, Dispute, Replay, Verdict


@dataclass(frozen=True)
class OwnCourt:
    """Does work again here, as far as the bits of provider and machine can be compared."""

    replays: Replaying
    has_equal_bits: Callable[[Delivery], bool]

    async def hear(self, delivery: Delivery, work: Work) -> Hearing:
        """Audit a delivery, whose sender is known."""
        replayed: Replayed | None = None
        accused = account_of(delivery)
        assert accused is not None
        try:
            replayed = await self.replays.replay(work, Replay())
            dispute = await self._settled(Dispute(accused, replayed.account), work, delivery)
        except (LocalWorkerError, WireError) as error:
            dispute = Dispute(accused, Account(None, ())).given_up()
            verdict = Verdict("undecided", reason=f"this machine can't do it again: {error}")
        else:
            assert dispute.verdict is not None
            verdict = dispute.verdict
        return Hearing(dispute, verdict, other=replayed)

    async def arbitrate(
        self, first: Delivery, second: Delivery, dispute: Dispute, work: Work
    ) -> Hearing:
        """Find out who of two is wrong."""
        try:
            dispute = await self._settled(dispute, work, first, second)
        except (LocalWorkerError, WireError):
            dispute = dispute.given_up()
        assert dispute.verdict is not None
        return Hearing(dispute, dispute.verdict)

    async def _settled(self, dispute: Dispute, work: Work, *parties: Delivery) -> Dispute:
        """Have done once more what it takes, where bits can be compared at all."""
        while (step := dispute.next_replay) is not None:
            if not all(self.has_equal_bits(party) for party in parties):
                return dispute.given_up()
            again = await self.replays.replay(work, step, is_fresh=True)
            dispute = dispute.heard(again.account)
        return dispute
