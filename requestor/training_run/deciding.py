"""What comes of a merged round: its candidate is judged, and the outcome made the run's state."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from requestor.marketplace.money.ledger import Ledger
from requestor.training_run.auditing.round_records import RoundRecords
from requestor.training_run.desks import Desks
from requestor.training_run.exports import Exports
from requestor.training_run.judging.referee import Referee
from requestor.training_run.progress import Progress
from requestor.training_run.round_making import ClosedRound


@dataclass(frozen=True)
class Decider:
    """Takes a run from one checkpoint to the next."""

    referee: Referee
    records: RoundRecords
    ledger: Ledger
    desks: Desks
    progress: Progress
    exports: Exports

    async def decide(self, closed: ClosedRound) -> None:
        """Have the candidate judged, and make what comes of it the state of the run."""
        before = self.progress.checkpoint
        after = await self.referee.decide(before, closed.candidate)
        self.records.record(before, closed, after, f"{self.ledger.summary.total_glm:f}")
        states = self.desks.keep_states(before, closed.desk, closed.harvest.deliveries)
        self.progress.write(replace(after, client_states=states))
        closed.desk.clear()
        self.exports.write_soon(self.progress.checkpoint)
