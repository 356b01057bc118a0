"""The closing account of a run: what came out, what it cost, who worked, where the models lie.

Read next: `summary.py`, which writes it down for people.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from requestor.marketplace.money.ledger import LedgerSummary
from requestor.marketplace.money.statement import glm_per_million_steps
from requestor.quoting.record import QuoteOutcome, StoredQuote, outcome_of
from requestor.reporting.model_files import ModelFiles
from requestor.reporting.provider_view import ProviderView
from requestor.reporting.run_view import RunView
from requestor.reporting.wording import one_line, provider_label
from requestor.trust.provenance import History


@dataclass(frozen=True)
class ProviderAccount:
    """What one provider did and got; `steps` are without those of its late copies and audits.

    audits: how many items of others it did again; audit_glm: the part of its pay that they took,
    by the time of its orders.
    """

    name: str
    provider_id: str
    orders: int
    wasted_copies: int
    failures: int
    rejections: int
    steps: int
    late_steps: int
    steps_per_second: float | None
    paid_glm: Decimal
    audits: int = 0
    audit_glm: Decimal = Decimal(0)

    @property
    def glm_per_million_steps(self) -> Decimal | None:
        """What a million of its steps cost; None without any."""
        return glm_per_million_steps(self.paid_glm, self.steps)


@dataclass(frozen=True)
class Summary:
    """The closing account. Steps and seconds are over all sessions of the run.

    run_name: what the commands call the run, e.g. `ppo/CartPole-v1_1`.
    is_untrained: rounds were done, but none of them was published.
    is_cost_open: bills may still come, `cost_glm` is the least that it will be.
    owed_glm: invoices that are right and stay unpaid, because the budget does not carry them.
    untrained_return: what the model scored before training; None if that was never measured.
    glm_per_return_point: the cost of a point of mean return gained; None if none was.
    work: whose work was merged, and what is known of it; None where no records were kept.
    """

    run_id: str
    run_name: str
    name: str
    outcome: str
    message: str
    rounds_done: int
    rounds_planned: int
    sessions: int
    is_untrained: bool
    mean_return: float | None
    std_return: float | None
    episodes: int
    is_final: bool
    best_return: float | None
    best_round: int
    target_return: float | None
    total_steps: int
    wall_seconds: float
    steps_per_second: float | None
    cost_glm: Decimal
    is_cost_open: bool
    budget_glm: Decimal
    glm_per_million_steps: Decimal | None
    owed_glm: Decimal
    untrained_return: float | None
    glm_per_return_point: Decimal | None
    providers: tuple[ProviderAccount, ...]
    files: ModelFiles
    quote: QuoteOutcome | None = None
    work: History | None = None


def summarize_run(
    view: RunView,
    ledger: LedgerSummary,
    files: ModelFiles,
    run_name: str,
    quote: StoredQuote | None = None,
    work: History | None = None,
) -> Summary:
    """Return the account of a run from its events and its ledger (what was really accepted).

    Where bills are open, because the process died or the daemon was lost, the cost is at least
    what providers have reported to be due.
    """
    started, finished = view.started, view.finished
    shown = view.model_evaluation
    best = view.best_evaluation
    is_open = ledger.is_open or (started is not None and finished is None)
    cost = max(ledger.total_glm, view.due_glm) if is_open else ledger.total_glm
    return Summary(
        run_id=started.run_id if started else "",
        run_name=run_name,
        name=one_line(started.name) if started else "",
        outcome=finished.outcome if finished else "unfinished",
        message=finished.message if finished else "",
        rounds_done=view.rounds_done,
        rounds_planned=started.rounds if started else 0,
        sessions=view.sessions,
        is_untrained=view.is_untrained,
        mean_return=shown.mean_return if shown else None,
        std_return=shown.std_return if shown else None,
        episodes=shown.episodes if shown else 0,
        is_final=shown is not None and shown.purpose == "final",
        best_return=best.mean_return if best else None,
        best_round=view.best_round,
        target_return=started.target_return if started else None,
        total_steps=view.total_steps,
        wall_seconds=view.elapsed_seconds(),
        steps_per_second=view.steps_per_second(),
        cost_glm=cost,
        is_cost_open=is_open,
        budget_glm=view.budget_glm,
        glm_per_million_steps=view.glm_per_million_steps(cost),
        owed_glm=_owed_glm(ledger),
        untrained_return=view.evaluations[0].mean_return if 0 in view.evaluations else None,
        glm_per_return_point=view.glm_per_return_point(cost),
        providers=_accounts(view, ledger),
        files=files,
        quote=outcome_of(quote, view.rounds_done, cost, view.elapsed_seconds()),
        work=work,
    )


def _owed_glm(ledger: LedgerSummary) -> Decimal:
    owed = (
        max(Decimal(0), asked - ledger.accepted_glm.get(agreement, Decimal(0)))
        for agreement, asked in ledger.put_off_glm.items()
    )
    return sum(owed, Decimal(0))


def _accounts(view: RunView, ledger: LedgerSummary) -> tuple[ProviderAccount, ...]:
    providers = view.providers.values()
    accounts = [_account(view, provider, ledger) for provider in providers]
    known = {provider.id for provider in providers}
    # Agreements that ended before their provider was ready for work: paid, but never a lease.
    others: dict[str, Decimal] = {}
    for agreement, amount in ledger.accepted_glm.items():
        if ledger.provider_ids.get(agreement, "") not in known:
            name = provider_label(ledger.providers.get(agreement, ""), agreement, is_unique=True)
            others[name] = others.get(name, Decimal(0)) + amount
    accounts += [
        ProviderAccount(name, "", 0, 0, 0, 0, 0, 0, None, amount) for name, amount in others.items()
    ]
    return tuple(accounts)


def _account(view: RunView, provider: ProviderView, ledger: LedgerSummary) -> ProviderAccount:
    paid = sum(
        (
            amount
            for agreement, amount in ledger.accepted_glm.items()
            if ledger.provider_ids.get(agreement) == provider.id
        ),
        Decimal(0),
    )
    return ProviderAccount(
        name=view.label(provider),
        provider_id=provider.id,
        orders=provider.orders_done,
        wasted_copies=provider.wasted_copies,
        failures=provider.failures,
        rejections=provider.rejections,
        steps=provider.useful_steps,
        late_steps=provider.late_steps,
        steps_per_second=provider.steps_per_second,
        paid_glm=paid,
        audits=provider.audits,
        audit_glm=paid * Decimal(provider.audit_share),
    )
