"""The bill of materials: valid by CycloneDX's own schema, the same each time, true to the locks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from gvmi.assembly.bill_of_materials import bill_of_materials
from gvmi.packages.package_locks import DebianPackage, PythonPackage, read_debian_lock
from gvmi.packages.wheels import install_wheel
from tests.gvmi.packages.made_packages import write_wheel

DASH = DebianPackage("dash", "0.5.12-2", "debian/pool/dash.deb", 1, "0a" * 32)
CPP = DebianPackage("libstdc++6", "1:12.2.0-14+b1", "debian/pool/c.deb", 1, "0b" * 32)
SOURCES = "5e" * 32
LICENCES = {
    "by_expression": "License-Expression: MIT AND BSD-3-Clause\n",
    "by_word": "License: Apache 2.0\n",
    "by_classifier": (
        "Classifier: Topic :: Scientific/Engineering\n"
        "Classifier: License :: OSI Approved :: BSD License\n"
    ),
    "by_text": "License: A long text\n        of many lines\n",
    "of_none": "",
}


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """Site-packages with a package for each way of saying a licence."""
    root = tmp_path / "root"
    for name, metadata in LICENCES.items():
        wheel = write_wheel(tmp_path, name, {f"{name}.py": ""}, metadata=metadata)
        install_wheel(wheel, root, "/site", "/bin/python3")
    return root / "site"


def locked() -> list[PythonPackage]:
    return [PythonPackage(name.replace("_", "-"), "1.0", "0c" * 32) for name in LICENCES][:-1]


def components(text: str) -> dict[str, Any]:
    return {one["name"]: one for one in json.loads(text)["components"]}


def test_it_is_valid_and_says_what_the_locks_say(site_packages: Path) -> None:
    text = bill_of_materials("sb3", SOURCES, [DASH, CPP], locked(), site_packages)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = components(text)
    assert set(found) == {"dash", "libstdc++6", *LICENCES}
    assert found["dash"]["version"] == "0.5.12-2"
    assert found["dash"]["hashes"] == [{"alg": "SHA-256", "content": "0a" * 32}]
    assert found["dash"]["purl"] == "pkg:deb/debian/dash@0.5.12-2?arch=amd64&distro=bookworm"
    # the package-url specification: a plus sign and a colon of a version are percent-encoded
    assert found["libstdc++6"]["purl"] == (
        "pkg:deb/debian/libstdc%2B%2B6@1:12.2.0-14%2Bb1?arch=amd64&distro=bookworm"
    )
    assert found["by_word"]["purl"] == "pkg:pypi/by-word@1.0"
    assert found["by_word"]["hashes"] == [{"alg": "SHA-256", "content": "0c" * 32}]
    assert "hashes" not in found["of_none"]  # no wheel of an index: our own
    own = json.loads(text)["metadata"]
    assert (own["component"]["name"], own["component"]["type"]) == ("derl-sb3", "container")
    assert own["properties"] == [{"name": "derl:sources", "value": SOURCES}]
    assert own["timestamp"] == "2026-01-01T00:00:00+00:00"


def test_licences_are_told_however_a_package_says_them(site_packages: Path) -> None:
    found = components(bill_of_materials("native", SOURCES, [DASH], locked(), site_packages))
    assert found["by_expression"]["licenses"] == [{"expression": "MIT AND BSD-3-Clause"}]
    assert found["by_word"]["licenses"] == [{"license": {"name": "Apache 2.0"}}]
    assert found["by_classifier"]["licenses"] == [{"license": {"name": "BSD License"}}]
    assert "licenses" not in found["by_text"]
    assert "licenses" not in found["of_none"]
    assert found["dash"]["licenses"] == [{"license": {"name": "see /usr/share/doc/dash/copyright"}}]


def test_it_is_the_same_each_time_and_another_for_other_sources(
    site_packages: Path, tmp_path: Path
) -> None:
    text = bill_of_materials("native", SOURCES, [DASH, CPP], locked(), site_packages)
    assert bill_of_materials("native", SOURCES, [CPP, DASH], locked()[::-1], site_packages) == text
    other = bill_of_materials("native", "6e" * 32, [DASH, CPP], locked(), site_packages)
    assert json.loads(other)["serialNumber"] != json.loads(text)["serialNumber"]
    assert str(tmp_path) not in text


def test_the_bill_of_the_repositorys_own_locks_is_valid(tmp_path: Path) -> None:
    root = read_debian_lock().section("root")
    text = bill_of_materials("native", SOURCES, root, [], tmp_path)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = components(text)
    assert {(name, one["version"], one["hashes"][0]["content"]) for name, one in found.items()} == {
        (one.name, one.version, one.sha256) for one in root
    }
