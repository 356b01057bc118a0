"""All checks of `derl-request doctor`: machine, daemon, image, market, leftovers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from requestor.cli.daemons import open_daemon
from requestor.cli.images import NO_IMAGE, registry_url, with_image
from requestor.cli.leftovers import runs_left_open
from requestor.cli.machine_checks import machine_checks
from requestor.cli.market_needs import assess
from requestor.config import RunConfig
from requestor.errors import ConfigError, PreflightError
from requestor.marketplace.choice.history import ProviderHistory
from requestor.marketplace.diagnosis import (
    Answer,
    Check,
    CheckFailed,
    Finding,
    NotApplicable,
    examine_all,
)
from requestor.marketplace.golem.daemon.api import DaemonAddress, DaemonApi, DaemonError
from requestor.marketplace.golem.daemon.checks import DaemonChecks, DaemonNeeds
from requestor.marketplace.golem.daemon.market_scan import ScanTerms, scan_market
from requestor.marketplace.golem.daemon.registry import ImageReference, check_image
from requestor.marketplace.offers.market import distinct_providers

SCAN_SECONDS = 10.0
_OF_A_DAEMON = ("gftp", "network", "key", "version", "clock", "identity", "account", "funds")


@dataclass(frozen=True)
class Patient:
    """What is looked at: a config (or the defaults), and the runs folder."""

    config: RunConfig
    runs: Path
    history: ProviderHistory
    has_config: bool = True

    @property
    def is_private(self) -> bool:
        """Say whether the daemon is one of our own."""
        return self.config.golem.mode != "yagna"


async def diagnose(patient: Patient, tell: Callable[[Finding], None]) -> Sequence[Finding]:
    """Make all checks; `tell` each finding as it comes. Nothing is rented or paid."""
    golem = patient.config.golem
    checks = machine_checks(patient.runs, golem.providers)
    async with AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(open_daemon(golem))
        except PreflightError as error:
            return await examine_all([*checks, *_without_daemon(error)], tell)
        api = await stack.enter_async_context(DaemonApi(address))
        needs = DaemonNeeds(
            golem.payment_driver,
            golem.payment_network,
            golem.subnet,
            golem.budget_glm,
            patient.is_private,
        )
        checks += DaemonChecks(address, api, needs).checks()
        checks += [
            Check("image", lambda: _image(patient, address)),
            Check("offers", lambda: _offers(patient, api), needs=("identity",)),
            Check("leftovers", lambda: _leftovers(patient, api), needs=("identity",)),
        ]
        return await examine_all(checks, tell)


def _without_daemon(error: PreflightError) -> list[Check]:
    """Return the checks that are left if no daemon can be had at all."""

    async def fail() -> Answer:
        raise CheckFailed(error.message, error.fix or "look at its log")

    checks = [Check("daemon", fail)]
    for name in (*_OF_A_DAEMON, "allocations", "image", "offers", "leftovers"):
        checks.append(Check(name, fail, needs=("daemon",)))
    return checks


async def _image(patient: Patient, address: DaemonAddress) -> Answer:
    golem = patient.config.golem
    if golem.image is None or (golem.image == NO_IMAGE and not patient.has_config):
        if patient.is_private:
            raise NotApplicable(f"none needed: mode {golem.mode} runs this machine's own worker")
        raise NotApplicable("no config given, so no image is named")
    try:
        config, locked = with_image(patient.config)
    except ConfigError as error:
        raise CheckFailed(error.message, error.fix or "correct golem.image") from error
    where = registry_url(golem, address)
    image = config.golem.image or golem.image
    if locked is None:
        return await check_image(ImageReference(image, golem.image_url, where))
    answer = await check_image(ImageReference(image, golem.image_url, where, locked.size_bytes))
    facts = {**answer.facts, "variant": locked.variant, "locked_bytes": locked.size_bytes}
    at = golem.image_url or where
    says = (
        f"{golem.image}: variant {locked.variant}, hash {locked.sha3[:12]}, "
        f"{locked.size_bytes / 2**20:,.0f} MiB; as locked at {at}"
    )
    if answer.facts.get("size_bytes") is None:
        says += ", which tells no size"
    return replace(answer, says=says, facts=facts)


async def _offers(patient: Patient, api: DaemonApi) -> Answer:
    golem = patient.config.golem
    try:
        scan = await scan_market(api, ScanTerms(golem.subnet), SCAN_SECONDS)
    except DaemonError as error:
        raise CheckFailed(
            f"the market can't be looked at: {error}", "look at yagna's log"
        ) from error
    screening = assess(scan.offers, golem, patient.history).screening
    kept = distinct_providers(screening.kept)
    removed = [f"{one.removed} by {one.name}" for one in screening.counts if one.removed]
    removed += [f"{len(scan.unusable)} unreadable"] if scan.unusable else []
    facts = {"seen": scan.seen, "kept": len(screening.kept), "providers": kept}
    says = f"{len(screening.kept)} of {scan.seen} offers fit"
    says += f" ({', '.join(removed)} removed)" if removed else ""
    fix = "`derl-request offers CONFIG` shows what removes how many; loosen that"
    if not scan.seen:
        raise CheckFailed(
            f"no offers in subnet {golem.subnet} within {scan.seconds:.0f} s",
            "wait: offers take a minute or two to reach a daemon that has just started; or set "
            "golem.subnet",
            facts,
        )
    if not kept:
        raise CheckFailed(says, fix, facts)
    if kept < golem.providers:
        says += f", by {kept} of the {golem.providers} providers wanted"
        return Answer(says, is_warning=True, fix=f"{fix}, or lower golem.providers", facts=facts)
    return Answer(says, facts=facts)


async def _leftovers(patient: Patient, api: DaemonApi) -> Answer:
    if patient.is_private:
        raise NotApplicable("a private daemon goes with its run; `derl-request resume` settles it")
    names = runs_left_open(patient.runs)
    try:
        agreements = len(await api.approved_agreements())
    except DaemonError as error:
        raise CheckFailed(f"agreements can't be listed: {error}", "look at yagna's log") from error
    facts = {"runs": names, "agreements": agreements}
    if names:
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return Answer(
            f"runs whose process died without settling: {shown}",
            is_warning=True,
            fix="`derl-request sweep` ends and pays what they hold; `derl-request resume "
            f"{names[0]}` goes on",
            facts=facts,
        )
    if agreements:
        return Answer(
            f"{agreements} agreements are in force, of other programs or of runs elsewhere",
            is_warning=True,
            fix="if nothing of yours is at work: `derl-request sweep --runs-dir DIR` ends those of "
            "other run folders; the rest end when they expire",
            facts=facts,
        )
    return Answer("none", facts=facts)
