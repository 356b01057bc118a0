"""`doctor` and `offers`: looking before renting. Neither allocates, rents or pays anything."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import rich_click as click
from rich.console import Console

from requestor.cli.images import NO_IMAGE
from requestor.cli.options import as_json_option, runs_option
from requestor.config import RunConfig, load_config, parse_config
from requestor.errors import PreflightError, UsageError
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.offers.market import MarketOffer
from requestor.marketplace.offers.offer_book import MarketScan
from requestor.marketplace.offers.offer_filters import Screening

DEFAULTS = """
env: {id: CartPole-v1}
algo: {name: ppo}
golem: {budget_glm: 1, image: "NONE"}
""".replace("NONE", NO_IMAGE)
"""What is looked for where no config is given; the image stands for none."""

MAX_SCAN_SECONDS = 300.0

_config = click.argument("config", required=False)
_overrides = click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")


@click.command()
@_config
@_overrides
@as_json_option
@runs_option
def doctor(
    config: str | None, overrides: tuple[str, ...], *, as_json: bool, runs_dir: Path
) -> None:
    """Look whether all that CONFIG needs is there: machine, daemon, key, funds, image, offers.

    Every failure comes with the command that mends it. Without CONFIG DeRL's defaults are looked
    at (golem.mode=mock); `derl-request doctor golem.mode=yagna` looks at your own daemon. Nothing
    is rented and nothing is paid.
    """
    from requestor.cli.doctor import Patient, diagnose
    from requestor.marketplace.diagnosis import Finding, has_failed
    from requestor.reporting.diagnosis_view import (
        diagnosis_json,
        failures_text,
        print_finding,
        print_heading,
        print_verdict,
    )

    loaded, has_config = _load(config, overrides)
    history = ProviderHistory(runs_dir / "providers.json", time.time)
    patient = Patient(loaded, runs_dir, history, has_config)
    console = Console()

    def tell(finding: Finding) -> None:
        if not as_json:
            print_finding(finding, console)

    if not as_json:
        subject = config if has_config and config is not None else "DeRL's defaults"
        print_heading(subject, loaded.golem.mode, console)
    findings = asyncio.run(diagnose(patient, tell))
    if as_json:
        click.echo(diagnosis_json(findings, loaded.golem.mode))
    else:
        print_verdict(findings, console)
    if has_failed(findings):
        if as_json:
            click.echo(failures_text(findings), err=True)
        sys.exit(PreflightError.default_exit_code)


@click.command()
@_config
@_overrides
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, MAX_SCAN_SECONDS),
    default=10.0,
    show_default=True,
    help="Scan for so long at most; less when no more offers come.",
)
@click.option(
    "--sort",
    type=click.Choice(["price", "start", "threads", "memory", "storage", "gpu", "name", "record"]),
    default="price",
    show_default=True,
)
@click.option("--limit", type=click.IntRange(0), default=20, show_default=True, help="0: all.")
@click.option("--all", "show_all", is_flag=True, help="Show offers that a filter removes, too.")
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), help="Write the scan to a file."
)
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Look at a saved scan in place of the market.",
)
@as_json_option
@runs_option
def offers(
    config: str | None,
    overrides: tuple[str, ...],
    *,
    seconds: float,
    sort: str,
    limit: int,
    show_all: bool,
    save: Path | None,
    source: Path | None,
    as_json: bool,
    runs_dir: Path,
) -> None:
    """Scan the market: who offers what for how much, and which of it CONFIG's filters remove.

    \b
    derl-request offers configs/cartpole.yaml golem.mode=yagna golem.max_price.cpu_hour_glm=0.1
    derl-request offers --save scan.json; derl-request offers --from scan.json --sort memory
    """
    from requestor.cli.market_needs import assess
    from requestor.marketplace.offers.saved_scan import read_scan, write_scan
    from requestor.reporting.market_json import market_json
    from requestor.reporting.market_view import MarketView, print_market

    loaded, _ = _load(config, overrides)
    if source is not None and save is not None:
        raise UsageError("--save and --from don't go together", fix="copy the file instead")
    scan = read_scan(source) if source is not None else asyncio.run(_scan(loaded, seconds))
    if save is not None:
        write_scan(save, scan)
    history = ProviderHistory(runs_dir / "providers.json", time.time)
    assessment = assess(scan.offers, loaded.golem, history)
    known, screening = assessment.known, assessment.screening
    shown = _sorted(screening, sort, loaded, known, show_all=show_all)
    age = max(0.0, time.time() - scan.taken_unix_seconds) if source is not None else None
    view = MarketView(scan, screening, shown[: limit or None], loaded.golem.threads, known, age)
    if as_json:
        click.echo(market_json(view))
        return
    print_market(view, Console())
    if save is not None:
        click.echo(f" saved: {save}")
    if not scan.seen:
        raise PreflightError(
            f"no offers in subnet {loaded.golem.subnet}",
            fix="`derl-request doctor` with the same arguments tells what may be the reason",
        )


def _load(config: str | None, overrides: Sequence[str]) -> tuple[RunConfig, bool]:
    """Return the config and whether one was given; its place may be taken by an override."""
    if config is None:
        return parse_config(DEFAULTS, overrides, source="defaults"), False
    if "=" in config and not Path(config).exists():
        return parse_config(DEFAULTS, (config, *overrides), source="defaults"), False
    return load_config(Path(config), overrides), True


async def _scan(config: RunConfig, seconds: float) -> MarketScan:
    from requestor.cli.daemons import open_daemon
    from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
    from requestor.marketplace.golem.daemon.market_scan import ScanTerms, scan_market

    async with open_daemon(config.golem) as address, DaemonApi(address) as api:
        try:
            return await scan_market(api, ScanTerms(config.golem.subnet), seconds)
        except DaemonError as error:
            raise PreflightError(
                f"the market can't be looked at: {error} @ {address.url}",
                fix="`derl-request doctor` with the same arguments tells what is wrong",
            ) from error


def _sorted(
    screening: Screening,
    sort: str,
    config: RunConfig,
    known: Mapping[str, Reputation],
    *,
    show_all: bool,
) -> list[MarketOffer]:
    """Return the offers to show, best first; those that were removed come last."""

    def price(offer: MarketOffer) -> Decimal:
        return offer.hourly_glm(config.golem.threads)

    keys: dict[str, Callable[[MarketOffer], Any]] = {
        "price": price,
        "start": lambda offer: offer.prices.start_glm,
        "threads": lambda offer: -offer.threads,
        "memory": lambda offer: -offer.memory_gib,
        "storage": lambda offer: -offer.storage_gib,
        "gpu": lambda offer: -max((gpu.memory_gib * gpu.quantity for gpu in offer.gpus), default=0),
        "name": lambda offer: offer.name.lower(),
        "record": lambda offer: _worth(known[offer.node_id]),
    }

    def key(offer: MarketOffer) -> Any:
        return (keys[sort](offer), price(offer), offer.name, offer.node_id)

    found = sorted(screening.kept, key=key)
    if show_all:
        found += sorted((offer for offer, _ in screening.removed), key=key)
    return found


def _worth(reputation: Reputation) -> tuple[bool, int]:
    return reputation.standing != "good", -reputation.orders
