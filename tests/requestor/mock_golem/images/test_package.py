"""Which image a demand names."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from requestor.mock_golem.images.package import Package, package_of

HASH = "9a" * 28
ADDRESS = "http://127.0.0.1:1234/download/x.gvmi"


def manifest(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def test_by_package() -> None:
    demand = {"golem.srv.comp.task_package": f"hash:sha3:{HASH}:{ADDRESS}"}
    assert package_of(demand) == Package(HASH, (ADDRESS,))


def test_by_manifest() -> None:
    payload = {"hash": f"sha3:{HASH}", "urls": [ADDRESS, "http://other/x"]}
    demand = {"golem.srv.comp.payload": manifest({"payload": [payload]})}
    assert package_of(demand) == Package(HASH, (ADDRESS, "http://other/x"))


@pytest.mark.parametrize(
    "package",
    [
        f"hash:sha3:{HASH}:",
        f"hash:sha3:{HASH}",
        f"hash:sha3:{HASH[:-1]}:{ADDRESS}",
        f"hash:sha3:{HASH.upper()}:{ADDRESS}",
        f"hash:sha3:../../{HASH[6:]}:{ADDRESS}",
        f"hash:sha1:{HASH}:{ADDRESS}",
        f"hash:sha3:{HASH}:" + "x" * 5000,
        None,
        7,
    ],
)
def test_what_names_none(package: Any) -> None:
    assert package_of({"golem.srv.comp.task_package": package}) is None


@pytest.mark.parametrize(
    "payload",
    [
        {"hash": f"sha3:{HASH}", "urls": []},
        {"hash": f"sha3:{HASH}", "urls": [7]},
        {"hash": f"sha3:{HASH}", "urls": [ADDRESS] * 100},
        {"hash": f"sha3:{HASH}", "urls": ADDRESS},
        {"hash": 7, "urls": [ADDRESS]},
        {"urls": [ADDRESS]},
    ],
)
def test_manifests_that_name_none(payload: Any) -> None:
    assert package_of({"golem.srv.comp.payload": manifest({"payload": [payload]})}) is None


@given(st.text() | st.integers() | st.binary().map(lambda raw: base64.b64encode(raw).decode()))
def test_a_hostile_demand_raises_nothing(value: Any) -> None:
    demand = {"golem.srv.comp.task_package": value, "golem.srv.comp.payload": value}
    assert package_of(demand) is None
