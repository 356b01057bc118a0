"""Real money is spent only where the config names a network of it and somebody says yes."""

from __future__ import annotations

import sys
from decimal import Decimal

import rich_click as click

from requestor.config import RunConfig
from requestor.errors import ConfigError, PreflightError, UsageError
from requestor.networks import REAL_MONEY_NETWORKS


def is_real_money(config: RunConfig) -> bool:
    """Say whether a run under `config` pays with real money.

    Private daemons (modes mock and testnet) reach no chain, whatever their network is called.
    """
    golem = config.golem
    return golem.mode == "yagna" and golem.payment_network in REAL_MONEY_NETWORKS


def confirm_spending(config: RunConfig, *, yes: bool, spent_glm: Decimal = Decimal(0)) -> None:
    """Ask before real money is involved; `spent_glm` is what the run has cost before.

    `yes` (`--yes`) stands for the answer, never for the config: neither a default nor the
    environment nor a flag can choose a network of real money.

    Raises:
        ConfigError: the network was not written down in the config or an override.
        PreflightError: nobody can be asked, and `yes` is not given.
        UsageError: the answer is another than the network's name.
    """
    if not is_real_money(config):
        return
    golem = config.golem
    if "payment_network" not in golem.model_fields_set:
        raise ConfigError(
            f"{golem.payment_network} is real money, and the config does not name it",
            fix=f"write golem.payment_network: {golem.payment_network} into it, or hoodi to test",
        )
    before = f" ({spent_glm:f} of it before)" if spent_glm else ""
    what = f"up to {golem.budget_glm:f} GLM{before} of real money on {golem.payment_network}"
    if yes:
        return
    if not sys.stdin.isatty():
        raise PreflightError(f"this run may spend {what}", fix="confirm with --yes")
    answer = click.prompt(
        f"This may spend {what}. Type {golem.payment_network} to go on",
        default="",
        show_default=False,
    )
    if answer.strip() != golem.payment_network:
        raise UsageError("not confirmed, nothing was spent")
