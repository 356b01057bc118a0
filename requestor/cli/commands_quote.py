"""`quote`: what a run will cost and how long it will take, before anything is spent on it."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path

import rich_click as click
from rich.console import Console

from requestor.cli.consent import confirm_spending
from requestor.cli.images import with_image
from requestor.cli.options import as_json_option, runs_option
from requestor.config import RunConfig, load_config
from requestor.errors import UsageError

MAX_SCAN_SECONDS = 300.0


class _Glm(click.ParamType[Decimal]):
    name = "GLM"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        """Read a positive amount."""
        try:
            amount = Decimal(str(value))
        except InvalidOperation:
            self.fail(f"{value!r} is no amount of GLM", param, ctx)
        if not amount.is_finite() or amount <= 0:
            self.fail(f"{value!r} is not above 0", param, ctx)
        return amount


@click.command()
@click.argument("config", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--measure/--no-measure",
    "measures",
    default=False,
    help="Rent one or two providers for 20 seconds to measure their speed. This costs.",
)
@click.option(
    "--measure-budget",
    type=_Glm(),
    help="The most that --measure may spend; default: what 90 seconds cost, twice.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Take the offers from a scan that `derl-request offers --save` wrote.",
)
@click.option(
    "--save",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the quote to a file, for `derl-request run --quote FILE`.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.5, MAX_SCAN_SECONDS),
    default=5.0,
    show_default=True,
    help="Scan the market for so long at most.",
)
@as_json_option
@click.option("--yes", is_flag=True, help="Spend real money on --measure without asking.")
@runs_option
def quote(
    config: Path,
    overrides: tuple[str, ...],
    *,
    measures: bool,
    measure_budget: Decimal | None,
    source: Path | None,
    save: Path | None,
    seconds: float,
    as_json: bool,
    yes: bool,
    runs_dir: Path,
) -> None:
    """Say what a run of CONFIG will cost and how long it will take, and what that rests on.

    Offers are the market's own. Speeds are those of earlier runs; where there are none, of this
    machine, or with --measure of providers rented for 20 seconds. Without --measure nothing is
    rented and nothing is paid.

    \b
    derl-request quote configs/cartpole.yaml
    derl-request quote my.yaml golem.mode=yagna --measure --save quote.json
    derl-request run my.yaml golem.mode=yagna --quote quote.json
    """
    loaded, _ = with_image(load_config(config, overrides))
    if measures and source is not None:
        raise UsageError(
            "--measure rents from the market, --from looks at an old one", fix="leave one out"
        )
    if measure_budget is not None and not measures:
        raise UsageError("--measure-budget is for --measure", fix="give both, or neither")
    if measures:
        _confirm_benchmark(loaded, measure_budget, yes=yes)
    from requestor.cli.quoting import Request, make
    from requestor.quoting.record import write_quote
    from requestor.reporting.quote_view import QuoteView, print_quote, quote_json

    def notice(text: str) -> None:
        click.echo(text, err=True)

    made = asyncio.run(
        make(Request(loaded, runs_dir, seconds, measures, source, measure_budget, notice))
    )
    if save is not None:
        write_quote(save, made.stored)
    view = QuoteView(
        name=loaded.name,
        quote=made.stored,
        clients=loaded.federation.clients,
        local_steps=loaded.federation.local_steps,
        budget_glm=loaded.golem.budget_glm,
        offers_seen=made.offers.seen,
        offers_left=len(made.offers.kept),
        removed=made.offers.removed,
        measured=made.measured,
        measured_glm=made.measured_glm,
    )
    if as_json:
        click.echo(quote_json(view))
        return
    print_quote(view, Console())
    if save is not None:
        click.echo(f" saved: {save}", file=sys.stdout)


def _confirm_benchmark(config: RunConfig, budget: Decimal | None, *, yes: bool) -> None:
    """Ask before a benchmark spends real money: up to its own budget, not the run's."""
    from requestor.cli.benchmarking import with_budget

    asked = config if budget is None else with_budget(config, budget)
    confirm_spending(asked, yes=yes)
