"""What the check of other SDKs stands on: its fleet, its patterns, its stand-ins for programs."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from requestor.mock_golem.fleet import parse_fleet
from tests.sdk_examples.cases import CASES, Case

HERE = Path(__file__).parent
HASHCAT = HERE / "images" / "yacat" / "usr" / "local" / "bin" / "hashcat"
BUILT = {"webapp", "webapp_fileupload"}  # by run_examples.py, from the checkout


def test_the_fleet_is_valid_and_its_images_are_there() -> None:
    fleet = parse_fleet((HERE / "fleet.yaml").read_text(encoding="utf-8"))
    roots = [image.root for image in fleet.images if image.root is not None]
    missing = {root.name for root in roots if not (HERE / root).is_dir()}
    assert missing <= BUILT
    assert len({image.hash for image in fleet.images}) == len(fleet.images)


@pytest.mark.parametrize(
    "case", [one for cases in CASES.values() for one in cases], ids=lambda case: case.path
)
def test_cases_make_sense(case: Case) -> None:
    assert case.says, "an example that need not say anything proves nothing"
    for pattern in (*case.says, case.until):
        assert not re.search(pattern, "") or pattern == ""
    assert not case.visit or case.until, "nobody would know when to visit it"


def test_names_are_unique() -> None:
    for cases in CASES.values():
        assert len({case.name for case in cases}) == len(cases)


def test_the_stand_in_for_hashcat_computes_real_hashes(tmp_path: Path) -> None:
    found = tmp_path / "found"
    cracked = "$P$9IQRaTwmfeRo7ud9Fh4E2PdI0S3r.L0"  # the framework's own example, of "test12345"
    command = [sys.executable, str(HASHCAT), "-a", "3", "-m", "400", "-o", str(found)]
    mask = "?d?d?d"
    missed = subprocess.run([*command, cracked, mask], check=False)
    assert missed.returncode == 1 and not found.exists()
    phpass = definitions()["phpass"]
    assert phpass(b"test12345", cracked[:12]) == cracked
    target = phpass(b"042", "$P$5ZDzPE45C")
    subprocess.run([*command, "--skip", "40", "--limit", "3", target, mask], check=True)
    assert found.read_text(encoding="utf-8") == f"{target}:042\n"


def definitions() -> dict[str, Any]:
    """The functions of the stand-in, without its program."""
    text, _, _ = HASHCAT.read_text(encoding="utf-8").partition("\nparser = ")
    names: dict[str, Any] = {}
    exec(compile(text, str(HASHCAT), "exec"), names)
    return names
