"""What is told of faults that a real daemon does not let happen."""

from pathlib import Path

from requestor.mock_golem.fleet import load_fleet, parse_fleet
from requestor.mock_golem.testnet.fault_notes import fault_notes

ALL_FAULTS = Path(__file__).parents[4] / "configs" / "fleets" / "all-faults.yaml"


def test_only_what_a_real_daemon_does_not_let_happen_is_told() -> None:
    fleet = parse_fleet(
        "providers:\n"
        "  - {name: a, faults: [{kind: invoice_wrong_platform}, {kind: duplicate_invoice}]}\n"
        "  - {name: b, count: 2, faults: [{kind: dies_in_command, unreachable: true}]}\n"
        "  - {name: c, faults: [{kind: dies_in_command}]}\n"
    )
    names = [note.partition(":")[0] for note in fault_notes(fleet)]
    assert names == ["a", "b-1", "b-2"]
    first, second, _ = fault_notes(fleet)
    assert "invoice_wrong_platform does nothing" in first
    assert "leaves its node reachable" in second


def test_an_honest_fleet_needs_no_notes() -> None:
    assert fault_notes(parse_fleet("providers: [{name: a}]")) == []


def test_every_note_of_the_fleet_with_all_faults_names_its_provider() -> None:
    fleet = load_fleet(ALL_FAULTS)
    notes = fault_notes(fleet)
    assert notes
    assert {note.partition(":")[0] for note in notes} <= {one.name for one in fleet.expanded()}
