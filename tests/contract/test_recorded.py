"""The records and the list of differences, whether or not a real daemon can be had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from requestor.mock_golem.conformance import Conversation, compare, load_listed, table
from requestor.mock_golem.conformance.listed import TABLE_FILE

HERE = Path(__file__).parent
RECORDS = sorted((HERE / "recorded").glob("*.json"))


def played() -> set[str]:
    """Return the names of the scenarios that the suite plays."""
    sources = [path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py")]
    return {name for source in sources for name in re.findall(r'play\("(\w+)"\)', source)}


def test_every_scenario_has_its_record_and_no_other_is_left() -> None:
    assert {path.stem for path in RECORDS} == played()


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_record_reads_back_as_it_is(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    conversation = Conversation.from_json(document)
    assert conversation.as_json() == document
    assert compare(conversation, conversation) == []
    assert conversation.answers


def test_the_table_is_made_of_the_list() -> None:
    """`scripts/contract --table` writes it anew."""
    assert TABLE_FILE.read_text(encoding="utf-8") == table(load_listed())


def test_listed_differences_are_of_scenarios_that_are_played() -> None:
    named = {scenario for one in load_listed() for scenario in one.scenarios}
    assert named <= played()
