"""Verifies a run that is over: its chain of records, drawn items, and with them whole rounds.

Everything is done again from what the records name: the model a round began with, the config, the
seeds. Nothing that a provider delivered is needed for it.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from provider_image.wire import (
    MAX_FILE_BYTES,
    Bundle,
    ModelMetadata,
    WireError,
    decode_metadata,
    order_digest,
    read_bundle,
    settled,
    sha256_file,
    specs_of,
    tensors_digest,
)
from requestor.evaluation.judge import Judge
from requestor.evaluation.local_worker import LocalWorker, LocalWorkerError
from requestor.federation.rounds import ClientUpdate, WorkItem, plan_round
from requestor.training_run.auditing.canaries import open_canaries
from requestor.training_run.auditing.provenance_log import (
    ProvenanceFolder,
    digests_of,
    reference,
)
from requestor.training_run.auditing.remerging import Outcome, Remerging
from requestor.training_run.auditing.replaying import LocalReplays, Replayed, Replaying, Work
from requestor.training_run.orders.deliveries import Delivery, Source
from requestor.training_run.orders.order_desk import RoundDesk
from requestor.training_run.orders.round_files import RoundFiles
from requestor.training_run.run_directory import RunDirectory
from requestor.training_run.settings import RunSettings
from requestor.trust.disputes import Replay
from requestor.trust.fingerprints import fingerprint_without_canary
from requestor.trust.provenance import History, ProvenanceError, RoundRecord, WorkRecord, summarise


@dataclass(frozen=True)
class Check:
    """What came of doing something again: one item of a round, or (`client` None) its merge."""

    round: int
    client: int | None
    provider: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True)
class AuditReport:
    """What an audit of a run found; `chain_faults` are told in words."""

    history: History
    chain_faults: tuple[str, ...] = ()
    checks: tuple[Check, ...] = field(default=())

    @property
    def is_sound(self) -> bool:
        """True if nothing differs."""
        return not self.chain_faults and all(one.outcome != "differs" for one in self.checks)


class RunAudit:
    """Does rounds of one run again: items by `replays`, merges by `merges`.

    had_equal_bits: tells whether an honest machine of a provider made the same bits as this one;
        where not, what differs may have been done all the same.
    """

    def __init__(
        self,
        settings: RunSettings,
        directory: RunDirectory,
        replays: Replaying,
        merges: Remerging,
        had_equal_bits: Callable[[WorkRecord], Awaitable[bool]],
    ) -> None:
        """Audit the run of `settings` in `directory`; its learner's name is settled."""
        self._settings = settings
        self._directory = directory
        self._folder = ProvenanceFolder(directory.provenance)
        self._replays = replays
        self._merges = merges
        self._had_equal_bits = had_equal_bits

    def chain(self, final_sha256: str | None) -> AuditReport:
        """Check the records and every file that they name; nothing is done again yet.

        final_sha256: the digest of the run's last model.
        """
        try:
            history = summarise(self._folder.read())
        except ProvenanceError as error:
            return AuditReport(History(), (str(error),))
        faults = []
        if history.rounds and history.run_id != self._settings.terms.run_id:
            faults.append(f"the records are of another run, {history.run_id}")
        if history.rounds and (missing := history.rounds[0].round):
            faults.append(
                f"the records begin with round {missing + 1}: of what was before, nothing is known"
            )
        for record in history.rounds:
            faults += self._file_faults(record)
        faults += self._model_faults(history.rounds)
        last = history.rounds[-1].model_sha256 if history.rounds else None
        if last is not None and final_sha256 is not None and last != final_sha256:
            faults.append(
                f"the run's model is {final_sha256[:12]}, its last record names {last[:12]}"
            )
        return AuditReport(history, tuple(faults))

    def _file_faults(self, record: RoundRecord) -> Iterable[str]:
        for sha256 in sorted(set(digests_of(record))):
            path = self._folder.file(sha256)
            if not path.exists():
                continue  # not kept: its items cannot be compared, and say so
            try:
                found = sha256_file(path, MAX_FILE_BYTES)
            except (OSError, WireError) as error:
                yield f"round {record.round + 1}: {error}"
                continue
            if found != sha256:
                yield f"round {record.round + 1}: the file {sha256[:12]} was changed"

    def _model_faults(self, rounds: Sequence[RoundRecord]) -> Iterable[str]:
        """Hold the model that each round ended with against its candidate, where it was kept."""
        is_whole = bool(rounds) and not rounds[0].round
        known = {record.base_sha256 for record in rounds[:1]}
        for record in rounds:
            is_back = record.decision == "rolled_back"
            digest = None if is_back else self._digest_of(record.model_sha256)
            if is_back and is_whole and record.model_sha256 not in known:
                yield f"round {record.round + 1} went back to a model that none ended with"
            if digest not in (None, record.candidate_sha256):
                yield f"round {record.round + 1} ended with another model than its candidate"
            known.add(record.model_sha256)

    def _digest_of(self, sha256: str) -> str | None:
        """Return the digest of a kept model's tensors; None where it is gone or damaged."""
        try:
            return tensors_digest(self._model(sha256).tensors)
        except (OSError, WireError):
            return None

    async def items(self, drawn: Sequence[tuple[RoundRecord, WorkRecord]]) -> list[Check]:
        """Do items again."""
        return [(await self._item(record, work))[0] for record, work in drawn]

    async def round(self, record: RoundRecord) -> list[Check]:
        """Do all items of a round again, and merge them again."""
        checks, deliveries = [], []
        for work in record.work:
            check, delivery = await self._item(record, work)
            checks.append(check)
            if delivery is not None:
                deliveries.append(delivery)
        if len(deliveries) < len(record.work):
            reason = "not all of its items came out as they were merged"
            return [*checks, Check(record.round, None, "", "incomparable", reason)]
        outcome, reason = await self._merges.merge(record, deliveries)
        return [*checks, Check(record.round, None, "", outcome, reason)]

    async def _item(self, record: RoundRecord, work: WorkRecord) -> tuple[Check, Delivery | None]:
        """Do an item again; return it, too, if it is verified."""

        def check(outcome: Outcome, reason: str = "") -> Check:
            provider = work.provider_name or work.provider_id or "not known"
            return Check(record.round, work.client, provider, outcome, reason)

        try:
            item, ordered = self._work(record, work)
        except OSError:
            return check("incomparable", "what the round began with was not kept"), None
        except WireError as error:
            return check("incomparable", f"what the round began with is damaged: {error}"), None
        if order_digest(ordered.order) != work.order_sha256:
            reason = "with this config its order is another one"
            return check("incomparable", reason), None
        try:
            replayed = await self._replays.replay(ordered, Replay())
            found = replayed.account.result_sha256
            if found != work.result_sha256:
                if not await self._had_equal_bits(work):
                    return check("incomparable", "another machine may make other bits of it"), None
                replayed = await self._replays.replay(ordered, Replay(), is_fresh=True)
        except (LocalWorkerError, WireError) as error:
            return check("incomparable", f"this machine can't do it: {error}"), None
        if replayed.account.result_sha256 == work.result_sha256:
            return check("verified"), _delivery(item, work, replayed)
        if replayed.account.result_sha256 != found:
            return check("incomparable", "this machine makes something else of it each time"), None
        return check("differs", "the work was done again, and comes out another"), None

    def _work(self, record: RoundRecord, work: WorkRecord) -> tuple[WorkItem, Work]:
        bundle = self._model(record.base_sha256)
        learner = settled(self._settings.learner, decode_metadata(bundle, ModelMetadata))
        states = {}
        if work.state_sha256:
            state = reference(self._folder, work.state_sha256, "state")
            states[work.client] = (state, self._folder.file(work.state_sha256))
        files = RoundFiles(
            run_id=self._settings.terms.run_id,
            environment=self._settings.environment,
            learner=learner,
            rules=self._settings.rules,
            model=reference(self._folder, record.base_sha256, "model"),
            model_path=self._folder.file(record.base_sha256),
            model_specs=specs_of(bundle.tensors),
            client_states=states,
            inbox=self._directory.inbox,
            order_timeout_seconds=self._settings.order_timeout_seconds,
            compression=self._settings.compression,
        )
        plan = plan_round(self._settings.federation, record.round)
        item = next((one for one in plan.items if one.client == work.client), None)
        if item is None:
            raise WireError(f"the config has no client {work.client}")
        desk = RoundDesk(files)
        job = desk.job(item, "audit", 0)
        return item, Work(desk.order(item), job.inputs, files.model_specs)

    def _model(self, sha256: str) -> Bundle:
        return read_bundle(self._folder.file(sha256), max_bytes=MAX_FILE_BYTES, sha256=sha256)


@asynccontextmanager
async def open_audit(
    settings: RunSettings, directory: RunDirectory, folder: Path
) -> AsyncIterator[RunAudit]:
    """Open the audit of a run whose learner's name is settled, by this machine's jailed workers.

    They work in folders below `folder`, and none is started before it has something to do.
    """
    plays_alike = fingerprint_without_canary(settings.learner, settings.environment) is not None
    async with (
        AsyncExitStack() as stack,
        LocalReplays(folder, settings.learner) as replays,
        LocalWorker(folder / "judge", settings.learner, waits_for_work=True) as worker,
    ):
        judge = Judge(worker, settings.environment, settings.learner, settings.rules)
        merges = Remerging(
            settings,
            ProvenanceFolder(directory.provenance),
            judge,
            sha256_file(directory.config, MAX_FILE_BYTES),
            plays_alike,
        )
        had_equal_bits: Callable[[WorkRecord], Awaitable[bool]] = _always if plays_alike else _never
        if not plays_alike:
            with suppress(OSError, WireError):  # none were done, or they are damaged
                canaries = open_canaries(settings, directory, replays, lambda _: None)
                stack.callback(canaries.known.close)
                had_equal_bits = canaries.had_equal_bits
        yield RunAudit(settings, directory, replays, merges, had_equal_bits)


async def _always(_: WorkRecord) -> bool:
    return True


async def _never(_: WorkRecord) -> bool:
    return False


def drawn_items(
    history: History, count: int, seed: int | None
) -> list[tuple[RoundRecord, WorkRecord]]:
    """Return up to `count` items of a run, each as likely as any other; None for a new seed."""
    everything = [(record, work) for record in history.rounds for work in record.work]
    rng = random.Random(seed) if seed is not None else random.SystemRandom()
    chosen = rng.sample(range(len(everything)), min(count, len(everything)))
    return [everything[index] for index in sorted(chosen)]


def _delivery(item: WorkItem, work: WorkRecord, replayed: Replayed) -> Delivery:
    source = Source(
        lease="",
        provider_id=work.provider_id,
        provider_name=work.provider_name,
        agreement_id=work.agreement_id,
        wallet=work.wallet,
        seconds=0.0,
    )
    return Delivery(
        ClientUpdate(item, dict(replayed.tensors), source.voice),
        dict(replayed.metrics),
        order_sha256=work.order_sha256,
        result_sha256=replayed.account.result_sha256,
        links=replayed.account.links,
        source=source,
    )
