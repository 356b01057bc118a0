"""The loop of a run: rent, have rounds done, merge, judge, publish or roll back, write it down.

Decisions are made elsewhere, in pure code (`federation`, `scheduling`, `marketplace.spending`);
this file gives them what they need and carries out what they say. A crash at any instant costs
at most the round in flight: everything before it is in a checkpoint, and even of that round the
results that were in are kept.

Read next: `dispatcher.py` and `referee.py`, then `provider_image/round_runner.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from provider_image.wire import (
    FileRef,
    ModelMetadata,
    Tensors,
    decode_metadata,
    settled,
    specs_of,
)
from requestor.errors import BudgetReached, DerlError, Interrupted, RunFailed
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalWorker
from requestor.evaluation.local_workshop import LocalWorkshop
from requestor.federation.rounds import plan_round
from requestor.federation.seeds import held_out_seeds
from requestor.marketplace.money.ledger import Ledger
from requestor.marketplace.ports import (
    Marketplace,
    MarketplaceGone,
    MarketplaceLost,
    ProviderPool,
)
from requestor.training_run import events
from requestor.training_run.auditing.auditor import AuditDoors
from requestor.training_run.auditing.run_audits import ClosedRound, RunAudits
from requestor.training_run.checkpoints import Checkpoint, CheckpointStore
from requestor.training_run.cohort_reviewer import CohortReviewer, ProbeSet
from requestor.training_run.dispatcher import Dispatcher
from requestor.training_run.limits import STOP_MARGIN_SECONDS
from requestor.training_run.open_round import Delivery
from requestor.training_run.order_desk import RoundDesk, RoundFiles, state_reference
from requestor.training_run.own_machine import OwnMachine
from requestor.training_run.referee import Candidate, Referee
from requestor.training_run.reviewing import Reviewer
from requestor.training_run.round_closing import RoundCloser
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.settings import RunSettings, RunSummary
from requestor.training_run.spending_reports import SpendingReporter, amount_texts

MAX_LOSSES = 4
"""How often in a row, with no round done, the daemon may go away before the run gives up."""

EXPIRY_SHARE = 0.2
"""No round begins in this last part of the agreements' time; new ones are made instead."""

MONEY_WATCH_SECONDS = 0.5

PROBED_ENVIRONMENTS = 4
"""The probe's observations are met in so many environments side by side."""


@dataclass(frozen=True)
class _Merged:
    """A round whose work is done, and whose candidate waits for the referee."""

    candidate: Candidate
    desk: RoundDesk
    deliveries: Sequence[Delivery]
    closed: ClosedRound


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
        self._reviewers: list[Reviewer] = []
        self._own_machine: OwnMachine | None = None
        self._audits = RunAudits(audits, directory, self._store, emit=emit, clock=clock)
        self._checkpoint: Checkpoint
        self._exporting: asyncio.Task[None] | None = None
        self._exported: tuple[str, str] | None = None

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
            self._reviewers = self._screeners(judge, audits)
            started_seconds = self._clock()
            await self._start(referee)
            if worker.notice is not None:
                self._notice(worker.notice)
            self._reviewers += await audits.open(self._settings, self._checkpoint)
            error: DerlError | None = None
            try:
                async with LocalWorkshop(
                    self._directory.local_work, self._settings.learner, waits_for_work=True
                ) as workshop:
                    self._own_machine = OwnMachine(workshop)
                    await self._train(referee)
            except DerlError as caught:
                error = caught
            return await self._finish(referee, error, started_seconds)

    def _screeners(self, judge: Judge, audits: RunAudits) -> list[Reviewer]:
        """Return who looks at updates beside each other; what is odd goes to `audits`."""
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
                suspect=audits.suspect,
            )
        ]

    # --- beginning -----------------------------------------------------------------------------

    async def _start(self, referee: Referee) -> None:
        checkpoint = self._store.latest()
        is_resumed = checkpoint is not None
        if checkpoint is None:
            checkpoint = await referee.first_checkpoint()
            self._write(checkpoint)
        self._checkpoint = checkpoint
        bundle = self._store.load(checkpoint.model)
        policy = [t for name, t in bundle.tensors.items() if name.startswith("policy/")]
        metadata = decode_metadata(bundle, ModelMetadata)
        self._settle(metadata)
        fed = self._settings.federation
        self._emit(
            events.RunStarted(
                run_id=self._settings.terms.run_id,
                name=self._settings.name,
                rounds=fed.rounds,
                clients=fed.clients,
                local_steps=fed.local_steps,
                budget_glm=f"{self._settings.terms.budget_glm:f}",
                round=checkpoint.round,
                is_resumed=is_resumed,
                parameters=sum(tensor.size for tensor in policy),
                target_return=self._settings.evaluation.target_return,
                learner=self._settings.learner.learner,
                learner_reason=metadata.learner_reason,
            )
        )
        self._notice(f"learner {self._settings.learner.learner}: {metadata.learner_reason}")

    def _settle(self, metadata: ModelMetadata) -> None:
        """Let every order of the run be executed by the learner that made its first model."""
        learner = settled(self._settings.learner, metadata)
        self._settings = dataclasses.replace(
            self._settings,
            learner=learner,
            terms=dataclasses.replace(self._settings.terms, learner=learner.learner),
        )

    # --- training ------------------------------------------------------------------------------

    def _is_done(self) -> bool:
        checkpoint = self._checkpoint
        return checkpoint.is_target_reached or (
            checkpoint.round >= self._settings.federation.rounds
        )

    async def _train(self, referee: Referee) -> None:
        losses = 0
        while not self._is_done():
            if self._stop.is_set():  # what is rented is paid for
                raise Interrupted(
                    "stopped on request", fix="`derl-request resume` goes on from here"
                )
            before = self._checkpoint.round
            try:
                await self._session(referee)
            except MarketplaceGone as gone:
                self._emit(events.MarketplaceWentAway(str(gone), losses + 1))
                raise RunFailed(
                    str(gone),
                    fix="start it (`yagna service run`); `derl-request resume` then cleans up and "
                    "goes on",
                ) from gone
            except MarketplaceLost as lost:
                losses = losses + 1 if self._checkpoint.round == before else 1
                self._emit(events.MarketplaceWentAway(str(lost), losses))
                if losses == MAX_LOSSES:
                    raise RunFailed(
                        f"the daemon was lost {MAX_LOSSES} times in a row: {lost}",
                        fix="look at yagna's own log; `derl-request resume` goes on from here",
                    ) from lost
                if self._wait_for_daemon is not None:
                    await self._wait_for_daemon()

    async def _session(self, referee: Referee) -> None:
        """Rent and do rounds until the run is done or the agreements are about to expire.

        Agreements cost while a model is judged. After the last round, and when the budget would
        not last, they are ended first.
        """
        terms = self._settings.terms
        self._emit(events.RentingStarted(terms.providers, terms.subnet, terms.payment_network))
        decision: asyncio.Task[None] | None = None
        is_affordable = True
        try:
            async with self._marketplace.rent(terms, self._notice) as pool:
                spending = SpendingReporter(pool, self._emit)
                reporter = asyncio.create_task(spending.run())
                try:
                    async with self._dispatcher(pool) as dispatcher:
                        while not self._is_done() and pool.seconds_left > self._expiry_seconds():
                            self._go_back_if_due()
                            merged = await self._round(dispatcher, spending, referee)
                            decision = asyncio.create_task(self._decide(referee, merged))
                            if merged.candidate.round == self._settings.federation.rounds:
                                break
                            is_affordable = await self._lasts(pool, decision)
                            if not decision.done():
                                break
                            decision.result()
                        await self._audits.drain_bought()
                    await self._audits.drain()  # before bills are settled
                finally:
                    reporter.cancel()
            if decision is not None:
                await decision
            self._go_back_if_due()
        finally:
            if decision is not None:
                decision.cancel()
                await asyncio.gather(decision, return_exceptions=True)
        if not is_affordable and not self._is_done():
            raise BudgetReached(
                f"the budget of {terms.budget_glm:f} GLM does not carry another round",
                fix="`derl-request resume golem.budget_glm=…` goes on with a larger budget",
            )

    def _go_back_if_due(self) -> None:
        if self._audits.is_to_go_back:
            self._checkpoint = self._audits.go_back()

    def _dispatcher(self, pool: ProviderPool) -> Dispatcher:
        return Dispatcher(
            pool,
            self._settings.dispatch,
            emit=self._emit,
            clock=self._clock,
            stop_requested=self._stop,
            reviewers=self._reviewers,
            greet=self._audits.greet,
            own_machine=self._own_machine,
            errands=self._audits.errands,
        )

    async def _lasts(self, pool: ProviderPool, decision: asyncio.Task[None]) -> bool:
        """Wait for a decision; False if the budget, and with it the wait, ends before it is made.

        A request to stop ends the wait too.
        """
        while not decision.done() and not self._stop.is_set():
            if pool.spending.may_spend_seconds(self._clock()) < STOP_MARGIN_SECONDS:
                return False
            await asyncio.wait({decision}, timeout=MONEY_WATCH_SECONDS)
        return True

    def _expiry_seconds(self) -> float:
        return EXPIRY_SHARE * self._settings.terms.expiration_seconds

    async def _round(
        self, dispatcher: Dispatcher, spending: SpendingReporter, referee: Referee
    ) -> _Merged:
        started = self._clock()
        before = self._checkpoint
        model = self._store.load(before.model).tensors
        plan = plan_round(self._settings.federation, before.round)
        desk = self._desk(model)
        for reviewer in self._reviewers:
            reviewer.begin(plan, desk.files)
        harvest = await dispatcher.run_round(plan, desk)
        state = self._store.load(before.merge_state).tensors if before.merge_state else {}
        closer = RoundCloser(
            self._settings, referee.trials(before.model), referee.server_steps(before.model)
        )
        outcome = await closer.close(plan, model, harvest, state=state)
        total = before.total_steps + outcome.steps
        spending.tell()  # a row of the metrics has the cost of its own round
        self._emit(
            events.RoundClosed(
                round=plan.round,
                merged_clients=outcome.merged_clients,
                steps=outcome.steps,
                total_steps=total,
                seconds=self._clock() - started,
                left_out=outcome.left_out,
            )
        )
        candidate = Candidate(plan.round + 1, total, outcome.candidate, outcome.state)
        closed = ClosedRound(plan, desk, harvest, candidate)
        return _Merged(candidate, desk, harvest.deliveries, closed)

    async def _decide(self, referee: Referee, merged: _Merged) -> None:
        """Have the candidate judged, and make what comes of it the state of the run."""
        after = await referee.decide(self._checkpoint, merged.candidate)
        cost = f"{self._ledger.summary.total_glm:f}"
        self._audits.record(self._checkpoint, merged.closed, after, cost)
        states = self._keep_client_states(merged.desk, merged.deliveries)
        self._write(replace(after, client_states=states))
        merged.desk.clear()
        self._export_soon(referee)

    def _export_soon(self, referee: Referee) -> None:
        """Write model and best model beside the next round's work: after a crash they are there."""
        if self._exporting is None or self._exporting.done():
            self._exporting = asyncio.create_task(self._export(referee, self._checkpoint))

    async def _export(self, referee: Referee, checkpoint: Checkpoint) -> None:
        models = (checkpoint.model.sha256, checkpoint.best.model.sha256)
        if self._exports and models != self._exported:
            await referee.export(checkpoint, self._directory)
            self._exported = models

    def _desk(self, model: Tensors) -> RoundDesk:
        checkpoint = self._checkpoint
        states = {
            client: (file, self._store.path(file))
            for client, file in checkpoint.client_states.items()
        }
        return RoundDesk(
            RoundFiles(
                run_id=self._settings.terms.run_id,
                environment=self._settings.environment,
                learner=self._settings.learner,
                rules=self._settings.rules,
                model=checkpoint.model,
                model_path=self._store.path(checkpoint.model),
                model_specs=specs_of(model),
                client_states=states,
                inbox=self._directory.inbox,
                order_timeout_seconds=self._settings.order_timeout_seconds,
                compression=self._settings.compression,
            )
        )

    def _keep_client_states(
        self, desk: RoundDesk, deliveries: Sequence[Delivery]
    ) -> dict[int, FileRef]:
        kept = dict(self._checkpoint.client_states)
        for delivery in deliveries:
            item = delivery.update.item
            source = desk.client_state(item)
            if source is None:
                continue
            name = f"client-{item.client:03d}-{item.round + 1:05d}.safetensors"
            reference = state_reference(source, name)
            os.replace(source, self._store.path(reference))
            kept[item.client] = reference
        return kept

    # --- end -----------------------------------------------------------------------------------

    async def _finish(
        self, referee: Referee, error: DerlError | None, started_seconds: float
    ) -> RunSummary:
        checkpoint = self._checkpoint
        final = await referee.final(checkpoint) if self._is_done() else None
        if self._exporting is not None:
            await asyncio.gather(self._exporting, return_exceptions=True)
        await self._export(referee, checkpoint)
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
                wall_seconds=self._clock() - started_seconds,
                provider_glm=amount_texts(self._ledger.summary.accepted_by_provider),
            )
        )
        return RunSummary(
            outcome, checkpoint.round, checkpoint.total_steps, final, checkpoint.best, error
        )

    # --- small things --------------------------------------------------------------------------

    def _write(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._store.write(checkpoint)
        self._emit(events.CheckpointWritten(checkpoint.round, checkpoint.model.sha256))

    def _notice(self, text: str) -> None:
        self._emit(events.Notice(text))


def _outcome(error: DerlError | None, checkpoint: Checkpoint) -> str:
    if error is None:
        return "target_reached" if checkpoint.is_target_reached else "completed"
    if isinstance(error, BudgetReached):
        return "budget_reached"
    return "interrupted" if isinstance(error, Interrupted) else "failed"
