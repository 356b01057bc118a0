"""The payment networks as yagna's payment driver is told of them: ids, contracts and paces."""

from dataclasses import dataclass
from pathlib import Path

DRIVER_CONFIG_NAME = "config-payments.toml"


@dataclass(frozen=True)
class ChainNetwork:
    """One network: `token` is the address of its GLM contract."""

    name: str
    chain_id: int
    token_symbol: str
    token: str
    currency: str = "tETH"


NETWORKS = {
    network.name: network
    for network in (
        ChainNetwork("hoodi", 560048, "tGLM", "0x55555555555556acff9c332ed151758858bd7a26"),
        ChainNetwork("holesky", 17000, "tGLM", "0x8888888815bf4db87e57b609a50f938311eed068"),
        ChainNetwork("sepolia", 11155111, "tGLM", "0x167b15ada84c63427c6c813b915a42efc72e7175"),
        ChainNetwork("amoy", 80002, "tGLM", "0x2b60e60d3fb0b36a7ccb388f9e71570da4c4594f", "POL"),
        ChainNetwork("mumbai", 80001, "tGLM", "0x2036807b0b3aaf5b1858ee822d0e111fddac7018", "POL"),
        ChainNetwork("goerli", 5, "tGLM", "0x33af15c79d64b85ba14aaffaa4577949104b22e8"),
        ChainNetwork("polygon", 137, "GLM", "0x0b220b82f3ea3b7f6d9a1d8ab58930c064a2b5bf", "POL"),
        ChainNetwork("mainnet", 1, "GLM", "0x7dd9c5cba05e151c895fde1cf355c9a1d5da6429", "ETH"),
    )
}


@dataclass(frozen=True)
class Paces:
    """How often the payment driver looks at its work, in whole seconds (at least 1).

    Payments go out every `sendout_seconds`; fewer than 5 break the payment service.
    """

    sendout_seconds: int = 5
    check_seconds: int = 1


def write_driver_config(data_directory: Path, endpoints: dict[str, str], paces: Paces) -> None:
    """Write the payment driver's settings file, which it prefers to its built-in one.

    The built-in one looks after a payment half a minute after it was sent, and asks public
    servers for the addresses of others. It also pays several payees in one transaction, which
    they refuse when they share a daemon: that one counts all its payees' shares as one's.

    Args:
        data_directory: the daemon's.
        endpoints: the chain's URL by network name, one for each of `NETWORKS`.
        paces: how often it looks.

    Raises:
        OSError: the file cannot be written.
    """
    engine: dict[str, object] = {
        "process-interval": paces.check_seconds,
        "process-interval-after-send": paces.check_seconds,
        "process-interval-after-error": paces.check_seconds,
        "process-interval-after-no-gas-or-token-start": paces.sendout_seconds,
        "process-interval-after-no-gas-or-token-max": paces.sendout_seconds,
        "process-interval-after-no-gas-or-token-increase": 1.5,
        "report-alive-interval": paces.sendout_seconds,
        "gather-interval": paces.sendout_seconds,
        "gather-at-start": True,
        "automatic-recover": False,
        "ignore-deadlines": False,
    }
    lines = ["[engine]", *_assignments(engine)]
    for network in NETWORKS.values():
        lines += _chain_section(network, endpoints[network.name])
    path = data_directory / DRIVER_CONFIG_NAME
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _chain_section(network: ChainNetwork, endpoint: str) -> list[str]:
    chain: dict[str, object] = {
        "chain-name": network.name.capitalize(),
        "chain-id": network.chain_id,
        "currency-symbol": network.currency,
        "priority-fee": 0.000001,
        "max-fee-per-gas": 20.0,
        "transaction-timeout": 100,
        "confirmation-blocks": 0,
        "external-source-check-interval": 3600,
    }
    lines = ["", f"[chain.{network.name}]", *_assignments(chain)]
    lines.append(f'token = {{ address = "{network.token}", symbol = "{network.token_symbol}" }}')
    endpoint_settings: dict[str, object] = {
        "names": network.name,
        "endpoints": endpoint,
        "priority": 0,
        "max-timeout-ms": 5000,
        "verify-interval-secs": 60,
        "allowed-head-behind-secs": 120,
    }
    lines += ["", f"[[chain.{network.name}.rpc-endpoints]]", *_assignments(endpoint_settings)]
    return lines


def _assignments(settings: dict[str, object]) -> list[str]:
    return [f"{key} = {_toml(value)}" for key, value in settings.items()]


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else f"{value!r}".replace("1e-06", "0.000001")

