"""A benchmark of a quote spends within what was asked for and agreed to, after a crash too."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from requestor.cli import benchmarking
from requestor.cli.assembly import run_settings
from requestor.cli.benchmarking import Bench, budget_for, create_benchmark, measure, with_budget
from requestor.config import load_config, parse_config
from requestor.errors import PreflightError
from requestor.marketplace.choice.history import ProviderHistory, Who
from requestor.marketplace.choice.selection import Offered
from requestor.marketplace.golem.daemon.address import DaemonAddress
from requestor.marketplace.money.spending import Prices

CONFIG = parse_config(
    "{env: {id: CartPole-v1}, algo: {name: ppo}, golem: {mode: mock, budget_glm: 0.5}}"
)
OFFER = Offered(Who("0x1", "oak"), Prices(Decimal("0.01"), Decimal("0.36"), Decimal("0.04")))


@pytest.mark.parametrize(
    ("asked", "budget"), [("0.2", "0.2"), ("0.5", "0.5"), ("100", "0.5"), (None, "0.08")]
)
def test_a_benchmark_never_has_more_than_the_run(asked: str | None, budget: str) -> None:
    # twice 2 * (0.01 + 90 s of 0.40 GLM an hour)
    wanted = None if asked is None else Decimal(asked)
    assert budget_for(CONFIG, [OFFER] * 3, wanted) == Decimal(budget)
    if wanted is not None:  # what a person is asked about is what may be spent
        assert with_budget(CONFIG, wanted).golem.budget_glm == Decimal(budget)


@pytest.mark.parametrize("asked", [Decimal("0.02"), Decimal(100)])
def test_what_a_crash_leaves_is_paid_within_the_benchmarks_budget(
    asked: Decimal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rented: list[Decimal] = []

    async def nothing(*_: Any, **__: Any) -> None:
        pass

    async def book_of(settings: Any, *_: Any) -> SimpleNamespace:
        return SimpleNamespace(learner=replace(settings.learner, learner="native"))

    async def rent(book: Any, market: Any, terms: Any, *_: Any) -> None:
        assert terms.learner == "native"  # what the fresh model says, not what the config leaves
        rented.append(terms.budget_glm)
        raise TimeoutError

    for name in ("check_daemon", "_here"):
        monkeypatch.setattr(benchmarking, name, nothing)
    monkeypatch.setattr(benchmarking, "open_book", book_of)
    monkeypatch.setattr(benchmarking, "measure_providers", rent)
    directory = create_benchmark(CONFIG, tmp_path)
    directory.prepare()
    address = DaemonAddress.from_environment({})
    history = ProviderHistory(tmp_path / "providers.json", lambda: 0.0)
    bench = Bench(CONFIG, address, directory, history, asked, lambda _: None)
    with pytest.raises(PreflightError, match="no provider was ready"):
        asyncio.run(measure(bench, run_settings(CONFIG, directory.run_id), [OFFER]))
    assert rented == [min(asked, CONFIG.golem.budget_glm)]
    assert load_config(directory.config).golem.budget_glm == rented[0]
