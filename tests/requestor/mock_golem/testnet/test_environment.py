"""What yagna is told leads nowhere but home."""

import re
import tomllib
from pathlib import Path

import pytest

from requestor.mock_golem.testnet import environment
from requestor.mock_golem.testnet.chain_networks import (
    DRIVER_CONFIG_NAME,
    NETWORKS,
    Paces,
    write_driver_config,
)
from requestor.mock_golem.testnet.environment import (
    YagnaAddresses,
    chain_endpoints,
    yagna_environment,
)

ADDRESSES = YagnaAddresses(Path("/state/data"), Path("/short/gsb.sock"), 7465, 8545)
HOST = re.compile(r"^(?:\w+://)?([^/:]+):\d+")


def test_every_address_is_on_loopback() -> None:
    told = yagna_environment(ADDRESSES, "key", "hoodi", {"PATH": "/usr/bin"})

    hosts = {name: match[1] for name, value in told.items() if (match := HOST.match(value))}
    assert set(hosts.values()) == {"127.0.0.1"}
    assert {f"{name.upper()}_GETH_ADDR" for name in environment.NETWORKS} <= set(hosts)
    assert {"YAGNA_API_URL", "YA_NET_BIND_URL", "YA_NET_RELAY_HOST"} <= set(hosts)
    assert {"YAGNA_METRICS_URL", "HTTP_PROXY", "HTTPS_PROXY"} <= set(hosts)
    assert told["GSB_URL"] == "unix:/short/gsb.sock"


def test_nothing_of_the_users_own_daemon_is_passed_on() -> None:
    inherited = {
        "PATH": "/usr/bin",
        "YAGNA_APPKEY": "secret",
        "YAGNA_DATADIR": "/somewhere/me/.local/share/yagna",
        "YAGNA_AUTOCONF_ID_SECRET": "secret",
        "HOME": "/somewhere/me",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "POLYGON_GETH_ADDR": "https://rpc.example",
    }
    told = yagna_environment(ADDRESSES, "key", "hoodi", inherited)

    assert "secret" not in "".join(told.values())
    assert "example" not in "".join(told.values())
    assert "/somewhere/me" not in "".join(told.values())
    assert "YAGNA_DEV_SKIP_ALLOCATION_VALIDATION" not in told  # funds are checked


def test_a_network_that_yagna_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"no payment network 'moon'; known are amoy, .*sepolia"):
        yagna_environment(ADDRESSES, "key", "moon", {})


def test_the_payment_drivers_settings(tmp_path: Path) -> None:
    write_driver_config(tmp_path, chain_endpoints("polygon", 8545), Paces(7, 2))

    written = tomllib.loads((tmp_path / DRIVER_CONFIG_NAME).read_text())
    assert (written["engine"]["gather-interval"], written["engine"]["process-interval"]) == (7, 2)
    assert written["engine"]["process-interval-after-send"] == 2
    assert set(written["chain"]) == set(NETWORKS)
    for name, chain in written["chain"].items():
        (endpoint,) = chain["rpc-endpoints"]
        assert endpoint["endpoints"] == f"http://127.0.0.1:{8545 if name == 'polygon' else 9}"
        assert "dns-source" not in endpoint
    assert written["chain"]["polygon"]["token"]["symbol"] == "GLM"
    assert written["chain"]["hoodi"]["chain-id"] == 560048
    # with it, payees that share a daemon refuse to be paid together
    assert "multi-contract" not in written["chain"]["hoodi"]
