"""The differences that are known, each with its reason, and the table made of them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from requestor.mock_golem.conformance.differences import Difference

LIST_FILE = Path(__file__).with_name("differences.yaml")
TABLE_FILE = Path(__file__).parents[1] / "CONFORMANCE.md"
_TITLE = """# Where mock-golem differs from yagna 0.17.6

Made from `conformance/differences.yaml`; do not edit. The contract suite (`scripts/contract`) plays
the same scenarios on both daemons and compares the calls in their order and the shapes of all
requests and answers: types, keys, statuses, content types, the words of states and errors. What is
not in this table is the same in all of them. The suite's yagna is the daemon of both parties; what
yagna answers with a daemon per party is in `tests/requestor/mock_golem/recorded_answers.jsonl`, and
the mock is held to that too.

Not compared, because it differs from run to run on yagna itself: ids, times and amounts; how often
a poll is repeated and how calls about different things interleave; refusals by a provider that is
still winding up its last agreement, and counters of an offer that it has just replaced; whether the
poll that waits when an exe-unit vanishes ends with 408 or with 500, and the state shown after that;
which state of a starting activity is seen.
"""


class ListError(ValueError):
    """The list of differences cannot be used; the message says why."""


class ListedDifference(BaseModel):
    """A known difference: where it shows, in which scenarios, and why it is left."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    place: str = Field(min_length=1)
    mock: str = Field(min_length=1)
    yagna: str = Field(min_length=1)
    scenarios: tuple[str, ...] = Field(min_length=1)
    reason: str = Field(min_length=10)

    @property
    def difference(self) -> Difference:
        """The difference itself."""
        return Difference(self.place, self.mock, self.yagna)


def load_listed(path: Path = LIST_FILE) -> tuple[ListedDifference, ...]:
    """Read the list.

    Raises:
        ListError: it cannot be read, is not of the list's form, or names a difference twice.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        listed = tuple(ListedDifference.model_validate(entry) for entry in entries)
    except (OSError, ValueError, TypeError, yaml.YAMLError, ValidationError) as error:
        raise ListError(f"{path}: {error}") from error
    seen: set[tuple[str, Difference]] = set()
    for one in listed:
        for scenario in one.scenarios:
            if (scenario, one.difference) in seen:
                raise ListError(f"{path}: {one.place} in {scenario} is listed twice")
            seen.add((scenario, one.difference))
    return listed


def unexplained(
    scenario: str, found: Iterable[Difference], listed: Sequence[ListedDifference]
) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that are not listed, and those listed that were not found."""
    differences = set(found)
    known = {one.difference for one in listed if scenario in one.scenarios}
    return sorted(differences - known), sorted(known - differences)


def as_entries(scenario: str, differences: Iterable[Difference]) -> str:
    """Return differences in the list's form, for whoever adds them with a reason."""
    entries = [
        {
            "place": one.place,
            "mock": one.mock,
            "yagna": one.yagna,
            "scenarios": [scenario],
            "reason": "",
        }
        for one in differences
    ]
    return yaml.safe_dump(entries, sort_keys=False, allow_unicode=True, width=100)


def table(listed: Sequence[ListedDifference]) -> str:
    """Return the table as Markdown."""
    if not listed:
        return f"{_TITLE}\nThere is no difference.\n"
    lines = [_TITLE, "| Where | mock-golem | yagna | Why | Scenarios |", "|---|---|---|---|---|"]
    for one in listed:
        cells = (one.place, one.mock, one.yagna)
        shown = " | ".join(f"`{_cell(text)}`" for text in cells)
        lines.append(f"| {shown} | {_cell(one.reason)} | {', '.join(one.scenarios)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
