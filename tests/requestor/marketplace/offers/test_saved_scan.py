"""Scans are bounded as they are taken, and a file of one is as suspicious as the market."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.errors import UsageError
from requestor.marketplace.offers import offer_book
from requestor.marketplace.offers.offer_book import MAX_OFFER_BYTES, MarketScan, OfferBook
from requestor.marketplace.offers.saved_scan import read_scan, write_scan

Properties = Callable[..., dict[str, Any]]
NODE = "0x" + "1" * 40


def node(number: int) -> str:
    return f"0x{number:040x}"


def scan_of(book: OfferBook) -> MarketScan:
    return book.scan("public", 1_700_000_000.25, 2.5)


def test_offers_are_kept_once(properties: Properties) -> None:
    book = OfferBook()
    for offer_id in ("R-1", "R-2"):
        book.add(NODE, offer_id, properties())
    book.add(node(2), "R-3", properties())
    book.add(NODE, "R-4", properties(golem__runtime__name="wasmtime"))
    scan = scan_of(book)
    assert [(one.node_id[-1], one.runtime) for one in scan.offers] == [
        ("1", "vm"),
        ("2", "vm"),
        ("1", "wasmtime"),
    ]
    assert scan.offers[0].offer_id == "R-1"
    assert (scan.seen, scan.is_cut) == (3, False)


def test_what_cannot_be_read_is_told(properties: Properties) -> None:
    book = OfferBook()
    book.add(NODE, "", properties(**{"golem.com.pricing.model": "auction"}))
    book.add("nobody\x1b[2J", "", properties())
    book.add(node(3), "", {"huge": "x" * MAX_OFFER_BYTES})
    book.add(node(4), "", ["not", "a", "map"])
    reasons = [(one.name, one.reason) for one in scan_of(book).unusable]
    assert reasons == [
        ("willow", "the price model is not linear"),
        ("willow", "the node id is malformed"),
        ("unnamed", "the offer is too large"),
        ("unnamed", "the price model is not linear"),
    ]
    assert all(one.node_id.isprintable() for one in scan_of(book).unusable)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN"])
def test_a_number_that_is_none_spoils_no_scan(
    properties: Properties, tmp_path: Path, number: str
) -> None:
    book = OfferBook()
    book.add(NODE, "", properties(**{"golem.inf.mem.gib": json.loads(number)}))
    book.add(node(2), "", properties())
    scan = scan_of(book)
    assert [one.reason for one in scan.unusable] == [
        "the offer holds a number that is none, or is too deep"
    ]
    write_scan(tmp_path / "scan.json", scan)
    assert [one.node_id for one in read_scan(tmp_path / "scan.json").offers] == [node(2)]


def test_a_flood_is_cut_off(properties: Properties, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(offer_book, "MAX_OFFERS", 10)
    book = OfferBook()
    for number in range(1, 30):
        book.add(node(number), "", properties())
    assert len(scan_of(book).offers) == 10
    assert scan_of(book).is_cut
    monkeypatch.setattr(offer_book, "MAX_SCAN_BYTES", 5000)
    small = OfferBook()
    for number in range(1, 30):
        small.add(node(number), "", properties())
    assert 1 <= len(scan_of(small).offers) < 10
    assert scan_of(small).is_cut


def test_there_and_back(properties: Properties, tmp_path: Path) -> None:
    book = OfferBook()
    book.add(NODE, "R-1", properties(golem__inf__mem__gib=10**30))
    book.add(node(2), "R-2", properties(**{"golem.com.scheme": "what"}))
    scan = scan_of(book)
    write_scan(tmp_path / "scan.json", scan)
    assert read_scan(tmp_path / "scan.json") == scan


def good_file(properties: Properties) -> dict[str, Any]:
    return {
        "format": "derl market scan 1",
        "subnet": "public",
        "taken_unix_seconds": 1e9,
        "seconds": 2.0,
        "is_cut": False,
        "offers": [{"node_id": NODE, "offer_id": "R-1", "properties": properties()}],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "derl market scan 2"},
        {"format": 1},
        {"offers": {}},
        {"offers": [{"node_id": 1, "properties": {}}]},
        {"offers": [{"node_id": NODE, "properties": []}]},
        {"offers": [{"node_id": NODE}]},
        {"seconds": "long"},
        {"more": 1},
    ],
)
def test_other_files_are_refused(
    properties: Properties, tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / "scan.json"
    path.write_text(json.dumps({**good_file(properties), **changes}))
    with pytest.raises(UsageError, match=r"scan\.json is no market scan"):
        read_scan(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"null", b'{"format": 1e999}']
)
def test_garbage_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="no market scan"):
        read_scan(path)


def test_files_that_are_not_there_or_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_scan(tmp_path / "none.json")
    monkeypatch.setattr("requestor.marketplace.offers.saved_scan.MAX_FILE_BYTES", 100)
    (tmp_path / "big.json").write_bytes(b" " * 101)
    with pytest.raises(UsageError, match="larger than"):
        read_scan(tmp_path / "big.json")
    with pytest.raises(UsageError, match="cannot be written"):
        write_scan(tmp_path / "no" / "folder.json", MarketScan(()))


def test_times_out_of_all_bounds(properties: Properties, tmp_path: Path) -> None:
    path = tmp_path / "scan.json"
    strange = {"taken_unix_seconds": -5.0, "seconds": 1e300}
    path.write_text(json.dumps({**good_file(properties), **strange}))
    scan = read_scan(path)
    assert (scan.taken_unix_seconds, scan.seconds) == (0.0, 0.0)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=6,
)


@given(
    st.sampled_from(["format", "subnet", "taken_unix_seconds", "seconds", "is_cut", "offers"]), JSON
)
def test_a_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    path = tmp_path_factory.mktemp("scan") / "scan.json"
    document = {
        "format": "derl market scan 1",
        "subnet": "public",
        "taken_unix_seconds": 1.0,
        "seconds": 2.0,
        "is_cut": False,
        "offers": [{"node_id": NODE, "properties": {"golem.com.scheme": "payu"}}],
        key: value,
    }
    path.write_text(json.dumps(document))
    try:
        scan = read_scan(path)
    except UsageError:
        return
    assert scan.seen <= 1
