"""Fleet files: what they mean, and errors that say what, where and how to mend it."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from requestor.mock_golem.faults import DAEMON_FAULTS, PROVIDER_FAULTS, kind_of
from requestor.mock_golem.fleet import FleetError, load_fleet, parse_fleet

FLEETS = Path(__file__).parents[3] / "configs" / "fleets"


@pytest.mark.parametrize("path", sorted(FLEETS.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_shipped_fleets_are_valid(path: Path) -> None:
    assert load_fleet(path).expanded()


def test_the_fleet_of_all_faults_has_all_faults_and_lets_a_run_finish() -> None:
    fleet = load_fleet(FLEETS / "all-faults.yaml")
    faults = [fault for provider in fleet.providers for fault in provider.faults]
    assert {fault.kind for fault in faults} == {kind_of(fault) for fault in PROVIDER_FAULTS}
    assert [fault for fault in faults if fault.times is None] == []
    assert sum(provider.faults == () for provider in fleet.expanded()) >= 2
    assert fleet.daemon_faults == ()


def test_the_commented_daemon_faults_of_all_faults_are_valid() -> None:
    text = (FLEETS / "all-faults.yaml").read_text(encoding="utf-8")
    before, commented = text.split("daemon_faults: []\n")
    listed = [line[1:] for line in commented.splitlines() if line.startswith("#  ")]
    fleet = parse_fleet(before + "\n".join(["daemon_faults:", *listed]))
    assert {fault.kind for fault in fleet.daemon_faults} == {
        kind_of(fault) for fault in DAEMON_FAULTS
    }


def test_the_faulty_fleet_is_what_it_says() -> None:
    providers = load_fleet(FLEETS / "faulty.yaml").expanded()
    kinds = [[fault.kind for fault in provider.faults] for provider in providers]
    assert kinds == [["dies_in_command"], ["result_tampered"], [], []]
    assert [provider.pace for provider in providers] == [1.0, 1.0, 0.2, 1.0]


def test_count_makes_numbered_providers() -> None:
    fleet = parse_fleet("providers: [{name: oak, count: 3, pace: 0.5}, {name: elm}]")
    assert [one.name for one in fleet.expanded()] == ["oak-1", "oak-2", "oak-3", "elm"]
    assert fleet.expanded()[2].pace == 0.5


def test_prices_are_exact_and_coefficients_are_floats() -> None:
    fleet = parse_fleet("providers: [{name: oak, price: {cpu_hour_glm: 0.1, start_glm: 1}}]")
    price = fleet.providers[0].price
    assert price.cpu_hour_glm == Decimal("0.1")
    assert price.coefficients == [0.1 / 3600, 0.02 / 3600, 1.0]
    assert all(isinstance(one, float) for one in price.coefficients)


def test_platform() -> None:
    base = "providers: [{name: oak}]\npayment: "
    assert parse_fleet(base + "{}").payment.platform == "erc20-hoodi-tglm"
    assert parse_fleet(base + "{network: polygon}").payment.platform == "erc20-polygon-glm"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("provders: []", "unknown key `provders` @ provders: did you mean `providers`?"),
        ("subnet: x", "Field required @ providers"),
        ("providers: []", "`providers` is empty; name at least one provider"),
        ("providers: [{name: a, prise: {}}]", "providers[0].prise: did you mean `price`?"),
        (
            "providers: [{name: a, price: {our_glm: 1}}]",
            "unknown key `our_glm` @ providers[0].price.our_glm: did you mean `hour_glm`?",
        ),
        (
            "providers: [{name: a}, {name: b, faults: [{kind: comand_fails}]}]",
            "unknown fault kind `comand_fails` @ providers[1].faults[0]: "
            "did you mean `command_fails`?",
        ),
        (
            "providers: [{name: a, faults: [{kind: slow_approval, second: 1}]}]",
            "unknown key `second` @ providers[0].faults[0].second: did you mean `seconds`?",
        ),
        ("providers: [{name: a, faults: [{times: 1}]}]", "`mock-golem faults` lists them"),
        (
            "providers: [{name: a}]\ndaemon_faults: [{kind: wrong_kee}]",
            "unknown fault kind `wrong_kee` @ daemon_faults[0]: did you mean `wrong_key`?",
        ),
        (
            "providers: [{name: a}]\ndaemon_faults: [{kind: daemon_restart}]",
            "daemon_restart takes either after_seconds or after_requests",
        ),
        ("providers: [{name: a, pace: 0}]", "found 0 @ providers[0].pace"),
        ("providers: [{name: a, price: {hour_glm: -1}}]", "@ providers[0].price.hour_glm"),
        ("providers: [{name: a, price: {hour_glm: .nan}}]", "@ providers[0].price.hour_glm"),
        ("providers: [{name: a b}]", "@ providers[0].name"),
        ("providers: [{name: a-1}, {name: a, count: 2}]", "two providers are called a-1"),
        ("providers: [{name: a, count: 1001}]", "@ providers[0].count"),
        (
            "providers: [{name: a}]\nruntime: {kind: image, path: /bin}",
            "`path` is the image's own with `kind: image`; take it out",
        ),
        (
            "providers: [{name: a}]\nruntime: {kind: image, environment: {A: b}}",
            "`environment` is the image's own",
        ),
        (
            "providers: [{name: a}]\nruntime: {kind: image, isolation: process}",
            "`isolation: process` has no room for an image",
        ),
        (
            f"providers: [{{name: a}}]\nruntime: {{kind: image}}\n"
            f"images: [{{hash: '{'9a' * 28}', volumes: [/x]}}]",
            "take out images[0].volumes",
        ),
        ("providers: [{name: a}]\nruntime: {kind: imagee}", "@ runtime.kind"),
        ("[1, 2]", "expected a mapping with `providers:`, found list"),
        ("providers: [", "not YAML"),
        ("a: !!python/object/apply:os.getcwd []", "not YAML"),
    ],
)
def test_errors_name_what_and_where(text: str, expected: str) -> None:
    with pytest.raises(FleetError) as caught:
        parse_fleet(text, "my.yaml")
    assert expected in str(caught.value)
    assert all(line.startswith("my.yaml: ") for line in str(caught.value).splitlines())


def test_all_errors_are_told_at_once() -> None:
    with pytest.raises(FleetError) as caught:
        parse_fleet("sub: x\nproviders: [{name: a, pace: 7, threads: 0}]")
    assert len(str(caught.value).splitlines()) == 3


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FleetError, match=r"none\.yaml: cannot be read: No such file"):
        load_fleet(tmp_path / "none.yaml")


def test_files_are_not_read_without_limit(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(FleetError, match="at most 1 MiB"):
        load_fleet(big)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FleetError, match="not UTF-8"):
        load_fleet(binary)


def test_comments_tell_the_defaults() -> None:
    """`all-faults.yaml` shows every setting of a provider and of the fleet."""
    text = (FLEETS / "all-faults.yaml").read_text(encoding="utf-8")
    data = yaml.safe_load(text)
    fleet = parse_fleet(text)
    assert set(data) == set(type(fleet).model_fields)
    assert set(data["providers"][0]) == set(type(fleet.providers[0]).model_fields)
    assert set(data["providers"][0]["terms"]) == set(type(fleet.providers[0].terms).model_fields)
    assert set(data["runtime"]) == set(type(fleet.runtime).model_fields)
    plain = parse_fleet("providers: [{name: oak, count: 2}]")
    assert fleet.providers[0] == plain.providers[0]
