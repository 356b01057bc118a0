"""What the account holds, and whether it is enough. Pure but for `ask_balance`.

yagna tells balances over its bridge to the service bus only, where it asks the chain: that costs
no gas, but a second or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from requestor.marketplace.diagnosis import Answer, CheckFailed
from requestor.marketplace.golem.daemon.answers import decimal_field
from requestor.marketplace.golem.daemon.api import DaemonApi, DaemonError
from requestor.marketplace.untrusted import printable
from requestor.networks import REAL_MONEY_NETWORKS

STATUS_SERVICE = "local/payment/GetStatus"
DRIVERS_SERVICE = "local/payment/GetDrivers"


@dataclass(frozen=True)
class Balance:
    """An account on its chain: tokens, what allocations hold of them, and gas (None: not told)."""

    glm: Decimal
    reserved_glm: Decimal
    token: str
    gas: Decimal | None
    gas_token: str

    @property
    def free_glm(self) -> Decimal:
        """What new allocations can be made of."""
        return self.glm - self.reserved_glm


@dataclass(frozen=True)
class Account:
    """Whose money it is; `is_private`: play money of a daemon of our own."""

    driver: str
    network: str
    node_id: str
    is_private: bool = False


async def ask_balance(api: DaemonApi, node_id: str, driver: str, network: str) -> Balance:
    """Return the balance of `node_id`.

    Raises:
        DaemonError: the daemon does not tell, or could not ask the chain.
    """
    body = {
        "address": node_id,
        "driver": driver,
        "network": network,
        "token": None,
        "after_timestamp": 0,
    }
    answer = await api.ask_bus(STATUS_SERVICE, body)
    if not isinstance(answer, dict):
        raise DaemonError("GetStatus", 200, "the answer is not an object")
    gas = answer.get("gas")
    return Balance(
        glm=decimal_field(answer, "amount"),
        reserved_glm=decimal_field(answer, "reserved"),
        token=printable(answer.get("token"), 10) or "GLM",
        gas=decimal_field(gas, "balance") if isinstance(gas, dict) else None,
        gas_token=printable(gas.get("currency_short_name"), 10) if isinstance(gas, dict) else "",
    )


async def knows_network(api: DaemonApi, driver: str, network: str) -> bool | None:
    """Say whether the daemon's payment driver knows a network; None if it does not tell."""
    try:
        drivers = await api.ask_bus(DRIVERS_SERVICE, {"ignore_legacy_networks": False})
    except DaemonError as error:
        if error.is_unreachable:
            raise
        return None
    details = drivers.get(driver) if isinstance(drivers, dict) else None
    networks = details.get("networks") if isinstance(details, dict) else None
    return isinstance(networks, dict) and network in networks


def judge_funds(balance: Balance, budget_glm: Decimal, account: Account) -> Answer:
    """Say whether the account can pay a run of `budget_glm`, by the daemon's own arithmetic.

    Raises:
        CheckFailed: it cannot, or could not pay for the transactions.
    """
    facts = {
        "glm": f"{balance.glm:f}",
        "reserved_glm": f"{balance.reserved_glm:f}",
        "gas": None if balance.gas is None else f"{balance.gas:f}",
        "token": balance.token,
        "gas_token": balance.gas_token,
    }
    fund = _funding(account, balance.token)
    held = f", {_short(balance.reserved_glm)} of it in allocations" if balance.reserved_glm else ""
    holds = f"{_short(balance.glm)} {balance.token}{held}"
    if balance.free_glm < budget_glm:
        release = "`yagna payment release-allocations`, or " if budget_glm <= balance.glm else ""
        raise CheckFailed(
            f"the account holds {holds}; the budget is {_short(budget_glm)}",
            f"{release}{fund}, or lower golem.budget_glm",
            facts,
        )
    if balance.gas is not None and balance.gas <= 0:
        gas_token = balance.gas_token or "gas"
        raise CheckFailed(f"{holds}, but no {gas_token}: nothing could be paid out", fund, facts)
    gas_text = "" if balance.gas is None else f" and {_short(balance.gas)} {balance.gas_token}"
    return Answer(f"{holds}{gas_text}; the budget is {_short(budget_glm)}", facts=facts)


def _funding(account: Account, token: str) -> str:
    if account.is_private:
        return "raise requestor.funds_glm in the fleet file"
    if account.network in REAL_MONEY_NETWORKS:
        return f"send {token} and gas on {account.network} to {account.node_id}"
    return f"`yagna payment fund --driver {account.driver} --network {account.network}`"


def _short(amount: Decimal) -> str:
    return f"{amount:.6f}".rstrip("0").rstrip(".") if amount else "0"
