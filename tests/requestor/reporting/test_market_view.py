"""The picture of a market: filters, prices, offers; on any terminal, from any stranger."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from requestor.marketplace.choice.reputation import Reputation
from requestor.marketplace.money.spending import Prices
from requestor.marketplace.offers.market import MarketOffer, UnusableOffer, read_market_offer
from requestor.marketplace.offers.offer_book import MarketScan
from requestor.marketplace.offers.offer_filters import Requirements, filters_for, screen
from requestor.reporting.market_json import market_json
from requestor.reporting.market_view import MarketView, print_market

KEY = "3c5f9d0be2a14f6e9d7a1b2c3d4e5f60"
ASKED = Requirements(
    Prices(Decimal("0.01"), Decimal("0.5"), Decimal("0.2")),
    platform="erc20-hoodi-tglm",
    subnet="public",
    memory_gib=2.0,
)


def offer(number: int, name: str, cpu_hour: float, **changes: Any) -> MarketOffer:
    address = f"0x{number:040x}"
    properties = {
        "golem.com.payment.platform.erc20-hoodi-tglm.address": address,
        "golem.com.pricing.model": "linear",
        "golem.com.pricing.model.linear.coeffs": [cpu_hour / 3600, 0.02 / 3600, 0.0],
        "golem.com.scheme": "payu",
        "golem.com.usage.vector": ["golem.usage.cpu_sec", "golem.usage.duration_sec"],
        "golem.inf.cpu.brand": "AMD Ryzen 9 5950X 16-Core Processor",
        "golem.inf.cpu.threads": 4,
        "golem.inf.mem.gib": 8,
        "golem.inf.storage.gib": 20,
        "golem.node.debug.subnet": "public",
        "golem.node.id.name": name,
        "golem.runtime.name": "vm",
        **changes,
    }
    return read_market_offer(address, properties)


MARKET = (
    offer(1, "willow", 0.1),
    offer(2, "alder", 0.12),
    offer(3, "hazel", 0.45),
    offer(4, "tiny", 0.1, **{"golem.inf.mem.gib": 0.5}),
    offer(5, "greedy", 3.0),
    offer(6, "gpu", 0.2, **{"golem.inf.gpu.d0.model": "NVIDIA A30", "golem.runtime.name": "x"}),
)


def view(offers: tuple[MarketOffer, ...] = MARKET, **changes: Any) -> MarketView:
    odd = UnusableOffer("0x" + "9" * 40, "odd", "the price model is not linear", {})
    scan = MarketScan(offers, (odd,) if offers else (), "public", 1_700_000_000.0, 2.04)
    screening = screen(offers, filters_for(ASKED))
    usual = MarketView(scan, screening, screening.kept, 1)
    return replace(usual, **changes)


class Terminal(io.TextIOWrapper):
    """A terminal of some encoding."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        """What was written."""
        raw = self.buffer
        assert isinstance(raw, io.BytesIO)
        return raw.getvalue().decode(self.encoding)


def printed(shown: MarketView, width: int = 80, encoding: str = "utf-8") -> str:
    terminal = Terminal(encoding)
    print_market(shown, Console(file=terminal, width=width, color_system=None))
    return terminal.text


def test_the_whole_picture() -> None:
    """0.12, 0.14 and 0.47 GLM an hour are left; 0.12, 0.22 and 3.02 were removed."""
    assert printed(view()) == (
        "\n"
        " 7 offers of 6 providers in subnet public · scanned for 2.0 s\n"
        "\n"
        " filter            asks for                                       removes  left\n"
        " readable          prices that can be checked (not so: the price        1     6\n"
        "                   model is not linear)\n"
        " subnet            public                                               ·     6\n"
        " runtime           vm                                                   1     5\n"
        " payment platform  erc20-hoodi-tglm                                     ·     5\n"
        " memory            ≥ 2 GiB                                              1     4\n"
        " storage           ≥ 0 GiB                                              ·     4\n"
        " threads           ≥ 1                                                  ·     4\n"
        " start price       ≤ 0.01 GLM                                           ·     4\n"
        " CPU price         ≤ 0.5 GLM per CPU hour                               1     3\n"
        " hour price        ≤ 0.2 GLM per hour                                   ·     3\n"
        "\n"
        " GLM per hour with 1 busy thread · median of those left 0.14\n"
        " 0.10 to 0.15  ████████████████████████░░░░░░░░░░░░  2 + 1 removed\n"
        "            …\n"
        " 0.20 to 0.25  ░░░░░░░░░░░░                          1 removed\n"
        "            …\n"
        " 0.45 to 0.50  ████████████                          1\n"
        "       ≥ 0.50  ░░░░░░░░░░░░                          1 removed\n"
        "\n"
        " provider  GLM/h  start  cpu/h  per h  threads  memory  storage  node\n"
        " willow     0.12      0   0.1    0.02        4   8 GiB   20 GiB  0x00000000\n"
        " alder      0.14      0   0.12   0.02        4   8 GiB   20 GiB  0x00000000\n"
        " hazel      0.47      0   0.45   0.02        4   8 GiB   20 GiB  0x00000000\n"
        " 3 offers removed; --all shows them\n"
        "\n"
    )


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_any_terminal(width: int, encoding: str) -> None:
    everything = (*view().screening.kept, *(one for one, _ in view().screening.removed))
    text = printed(view(shown=everything), width, encoding)
    assert all(len(line) <= width for line in text.splitlines())
    assert encoding == "utf-8" or text.isascii()
    assert "willow" in text
    assert "greedy" in text
    if width >= 200:
        assert "NVIDIA A30" in text
        assert "AMD Ryzen" in text
        assert "CPU price" in text.splitlines()[-2]


def test_all_with_the_filter_that_removed_each() -> None:
    removed = tuple(one for one, _ in view().screening.removed)
    text = printed(view(shown=(*view().screening.kept, *removed)), 140)
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert rows["gpu"].endswith("runtime")
    assert rows["tiny"].endswith("memory")
    assert rows["greedy"].endswith("CPU price")
    assert "removed; --all" not in text


def test_how_many_are_not_shown() -> None:
    text = printed(view(shown=view().screening.kept[:1]))
    assert " 2 more offers that fit; --limit shows more\n" in text


def test_records() -> None:
    known = {
        MARKET[0].node_id: Reputation("good", 1234, ""),
        MARKET[1].node_id: Reputation("doubtful", 3, "vanished in the middle of its work"),
    }
    text = printed(view(reputations=known), 120)
    assert "1,234 done" in text
    assert "3 done, vanished in the middle" in text


def test_a_saved_scan_tells_its_age() -> None:
    line = printed(view(age_seconds=3723.0), 100).splitlines()[1]
    assert line.endswith("1:02:03 ago")
    assert "scan of 2023-11-1" in line


def test_nothing_offered_and_nothing_left() -> None:
    text = printed(view(()))
    assert " 0 offers in subnet public" in text
    assert "filter" not in text
    none = view(MARKET[4:5])
    assert "median" not in printed(none)
    assert " 1 offer removed; --all shows them\n" in printed(replace(none, shown=()))


def test_strangers_names_do_no_harm() -> None:
    hostile = offer(7, "x\x1b[2J\u202e\n" + "y" * 500, 0.1)
    model = {"golem.inf.cpu.brand": "\x1b]0;title\x07CPU\u2066" + "z" * 500}
    other = offer(8, "", 0.1, **model)
    text = printed(view((hostile, other)), 200)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\u2066" not in text
    assert all(len(line) <= 200 for line in text.splitlines())


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    named = (*MARKET, offer(9, f"n{KEY[:30]}", 0.3))
    record = json.loads(market_json(view(named, busy_threads=2)))
    assert (record["seen"], record["kept"], record["busy_threads"]) == (8, 4, 2)
    assert record["offers"][0] | {"node_id": ""} == {
        "node_id": "",
        "wallet": f"0x{1:040x}",
        "name": "willow",
        "hour_at_use_glm": "0.22",
        "start_glm": "0.0",
        "cpu_hour_glm": "0.1",
        "hour_glm": "0.02",
        "threads": 4,
        "cores": 4,
        "memory_gib": 8.0,
        "storage_gib": 20.0,
        "runtime": "vm",
        "runtime_version": "",
        "capabilities": [],
        "platforms": ["erc20-hoodi-tglm"],
        "cpu_model": "AMD Ryzen 9 5950X 16-Core Processor",
        "gpus": [],
        "standing": "good",
        "orders_done": 0,
        "last_failure": "",
        "removed_by": None,
    }
    assert {one["name"]: one["removed"] for one in record["filters"]}["CPU price"] == 1
    assert record["unreadable"][0]["reason"] == "the price model is not linear"
    assert sum(one["kept"] for one in record["histogram"]) == 4
    monkeypatch.setenv("YAGNA_APPKEY", KEY[:30])
    assert KEY[:30] not in market_json(view(named))
