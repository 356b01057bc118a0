"""A market scan as a file, to be looked at again: `derl-request offers --save` and `--from`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import msgspec

from requestor.errors import UsageError
from requestor.marketplace.offers.offer_book import (
    MAX_OFFERS,
    MAX_SCAN_BYTES,
    MarketScan,
    OfferBook,
)

FORMAT = "derl market scan 1"
MAX_FILE_BYTES = 2 * MAX_SCAN_BYTES
MAX_UNIX_SECONDS = 1e11


class SavedOffer(msgspec.Struct, frozen=True):
    """One offer as it came: who made it, under which id, with which raw properties."""

    node_id: str
    properties: dict[str, Any]
    offer_id: str = ""


class SavedScan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file."""

    format: str
    subnet: str
    taken_unix_seconds: float
    seconds: float
    is_cut: bool
    offers: list[SavedOffer]


def write_scan(path: Path, scan: MarketScan) -> None:
    """Write a scan with all raw properties; they hold nothing of ours.

    Raises:
        UsageError: the file cannot be written.
    """
    saved = SavedScan(
        format=FORMAT,
        subnet=scan.subnet,
        taken_unix_seconds=round(scan.taken_unix_seconds, 3),
        seconds=round(scan.seconds, 3),
        is_cut=scan.is_cut,
        offers=[
            *(SavedOffer(one.node_id, dict(one.properties), one.offer_id) for one in scan.offers),
            *(SavedOffer(one.node_id, dict(one.properties)) for one in scan.unusable),
        ],
    )
    # json, not msgspec: offers may hold integers beyond 64 bits
    text = json.dumps(msgspec.to_builtins(saved), indent=1, allow_nan=False)
    try:
        path.write_text(text + "\n")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}", fix="name another file"
        ) from error


def read_scan(path: Path) -> MarketScan:
    """Read a scan back; each offer is read as if it came from the market.

    Raises:
        UsageError: there is no such file, it is too large, or it is no scan.
    """
    fix = "give a file that `derl-request offers --save FILE` wrote"
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}", fix=fix) from error
    if len(raw) > MAX_FILE_BYTES:
        raise UsageError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB", fix=fix)
    try:
        saved = msgspec.convert(json.loads(raw), SavedScan)
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{path} is no market scan: {str(error)[:200]}", fix=fix) from error
    if saved.format != FORMAT:
        raise UsageError(f"{path} is no market scan of this version", fix=fix)
    return _scan_of(saved)


def _scan_of(saved: SavedScan) -> MarketScan:
    book = OfferBook()
    for offer in saved.offers[: MAX_OFFERS + 1]:
        book.add(offer.node_id, offer.offer_id, offer.properties)
    taken, seconds = saved.taken_unix_seconds, saved.seconds
    scan = book.scan(
        saved.subnet,
        taken if math.isfinite(taken) and 0 <= taken <= MAX_UNIX_SECONDS else 0.0,
        seconds if math.isfinite(seconds) and 0 <= seconds <= MAX_UNIX_SECONDS else 0.0,
    )
    return dataclasses.replace(scan, is_cut=scan.is_cut or saved.is_cut)
