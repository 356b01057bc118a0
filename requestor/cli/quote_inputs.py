"""From a config, records and logs of past runs to a quote: no market, no network."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from requestor.cli.renting import preferences, work_kind
from requestor.config import RunConfig, load_config
from requestor.errors import DerlError
from requestor.marketplace.choice.history import Record
from requestor.marketplace.choice.selection import Offered
from requestor.marketplace.money.ledger import read_ledger
from requestor.quoting.assumptions import assumptions
from requestor.quoting.benchmark import Here
from requestor.quoting.habits import (
    Habit,
    Judging,
    guessed_overheads,
    habit_of,
    usual_overheads,
)
from requestor.quoting.knowledge import Knowledge, rank
from requestor.quoting.quote import Quote, Setting, make_quote
from requestor.quoting.record import StoredQuote, stored
from requestor.quoting.simulation import Overheads, Plan
from requestor.training_run.events import event_from_record
from requestor.training_run.json_lines import read_json_lines
from requestor.training_run.run_directory import RunDirectory, list_runs

MAX_HABITS = 5
MAX_LOGS_READ = 20


def knowledge_for(
    config: RunConfig, records: Mapping[str, Record], now_seconds: float
) -> Knowledge:
    """Return what is known of providers for the work of `config`."""
    return Knowledge(
        kind=work_kind(config),
        local_steps=config.federation.local_steps,
        records=records,
        now_seconds=now_seconds,
        is_near=config.golem.mode != "yagna",
    )


def quote_from(
    config: RunConfig,
    offers: Iterable[Offered],
    knowledge: Knowledge,
    overheads: Overheads | None,
) -> tuple[Quote, StoredQuote] | None:
    """Return a quote by what is known, None if too little is."""
    ranked = ranked_offers(config, offers, knowledge)
    providers = [assumed for one in ranked if (assumed := knowledge.assume(one)) is not None]
    if not providers or overheads is None:
        return None
    fed = config.federation
    plan = Plan(
        rounds=fed.rounds,
        clients=fed.clients,
        providers=config.golem.providers,
        judged_every=config.evaluation.every_rounds,
        speculate=fed.speculate,
    )
    cores = len(os.sched_getaffinity(0)) if knowledge.is_near else None
    quote = make_quote(Setting(plan, overheads, cores), providers)
    rented = providers[: config.golem.providers]
    words = assumptions(
        plan, overheads, rented, shared_cores=cores, target=config.evaluation.target_return
    )
    return quote, stored(quote, knowledge.kind, time.time(), words)


def ranked_offers(
    config: RunConfig, offers: Iterable[Offered], knowledge: Knowledge
) -> list[Offered]:
    """Return offers in the order in which a run under `config` would take them."""
    chosen = preferences(config)
    ranked = rank(offers, knowledge, chosen.rule, chosen.work)
    if chosen.max_per_wallet is None:
        return ranked
    counts: dict[str, int] = {}
    kept = []
    for one in ranked:
        counts[one.who.voice] = counts.get(one.who.voice, 0) + 1
        if counts[one.who.voice] <= chosen.max_per_wallet:
            kept.append(one)
    return kept


# --- overheads ---------------------------------------------------------------------------------


def judging_of(config: RunConfig) -> Judging:
    """Return how models are judged under `config`."""
    evaluation = config.evaluation
    return Judging(evaluation.episodes, evaluation.final_episodes, evaluation.every_rounds)


def overheads_for(runs: Path, config: RunConfig, here: Here | None) -> Overheads | None:
    """Return what a run spends besides orders: as past runs did, else as this machine suggests."""
    judging = judging_of(config)
    usual = usual_overheads(past_habits(runs, config), judging)
    if usual is not None:
        return usual
    return None if here is None else guessed_overheads(here.untrained_episode_seconds, judging)


def past_habits(runs: Path, config: RunConfig) -> list[Habit]:
    """Return the habits of the last runs here of the same kind of work and mode."""
    kind, mode = work_kind(config), config.golem.mode
    newest = sorted(list_runs(runs), key=lambda run: -run.identity.stat().st_mtime)
    habits: list[Habit] = []
    for directory in newest[:MAX_LOGS_READ]:
        if len(habits) == MAX_HABITS:
            break
        try:
            other = load_config(directory.config)
            if other.golem.mode == mode and work_kind(other) == kind:
                habit = _habit(directory)
                habits += [habit] if habit is not None else []
        except (DerlError, OSError, ValueError):
            continue
    return habits


def _habit(directory: RunDirectory) -> Habit | None:
    log = [
        (float(record["unix_seconds"]), event)
        for record in read_json_lines(directory.events)
        if (event := event_from_record(record)) is not None
    ]
    ledger = read_ledger(directory.ledger)
    if not log or not ledger.approvals or not ledger.endings:
        return None
    agreed = min(entry.approved_unix_seconds for entry in ledger.approvals.values())
    return habit_of(log, agreed, max(ledger.endings.values()))
