"""Readers of what daemons, registries, markets and workers answer."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from requestor.config.documents import read_document
from requestor.errors import ConfigError, UsageError
from requestor.evaluation.worker_socket import OrderRefused, WorkerGone
from requestor.evaluation.worker_socket import _problem as worker_problem
from requestor.marketplace.golem.daemon.answers import DaemonError, decimal_field, read_timestamp
from requestor.marketplace.golem.daemon.registry import RegistryError
from requestor.marketplace.golem.daemon.registry import _read as read_registry
from requestor.marketplace.golem.daemon.words import MAX_MESSAGE_LENGTH, message_of
from requestor.marketplace.golem.renting.worker_service import claimed_digests
from requestor.marketplace.money.bills import Parties, find_fault, payee_of, read_bill
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import MarketOffer, distinct_providers
from requestor.marketplace.offers.offer_book import OfferBook
from requestor.marketplace.offers.offer_filters import Requirements, filters_for, screen
from requestor.marketplace.offers.offer_terms import read_expiry
from requestor.marketplace.offers.price_histogram import price_histogram
from requestor.marketplace.offers.saved_scan import read_scan, write_scan
from requestor.marketplace.ports import LeaseLost
from requestor.mock_golem.constraints import ConstraintError, flatten, matches, parse
from requestor.mock_golem.images.package import package_of
from tests.fuzz.dice import Dice
from tests.fuzz.target import DEEP, Target

NODE = "0x" + "a" * 40
PLATFORM = "erc20-hoodi-tglm"
OFFER: dict[str, Any] = {
    "golem.com.pricing.model": "linear",
    "golem.com.scheme": "payu",
    "golem.com.pricing.model.linear.coeffs": [0.001, 0.002, 0.1],
    "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
    f"golem.com.payment.platform.{PLATFORM}.address": NODE,
    "golem.inf.cpu.threads": 4,
    "golem.inf.cpu.cores": 2,
    "golem.inf.mem.gib": 8.0,
    "golem.inf.storage.gib": 20,
    "golem.inf.cpu.brand": "Brand",
    "golem.inf.gpu.d0.model": "Card",
    "golem.inf.gpu.d0.memory.total.gib": 24,
    "golem.inf.gpu.d0.quantity": 2,
    "golem.node.id.name": "provider",
    "golem.node.debug.subnet": "public",
    "golem.runtime.name": "vm",
    "golem.runtime.version": "0.3.0",
    "golem.runtime.capabilities": ["vpn", "gpu"],
    "golem.srv.comp.expiration": 1_800_000_000_000,
}
NEEDS = Requirements(
    ceilings=Prices(Decimal(1), Decimal(1), Decimal(1)),
    capabilities=("vpn",),
    platform=PLATFORM,
    subnet="public",
    memory_gib=1.0,
    storage_gib=1.0,
    allow=("provider",),
    wants_gpu=True,
    gpu_memory_gib=1.0,
    gpu_models=("card",),
)
BILL: dict[str, Any] = {
    "invoiceId": "i",
    "debitNoteId": "d",
    "agreementId": "a",
    "activityId": "c",
    "amount": "0.5",
    "totalAmountDue": "0.5",
    "issuerId": NODE,
    "payerAddr": NODE,
    "payeeAddr": NODE,
    "paymentPlatform": PLATFORM,
    "paymentDueDate": "2026-11-20T00:00:00Z",
    "timestamp": "2026-11-20T00:00:00.123Z",
}


def read_offers(data: bytes, folder: Path) -> None:
    """Read offers into a book, screen them, save the scan and read it back."""
    dice = Dice(data)
    book = OfferBook()
    for _ in range(1 + dice.below(3)):
        properties = dice.spoilt(OFFER, tuple(OFFER)) if dice.below(8) else dice.json(tuple(OFFER))
        node = NODE if dice.below(8) else dice.text()
        book.add(node, dice.text(), properties)
    scan = book.scan("public", 1.0, 1.0)
    screening = screen(scan.offers, filters_for(NEEDS))
    for offer in (*screening.kept, *(offer for offer, _ in screening.removed)):
        _show(offer)
    distinct_providers(scan.offers)
    prices = [offer.hourly_glm(2) for offer in scan.offers]
    if prices:
        price_histogram(prices)
    write_scan(folder / "scan", scan)
    if read_scan(folder / "scan").seen > scan.seen:
        raise AssertionError("a scan that was saved has more offers")


def _show(offer: MarketOffer) -> None:
    offer.paid_on(PLATFORM).is_named(["someone"])
    read_expiry(offer.properties)
    shown = [offer.name, offer.runtime, offer.subnet, offer.cpu_model, *map(str, offer.gpus)]
    if not all(text.isprintable() for text in (*shown, *offer.capabilities, offer.offer_id)):
        raise AssertionError("text that is not fit for a terminal")


def read_saved_scan(data: bytes, folder: Path) -> None:
    """Read a file as a saved market scan."""
    (folder / "scan").write_bytes(data)
    for offer in read_scan(folder / "scan").offers:
        _show(offer)


def read_bills(data: bytes, folder: Path) -> None:
    """Read a row of the payment API as a bill, as the HTTP library would hand it over."""
    dice = Dice(data)
    row = json.loads(json.dumps(dice.spoilt(BILL, tuple(BILL))))
    if not isinstance(row, dict):
        return
    for kind in ("invoice", "debit note"):
        bill = read_bill(kind, row)
        fault = find_fault(bill, Parties(NODE, NODE, NODE, PLATFORM))
        if fault is None and not bill.asked_glm.is_finite():
            raise AssertionError("a bill over no amount has no fault")
        if fault is not None and not fault.isprintable():
            raise AssertionError("a fault that is not fit for a terminal")
    payee_of(row, PLATFORM)
    read_expiry(row)
    refused = 0
    for read in (read_timestamp, lambda row: decimal_field(row, "amount")):
        try:
            read(row)
        except DaemonError:
            refused += 1
    if refused:
        raise DaemonError("answer", 200, "no bill")


def read_answers(data: bytes, folder: Path) -> None:
    """Read a daemon's words, a registry's answer and a worker's as the text that they are."""
    if len(message_of(data.decode(errors="replace"))) > MAX_MESSAGE_LENGTH:
        raise AssertionError("a daemon's words are too long")
    refused = 0
    for read in (read_registry, worker_problem):
        try:
            read(data)
        except (RegistryError, ValueError, OrderRefused, WorkerGone):
            refused += 1
    if refused == 2:
        raise RegistryError("no answer")


def read_constraints(data: bytes, folder: Path) -> None:
    """Parse a demand's constraints and hold an offer against them."""
    found = parse(data.decode(errors="replace"))
    matches(found, flatten(OFFER))


def read_demand(data: bytes, folder: Path) -> None:
    """Find the image that a demand names."""
    dice = Dice(data)
    names = ("golem.srv.comp.task_package", "golem.srv.comp.payload")
    texts = (*names, "hash:sha3:" + "a" * 56 + ":http://x", "eyJ9", "urls", "hash", "payload")
    demand = {name: dice.json(texts) for name in names}
    package_of(flatten({**demand, **dice.spoilt(OFFER)}))


def read_config(data: bytes, folder: Path) -> None:
    """Read a file as a config, as YAML and as TOML."""
    refused = 0
    for name in ("config.yaml", "config.toml"):
        (folder / name).write_bytes(data)
        try:
            read_document(folder / name)
        except ConfigError:
            refused += 1
    if refused == 2:
        raise ConfigError("no config")


def read_report(data: bytes, folder: Path) -> None:
    """Read what a worker printed on a provider's machine."""
    claimed_digests([SimpleNamespace(stdout=None), SimpleNamespace(stdout=data.decode("latin-1"))])


TARGETS = (
    Target("offers", read_offers, (UsageError,), max_bytes=2048),
    Target("saved-scan", read_saved_scan, (UsageError,), lambda: [saved_scan_seed(), *DEEP]),
    Target("bills", read_bills, (DaemonError,), max_bytes=512),
    Target(
        "answers",
        read_answers,
        (RegistryError,),
        lambda: [
            json.dumps({"sha3": "a" * 56, "https": "https://x/y", "size": 5}).encode(),
            b'{"message": "no"}',
            b'{"order_sha256": "a", "files": {}}\n',
            b'{"error": "x"}\n',
            *DEEP,
        ],
    ),
    Target(
        "constraints",
        read_constraints,
        (ConstraintError,),
        lambda: [b"(&(golem.runtime.name=vm)(golem.inf.mem.gib>=1)(!(a=*b))(|(c=1)(d<=2)))"],
        max_bytes=512,
    ),
    Target(
        "worker-report",
        read_report,
        (LeaseLost,),
        lambda: [json.dumps({"files": {"update": "0" * 64}}).encode(), *DEEP],
    ),
    Target("demand", read_demand, (), max_bytes=512),
    Target("config", read_config, (ConfigError,), lambda: [b"env:\n  id: CartPole-v1\n", b"a = 1"]),
)


def saved_scan_seed() -> bytes:
    """A saved scan of one offer."""
    scan = {
        "format": "derl market scan 1",
        "subnet": "public",
        "taken_unix_seconds": 1.0,
        "seconds": 1.0,
        "is_cut": False,
        "offers": [{"node_id": NODE, "properties": OFFER, "offer_id": "o"}],
    }
    return json.dumps(scan).encode()
