"""Is the daemon fit for a run? Each failure with the command that mends it.

`derl-request doctor` shows all of these checks; a run requires those marked `before_run`, and
stops at the first that fails (`preflight.py`).
"""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from requestor.marketplace.diagnosis import (
    Answer,
    Check,
    CheckFailed,
    NotApplicable,
)
from requestor.marketplace.golem.daemon.answers import decimal_field
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.funds import (
    Account,
    ask_balance,
    judge_funds,
    knows_network,
)
from requestor.marketplace.golem.daemon.gftp_probe import GftpError, gftp_version
from requestor.marketplace.untrusted import printable
from requestor.networks import REAL_MONEY_NETWORKS, RETIRED_NETWORKS, payment_platform

KNOWN_VERSIONS = ("0.17.6",)
"""Versions of yagna that DeRL was tried with."""

UNHEEDED_VARIABLES = {
    "YAGNA_PAYMENT_NETWORK": "payment_network",
    "YAGNA_PAYMENT_DRIVER": "payment_driver",
    "YAGNA_SUBNET": "subnet",
}
"""What yapapi would take from the environment and a config decides here."""

_SOURCE_LINE = re.compile(r",? */[^ ]+\.rs:[0-9:]+")
"""Where in its own source an error arose is of no use to anybody here."""

CLOCK_WARNING_SECONDS = 5.0
CLOCK_FAILURE_SECONDS = 60.0


@dataclass(frozen=True)
class DaemonNeeds:
    """What is wanted of the daemon. `is_private`: it is one of our own, for this command only."""

    driver: str
    network: str
    subnet: str = "public"
    budget_glm: Decimal = Decimal(0)
    is_private: bool = False

    @property
    def platform(self) -> str:
        """Return the payment platform, e.g. `erc20-hoodi-tglm`."""
        return payment_platform(self.driver, self.network)


class DaemonChecks:
    """The checks of one daemon; what an early one learns serves the later ones."""

    def __init__(
        self,
        address: DaemonAddress,
        api: DaemonApi,
        needs: DaemonNeeds,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Look at the daemon at `address` through `api`; nothing is asked before a check runs."""
        self._address = address
        self._api = api
        self._needs = needs
        self._environment = environment
        self._clock = clock
        self.version = "unknown"
        self.identity = ""

    def checks(self) -> list[Check]:
        """Return the checks in the order in which they are made."""
        return [
            Check("gftp", self._gftp, before_run=True),
            Check("network", self._network, before_run=True),
            Check("key", self._key, before_run=True),
            Check("daemon", self._reach, before_run=True),
            Check("version", self._version, needs=("daemon",)),
            Check("clock", self._clocks, needs=("daemon",)),
            Check("identity", self._identify, needs=("key", "daemon"), before_run=True),
            Check("account", self._account, needs=("identity", "network"), before_run=True),
            Check("funds", self._funds, needs=("identity", "network")),
            Check("allocations", self._allocations, needs=("identity",)),
        ]

    async def _gftp(self) -> Answer:
        try:
            version = await gftp_version()
        except GftpError as error:
            raise CheckFailed(
                f"{error}, and files travel to providers through it",
                "install yagna with its gftp (https://docs.golem.network) and put it on PATH, or "
                "use golem.mode=mock, which brings its own",
            ) from error
        return Answer(version, facts={"version": version})

    async def _network(self) -> Answer:
        needs = self._needs
        facts = {"network": needs.network, "platform": needs.platform, "subnet": needs.subnet}
        if needs.network in RETIRED_NETWORKS and not needs.is_private:
            raise CheckFailed(
                f"the test network {needs.network} is retired: nobody offers or pays on it",
                "golem.payment_network=hoodi (test GLM), or polygon (real money)",
                facts,
            )
        kind = "test GLM"
        if needs.network in REAL_MONEY_NETWORKS:
            kind = "REAL MONEY"
        if needs.is_private:
            kind = "play money of a private daemon"
        says = f"{needs.network}, {needs.platform}, subnet {needs.subnet}: {kind}"
        unheeded = self._unheeded()
        if unheeded:
            return Answer(
                f"{says}; {' and '.join(unheeded)} in the environment: not heeded, the config "
                "decides",
                is_warning=True,
                fix=f"`unset {' '.join(unheeded)}`, or say so in the config: "
                f"{self._said(unheeded)}",
                facts=facts,
            )
        return Answer(says, facts=facts)

    def _unheeded(self) -> list[str]:
        """Return the variables that say otherwise than the config, and are not heeded."""
        if self._needs.is_private:
            return []
        decided = {
            "YAGNA_PAYMENT_NETWORK": self._needs.network,
            "YAGNA_PAYMENT_DRIVER": self._needs.driver,
            "YAGNA_SUBNET": self._needs.subnet,
        }
        return [
            name
            for name, value in decided.items()
            if self._environment.get(name, "").lower() not in ("", value.lower())
        ]

    def _said(self, names: Sequence[str]) -> str:
        """Return the overrides that would say what the variables say."""
        values = {name: printable(self._environment.get(name, "")) for name in names}
        return " ".join(f"golem.{UNHEEDED_VARIABLES[name]}={values[name]}" for name in names)

    async def _key(self) -> Answer:
        if not self._address.app_key:
            raise CheckFailed(
                "YAGNA_APPKEY is not set",
                "`yagna app-key create requestor`, then `export YAGNA_APPKEY=<the key>`",
            )
        return Answer("the daemon's own" if self._needs.is_private else "in YAGNA_APPKEY")

    async def _reach(self) -> Answer:
        url = self._address.url
        try:
            self.version = await self._api.version()
        except DaemonError as error:
            raise CheckFailed(
                f"no yagna daemon answers at {url} ({error.message})",
                "start one with `yagna service run`, set YAGNA_API_URL, or use golem.mode=mock",
            ) from error
        if _travels_in_clear(url):
            return Answer(
                f"at {url}; the key travels there unencrypted",
                is_warning=True,
                fix="run yagna on this machine, or reach it through an SSH tunnel",
                facts={"url": url},
            )
        return Answer(f"at {url}", facts={"url": url})

    async def _version(self) -> Answer:
        facts = {"version": self.version, "known": list(KNOWN_VERSIONS)}
        if self.version in KNOWN_VERSIONS:
            return Answer(f"yagna {self.version}", facts=facts)
        return Answer(
            f"yagna {self.version}; DeRL was tried with {', '.join(KNOWN_VERSIONS)}",
            is_warning=True,
            fix=f"if something behaves oddly: `pip install golem-node=={KNOWN_VERSIONS[-1]}`",
            facts=facts,
        )

    async def _clocks(self) -> Answer:
        before = self._clock()
        try:
            date = await self._api.date()
        except DaemonError as error:
            raise CheckFailed(f"the daemon went away: {error}", "look at yagna's log") from error
        if date is None:
            raise NotApplicable("the daemon does not say what time it is")
        # its answer is of some instant of the call, cut to the second
        now = datetime.fromtimestamp((before + self._clock()) / 2, UTC)
        off = abs((now - date).total_seconds() - 0.5)
        facts = {"seconds": round(off, 1)}
        if off > CLOCK_FAILURE_SECONDS:
            raise CheckFailed(
                f"this machine's clock and the daemon's are {off:.0f} s apart: offers and "
                "agreements expire by them",
                "set both by NTP, e.g. `timedatectl set-ntp true`",
                facts,
            )
        if off > CLOCK_WARNING_SECONDS:
            says = f"{off:.0f} s apart from the daemon's"
            return Answer(says, is_warning=True, fix="`timedatectl set-ntp true`", facts=facts)
        return Answer("as the daemon's", facts=facts)

    async def _identify(self) -> Answer:
        try:
            self.identity = await self._api.identity()
        except DaemonError as error:
            if error.status in (401, 403):
                raise CheckFailed(
                    f"the daemon refuses the key in YAGNA_APPKEY ({error.message})",
                    "`yagna app-key list` shows the keys it knows; export one as YAGNA_APPKEY",
                ) from error
            raise CheckFailed(
                f"the daemon does not say who we are: {error}", "look at yagna's log"
            ) from error
        return Answer(f"node {self.identity}", facts={"node_id": self.identity})

    async def _account(self) -> Answer:
        needs = self._needs
        init = f"`yagna payment init --sender --driver {needs.driver} --network {needs.network}`"
        try:
            accounts = await self._api.accounts()
            platforms = sorted({str(account.get("platform")) for account in accounts})
            facts = {"platforms": platforms}
            if needs.platform in platforms:
                return Answer(f"for {needs.platform}", facts=facts)
            if await knows_network(self._api, needs.driver, needs.network):
                # yagna opens it with the first allocation; until then it lists none
                return Answer(f"for {needs.platform}: opened when first used", facts=facts)
        except DaemonError as error:
            raise CheckFailed(
                f"the daemon does not list its payment accounts: {error}", "look at yagna's log"
            ) from error
        known = ", ".join(platforms) or "none"
        raise CheckFailed(
            f"the daemon has no account for {needs.platform} (it has: {known})",
            f"{init}, or set golem.payment_network",
            facts,
        )

    async def _funds(self) -> Answer:
        needs = self._needs
        look = f"`yagna payment status --network {needs.network}`"
        try:
            balance = await ask_balance(self._api, self.identity, needs.driver, needs.network)
        except DaemonError as error:
            if error.status == 404:
                raise NotApplicable(
                    f"this daemon does not tell balances over REST; {look} does"
                ) from error
            raise CheckFailed(
                "the daemon can't read the account from the chain: "
                + _SOURCE_LINE.sub("", error.message),
                f"look with {look}; is there a network, and is the chain's RPC endpoint up "
                "(`yagna payment driver rpc`)?",
            ) from error
        account = Account(needs.driver, needs.network, self.identity, needs.is_private)
        return judge_funds(balance, needs.budget_glm, account)

    async def _allocations(self) -> Answer:
        try:
            rows = await self._api.allocations()
            held = [(row, decimal_field(row, "remainingAmount")) for row in rows]
        except DaemonError as error:
            raise CheckFailed(
                f"the daemon does not list its allocations: {error}", "look at yagna's log"
            ) from error
        if not held:
            return Answer("none: nothing is held back", facts={"allocations": []})
        total = sum((amount for _, amount in held), Decimal(0))
        count = f"{len(held)} allocation" + ("s" if len(held) > 1 else "")
        return Answer(
            f"{count} hold {total:.6g} GLM back",
            is_warning=True,
            fix="if they are of dead runs, `derl-request sweep`; `yagna payment "
            "release-allocations` releases all, those of programs at work too",
            facts={"allocations": [_allocation_facts(row) for row, _ in held]},
        )


def _travels_in_clear(url: str) -> bool:
    """Say whether what is sent there crosses a network unencrypted."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return True


def _allocation_facts(row: Mapping[str, Any]) -> dict[str, str]:
    names = ("allocationId", "paymentPlatform", "totalAmount", "remainingAmount", "timestamp")
    return {name: printable(str(row.get(name, "")), 80) for name in names}
