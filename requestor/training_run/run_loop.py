"""The loop of a run: rent, have rounds done, merge, judge, publish or roll back, write it down.

Decisions are made elsewhere, in pure code (`federation`, `scheduling`, `marketplace.spending`);
this file puts together who gives them what they need and carries out what they say. A crash at any
instant costs at most the round in flight: everything before it is in a checkpoint, and even of that
round the results that were in are kept.

Read next: `sessions.py`, `round_making.py` and `judging/referee.py`, then
`provider_image/round_runner.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from requestor.errors import BudgetReached, DerlError, Interrupted, RunFailed
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalWorker
from requestor.evaluation.local_workshop import LocalWorkshop
from requestor.federation.seeds import held_out_seeds
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.ports import (
    Marketplace,
    MarketplaceGone,
    MarketplaceLost,
    ProviderPool,
)
from requestor.training_run import events
from requestor.training_run.auditing.means import AuditDoors
from requestor.training_run.auditing.run_audits import RunAudits
from requestor.training_run.beginning import begin
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.deciding import Decider
from requestor.training_run.desks import Desks
from requestor.training_run.dispatching.cohort_reviewer import CohortReviewer, ProbeSet
from requestor.training_run.dispatching.dispatcher import Dispatcher
from requestor.training_run.dispatching.own_machine import OwnMachine
from requestor.training_run.dispatching.reviewing import Reviewer
from requestor.training_run.exports import Exports
from requestor.training_run.judging.referee import Referee
from requestor.training_run.progress import Progress
from requestor.training_run.round_making import RoundMaker
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.sessions import Sessions
from requestor.training_run.settings import RunSettings, RunSummary
from requestor.training_run.spending_reports import amount_texts

MAX_LOSSES = 4
"""How often in a row, with no round done, the daemon may go away before the run gives up."""

PROBED_ENVIRONMENTS = 4
"""The probe's observations are met in so many environments side by side."""


class TrainingRun:
    """One run in one folder."""

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory,
        marketplace: Marketplace,
        ledger: Ledger,
        *,
        emit: Callable[[events.Event], None],
        stop_requested: asyncio.Event,
        wait_for_daemon: Callable[[], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        exports: bool = True,
        audits: AuditDoors | None = None,
    ) -> None:
        """Run `settings` in `directory`; set `stop_requested` for a clean stop.

        Without `exports` no files of Stable-Baselines3 are written, without `audits` no work is
        done again.
        """
        self._settings = settings
        self._directory = directory
        self._marketplace = marketplace
        self._ledger = ledger
        self._emit = emit
        self._stop = stop_requested
        self._wait_for_daemon = wait_for_daemon
        self._clock = clock
        self._exports = exports
        self._store = CheckpointStore(directory.checkpoints)
        self._audits = RunAudits(audits, directory, self._store, emit=emit, clock=clock)

    async def execute(self) -> RunSummary:
        """Do what is left of the run.

        Raises:
            DerlError: it could not begin; errors later on are in the summary.
        """
        settings = self._settings
        async with (
            LocalWorker(self._directory.local, settings.learner) as worker,
            LocalWorker(self._directory.local_export, waits_for_work=True) as exporter,
            self._audits as audits,
        ):
            judge = Judge(
                worker,
                settings.environment,
                settings.learner,
                settings.rules,
                exporter if worker.is_light else None,
            )
            referee = Referee(settings, judge, self._store, emit=self._emit, clock=self._clock)
            reviewers = self._screeners(judge)
            started_seconds = self._clock()
            settings, progress = await begin(settings, self._store, referee, self._emit)
            if worker.notice is not None:
                self._notice(worker.notice)
            reviewers += await audits.open(settings, progress.checkpoint)
            exports = Exports(referee, self._directory, is_wanted=self._exports)
            error: DerlError | None = None
            try:
                async with LocalWorkshop(
                    self._directory.local_work, settings.learner, waits_for_work=True
                ) as workshop:
                    own_machine = OwnMachine(workshop)
                    desks = Desks(settings, self._store, self._directory.inbox)
                    sessions = Sessions(
                        settings=settings,
                        marketplace=self._marketplace,
                        staff=lambda pool: self._dispatcher(pool, reviewers, own_machine),
                        maker=RoundMaker(desks, referee, reviewers, self._emit, self._clock),
                        decider=Decider(
                            referee, audits.records, self._ledger, desks, progress, exports
                        ),
                        audits=audits,
                        progress=progress,
                        emit=self._emit,
                        clock=self._clock,
                        stop_requested=self._stop,
                    )
                    await self._train(sessions, progress)
            except DerlError as caught:
                error = caught
            checkpoint = progress.checkpoint
            final = await referee.final(checkpoint) if progress.is_done else None
            await exports.finish(checkpoint)
            return self._summary(checkpoint, final, error, self._clock() - started_seconds)

    def _screeners(self, judge: Judge) -> list[Reviewer]:
        """Return who looks at updates beside each other; what is odd goes to the audits."""
        screening, run_seed = self._settings.screening, self._settings.federation.run_seed
        if screening is None:
            return []
        seeds = held_out_seeds(run_seed, "probe", PROBED_ENVIRONMENTS)
        probe_set = ProbeSet(judge, seeds, screening.probe_samples)
        return [
            CohortReviewer(
                screening.limits,
                probe_set if screening.probe_samples else None,
                notice=self._notice,
                suspect=self._audits.suspect,
            )
        ]

    def _dispatcher(
        self, pool: ProviderPool, reviewers: Sequence[Reviewer], own_machine: OwnMachine
    ) -> Dispatcher:
        return Dispatcher(
            pool,
            self._settings.dispatch,
            emit=self._emit,
            clock=self._clock,
            stop_requested=self._stop,
            reviewers=reviewers,
            greet=self._audits.greet,
            own_machine=own_machine,
            errands=self._audits.errands,
        )

    async def _train(self, sessions: Sessions, progress: Progress) -> None:
        losses = 0
        while not progress.is_done:
            if self._stop.is_set():  # what is rented is paid for
                raise Interrupted(
                    "stopped on request", fix="`derl-request resume` goes on from here"
                )
            before = progress.checkpoint.round
            try:
                await sessions.hold()
            except MarketplaceGone as gone:
                self._emit(events.MarketplaceWentAway(str(gone), losses + 1))
                raise RunFailed(
                    str(gone),
                    fix="start it (`yagna service run`); `derl-request resume` then cleans up and "
                    "goes on",
                ) from gone
            except MarketplaceLost as lost:
                losses = losses + 1 if progress.checkpoint.round == before else 1
                self._emit(events.MarketplaceWentAway(str(lost), losses))
                if losses == MAX_LOSSES:
                    raise RunFailed(
                        f"the daemon was lost {MAX_LOSSES} times in a row: {lost}",
                        fix="look at yagna's own log; `derl-request resume` goes on from here",
                    ) from lost
                if self._wait_for_daemon is not None:
                    await self._wait_for_daemon()

    def _summary(
        self,
        checkpoint: Checkpoint,
        final: Evaluation | None,
        error: DerlError | None,
        wall_seconds: float,
    ) -> RunSummary:
        """Say how the run ended."""
        outcome = _outcome(error, checkpoint)
        self._emit(
            events.RunFinished(
                outcome=outcome,
                message=error.message if error else "",
                rounds=checkpoint.round,
                total_steps=checkpoint.total_steps,
                mean_return=final.mean_return if final else None,
                best_return=checkpoint.best.mean_return,
                cost_glm=f"{self._ledger.summary.total_glm:f}",
                wall_seconds=wall_seconds,
                provider_glm=amount_texts(self._ledger.summary.accepted_by_provider),
            )
        )
        return RunSummary(
            outcome, checkpoint.round, checkpoint.total_steps, final, checkpoint.best, error
        )

    def _notice(self, text: str) -> None:
        self._emit(events.Notice(text))


def _outcome(error: DerlError | None, checkpoint: Checkpoint) -> str:
    if error is None:
        return "target_reached" if checkpoint.is_target_reached else "completed"
    if isinstance(error, BudgetReached):
        return "budget_reached"
    return "interrupted" if isinstance(error, Interrupted) else "failed"
