"""The loop of a run: rent, have rounds done, merge, judge, publish or roll back, write it down.

Decisions are made elsewhere, in pure code (`federation`, `scheduling`, `marketplace.spending`);
this file gives them what they need and carries out what they say. A crash at any instant costs
at most the round in flight: everything before it is in a checkpoint, and even of that round the
results that were in are kept.

Read next: `dispatcher.py`, then `provider_image/round_runner.py`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace

from provider_image.wire import (
    EnvironmentSpec,
    FileRef,
    LearnerSpec,
    ModelMetadata,
    StateRules,
    Tensors,
    decode_metadata,
    specs_of,
)
from requestor.errors import BudgetReached, DerlError, Interrupted, PreflightError, RunFailed
from requestor.evaluation.judge import Evaluation, Judge
from requestor.evaluation.local_worker import LocalWorker, LocalWorkerError
from requestor.federation.aggregation import AggregationRule, ServerOptimizer
from requestor.federation.gate import GateVerdict, NotWorseGate, OpenGate
from requestor.federation.rounds import (
    FederationSettings,
    RoundOutcome,
    RoundPlan,
    close_round,
    plan_round,
)
from requestor.federation.seeds import derive_seed, held_out_seeds
from requestor.marketplace.ledger import Ledger
from requestor.marketplace.ports import Marketplace, MarketplaceLost, ProviderPool, Terms
from requestor.training_run import events
from requestor.training_run.checkpoints import BestModel, Checkpoint, CheckpointStore
from requestor.training_run.dispatcher import Delivery, Dispatcher, DispatchOptions
from requestor.training_run.order_desk import RoundDesk, RoundFiles, state_reference
from requestor.training_run.run_directory import RunDirectory

MAX_SESSIONS = 4
"""How often a run goes back to the market after the daemon went away."""

SPENDING_SECONDS = 1.0


@dataclass(frozen=True)
class EvaluationSettings:
    """How models are judged."""

    episodes: int
    final_episodes: int
    every_rounds: int
    target_return: float | None
    deterministic: bool
    gate: NotWorseGate | OpenGate


@dataclass(frozen=True)
class RunSettings:
    """Everything that defines a run, free of files and network."""

    name: str
    federation: FederationSettings
    environment: EnvironmentSpec
    learner: LearnerSpec
    rules: StateRules
    rule: AggregationRule
    optimizer: ServerOptimizer
    evaluation: EvaluationSettings
    dispatch: DispatchOptions
    order_timeout_seconds: float
    terms: Terms


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    outcome: str
    rounds: int
    total_steps: int
    final: Evaluation | None
    best: BestModel
    error: DerlError | None


@dataclass
class _State:
    """What changes from round to round."""

    checkpoint: Checkpoint
    tensors: Tensors
    metadata: ModelMetadata
    final: Evaluation | None = None
    started_seconds: float = field(default_factory=time.monotonic)


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
    ) -> None:
        """Run `settings` in `directory`; set `stop_requested` for a clean stop."""
        self._settings = settings
        self._directory = directory
        self._marketplace = marketplace
        self._ledger = ledger
        self._emit = emit
        self._stop = stop_requested
        self._wait_for_daemon = wait_for_daemon
        self._clock = clock
        self._store = CheckpointStore(directory.checkpoints)
        fed = settings.federation
        self._held_out = held_out_seeds(fed.run_seed, "evaluation", settings.evaluation.episodes)
        self._final_seeds = held_out_seeds(
            fed.run_seed, "final evaluation", settings.evaluation.final_episodes
        )

    async def execute(self) -> RunSummary:
        """Do what is left of the run. Errors a user can meet are in the summary, not raised."""
        async with LocalWorker(self._directory.local) as worker:
            judge = Judge(
                worker,
                self._settings.environment,
                self._settings.learner,
                self._settings.rules,
            )
            state = await self._start(judge)
            error: DerlError | None = None
            try:
                await self._train(judge, state)
            except DerlError as caught:
                error = caught
            return await self._finish(judge, state, error)

    # --- beginning -----------------------------------------------------------------------------

    async def _start(self, judge: Judge) -> _State:
        checkpoint = self._store.latest()
        is_resumed = checkpoint is not None
        if checkpoint is None:
            checkpoint = await self._initialise(judge)
        bundle = self._store.load(checkpoint.model)
        state = _State(checkpoint, bundle.tensors, decode_metadata(bundle, ModelMetadata))
        state.started_seconds = self._clock()
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
                parameters=sum(
                    t.size for name, t in bundle.tensors.items() if name.startswith("policy/")
                ),
                target_return=self._settings.evaluation.target_return,
            )
        )
        return state

    async def _initialise(self, judge: Judge) -> Checkpoint:
        seed = derive_seed(self._settings.federation.run_seed, "model")
        try:
            bundle = await judge.initialise(self._settings.terms.run_id, seed)
        except LocalWorkerError as error:
            raise PreflightError(
                f"the model can't be made on this machine: {error.message}", fix=error.fix
            ) from error
        metadata = decode_metadata(bundle, ModelMetadata)
        model = self._store.save_model("model-00000.safetensors", bundle.tensors, metadata)
        result = await self._evaluate(judge, self._store.path(model), 0, "initial")
        checkpoint = Checkpoint(
            round=0,
            total_steps=0,
            model=model,
            model_returns=result.returns,
            best=BestModel(model, result.mean_return, 0),
        )
        self._write(checkpoint)
        return checkpoint

    # --- training ------------------------------------------------------------------------------

    def _is_done(self, state: _State) -> bool:
        checkpoint = state.checkpoint
        return checkpoint.is_target_reached or (
            checkpoint.round >= self._settings.federation.rounds
        )

    async def _train(self, judge: Judge, state: _State) -> None:
        for session in range(1, MAX_SESSIONS + 1):
            if self._is_done(state):
                return
            try:
                await self._session(judge, state)
                return
            except MarketplaceLost as lost:
                self._emit(events.MarketplaceWentAway(str(lost), session))
                if session == MAX_SESSIONS:
                    raise RunFailed(
                        f"the daemon was lost {MAX_SESSIONS} times: {lost}",
                        fix="look at yagna's own log; `derl-request resume` goes on from here",
                    ) from lost
                await self._reconnect()

    async def _reconnect(self) -> None:
        if self._wait_for_daemon is not None:
            await self._wait_for_daemon()

    async def _session(self, judge: Judge, state: _State) -> None:
        terms = self._settings.terms
        self._emit(events.RentingStarted(terms.providers, terms.subnet, terms.payment_network))
        async with self._marketplace.rent(terms, self._notice) as pool:
            reporter = asyncio.create_task(self._report_spending(pool))
            try:
                async with Dispatcher(
                    pool,
                    self._settings.dispatch,
                    emit=self._emit,
                    clock=self._clock,
                    stop_requested=self._stop,
                ) as dispatcher:
                    while not self._is_done(state):
                        await self._round(judge, state, dispatcher)
            finally:
                reporter.cancel()

    async def _round(self, judge: Judge, state: _State, dispatcher: Dispatcher) -> None:
        started = self._clock()
        plan = plan_round(self._settings.federation, state.checkpoint.round)
        desk = self._desk(state)
        deliveries = await dispatcher.run_round(plan, desk)
        outcome = close_round(
            plan,
            state.tensors,
            [delivery.update for delivery in deliveries],
            self._settings.rule,
            self._settings.optimizer,
        )
        total = state.checkpoint.total_steps + outcome.steps
        self._emit(
            events.RoundClosed(
                round=plan.round,
                merged_clients=outcome.merged_clients,
                steps=outcome.steps,
                total_steps=total,
                seconds=self._clock() - started,
            )
        )
        await self._judge_candidate(judge, state, plan, outcome, total)
        client_states = self._keep_client_states(state, desk, deliveries)
        state.checkpoint = replace(state.checkpoint, client_states=dict(client_states))
        self._write(state.checkpoint)
        desk.clear()

    def _desk(self, state: _State) -> RoundDesk:
        states = {
            client: (file, self._store.path(file))
            for client, file in state.checkpoint.client_states.items()
        }
        return RoundDesk(
            RoundFiles(
                run_id=self._settings.terms.run_id,
                environment=self._settings.environment,
                learner=self._settings.learner,
                rules=self._settings.rules,
                model=state.checkpoint.model,
                model_path=self._store.path(state.checkpoint.model),
                model_specs=specs_of(state.tensors),
                client_states=states,
                inbox=self._directory.inbox,
                order_timeout_seconds=self._settings.order_timeout_seconds,
            )
        )

    async def _judge_candidate(
        self, judge: Judge, state: _State, plan: RoundPlan, outcome: RoundOutcome, total: int
    ) -> None:
        """Evaluate the candidate, publish it or roll back; `state` holds what comes of it."""
        done = plan.round + 1
        parent = state.checkpoint
        candidate = self._store.save_model(
            f"model-{done:05d}.safetensors", outcome.candidate, state.metadata
        )
        if not self._is_evaluated(done):
            state.checkpoint = replace(parent, round=done, total_steps=total, model=candidate)
            state.tensors = outcome.candidate
            return
        path = self._store.path(candidate)
        result = await self._evaluate(judge, path, done, "candidate")
        verdict = self._settings.evaluation.gate(parent.model_returns, result.returns)
        if not verdict.is_published:
            self._emit(events.ModelRolledBack(plan.round, verdict.mean_difference, verdict.reason))
            state.checkpoint = replace(parent, round=done, total_steps=total)
            return
        self._publish(state, done, total, candidate=candidate, result=result, verdict=verdict)
        state.tensors = outcome.candidate
        await self._check_target(judge, state, path, result)

    def _is_evaluated(self, done: int) -> bool:
        every = self._settings.evaluation.every_rounds
        return done % every == 0 or done == self._settings.federation.rounds

    def _publish(
        self,
        state: _State,
        done: int,
        total: int,
        *,
        candidate: FileRef,
        result: Evaluation,
        verdict: GateVerdict,
    ) -> None:
        best = state.checkpoint.best
        is_best = result.mean_return >= best.mean_return
        if is_best:
            best = BestModel(candidate, result.mean_return, done)
        self._emit(events.ModelPublished(done - 1, verdict.mean_difference, is_best))
        state.checkpoint = replace(
            state.checkpoint,
            round=done,
            total_steps=total,
            model=candidate,
            model_returns=result.returns,
            best=best,
        )

    async def _check_target(
        self, judge: Judge, state: _State, path: Path, result: Evaluation
    ) -> None:
        """Stop early once the target is reached, confirmed on episodes of its own."""
        target = self._settings.evaluation.target_return
        if target is None or result.mean_return < target:
            return
        final = await self._evaluate(judge, path, state.checkpoint.round, "final")
        if final.mean_return >= target:
            state.final = final
            state.checkpoint = replace(state.checkpoint, is_target_reached=True)

    def _keep_client_states(
        self, state: _State, desk: RoundDesk, deliveries: list[Delivery]
    ) -> Mapping[int, FileRef]:
        kept = dict(state.checkpoint.client_states)
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

    async def _finish(self, judge: Judge, state: _State, error: DerlError | None) -> RunSummary:
        checkpoint = state.checkpoint
        is_over = self._is_done(state)
        if is_over and state.final is None:
            path = self._store.path(checkpoint.model)
            state.final = await self._evaluate(judge, path, checkpoint.round, "final")
        await self._export(judge, checkpoint)
        outcome = _outcome(error, checkpoint)
        self._emit(
            events.RunFinished(
                outcome=outcome,
                message=error.message if error else "",
                rounds=checkpoint.round,
                total_steps=checkpoint.total_steps,
                mean_return=state.final.mean_return if state.final else None,
                best_return=checkpoint.best.mean_return,
                cost_glm=f"{self._ledger.summary.total_glm:f}",
                wall_seconds=self._clock() - state.started_seconds,
            )
        )
        return RunSummary(
            outcome, checkpoint.round, checkpoint.total_steps, state.final, checkpoint.best, error
        )

    async def _export(self, judge: Judge, checkpoint: Checkpoint) -> None:
        seed = derive_seed(self._settings.federation.run_seed, "model")
        folder = self._directory
        await judge.export(
            self._store.path(checkpoint.model), seed, folder.model, folder.normalizer
        )
        await judge.export(
            self._store.path(checkpoint.best.model),
            seed,
            folder.best_model,
            folder.best_normalizer,
        )

    # --- small things --------------------------------------------------------------------------

    async def _evaluate(
        self, judge: Judge, model: Path, round_done: int, purpose: str
    ) -> Evaluation:
        settings = self._settings.evaluation
        seeds = self._final_seeds if purpose == "final" else self._held_out
        started = self._clock()
        result = await judge.evaluate(model, seeds, deterministic=settings.deterministic)
        self._emit(
            events.Evaluated(
                round=round_done,
                purpose=purpose,
                episodes=len(result.returns),
                mean_return=result.mean_return,
                std_return=result.std_return,
                mean_length=result.mean_length,
                seconds=self._clock() - started,
            )
        )
        return result

    def _write(self, checkpoint: Checkpoint) -> None:
        self._store.write(checkpoint)
        self._emit(events.CheckpointWritten(checkpoint.round, checkpoint.model.sha256))

    def _notice(self, text: str) -> None:
        self._emit(events.Notice(text))

    async def _report_spending(self, pool: ProviderPool) -> None:
        last: tuple[str, str] | None = None
        while True:
            spending = pool.spending
            now = (f"{spending.due_glm:f}", f"{spending.accepted_glm:f}")
            if now != last:
                self._emit(events.SpendingReported(*now, f"{spending.budget_glm:f}"))
                last = now
            await asyncio.sleep(SPENDING_SECONDS)


def _outcome(error: DerlError | None, checkpoint: Checkpoint) -> str:
    if error is None:
        return "target_reached" if checkpoint.is_target_reached else "completed"
    if isinstance(error, BudgetReached):
        return "budget_reached"
    return "interrupted" if isinstance(error, Interrupted) else "failed"
