"""What yagna is told through its environment: every address that it could call leads home."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = "127.0.0.1"
# yagna's own list; each has an address of its own, and the defaults are public servers
NETWORKS = (
    "mainnet",
    "polygon",
    "hoodi",
    "holesky",
    "sepolia",
    "amoy",
    "mumbai",
    "goerli",
    "rinkeby",
)
# Nobody listens on this one (discard); a refused connection is the quickest answer.
_NOWHERE = f"{LOOPBACK}:9"
# every poll is a request, and every look at an empty network an error
_LOG_LEVELS = (
    "info,actix_web::middleware::logger=warn,ya_relay_client=warn,ya_market::protocol::discovery=off"
)


@dataclass(frozen=True)
class YagnaAddresses:
    """Where one daemon keeps its data and listens.

    `bus` is the service bus' unix socket (at most 107 bytes); `rest_port` and `chain_port` are
    TCP ports on loopback, as the daemon itself sees them.
    """

    data: Path
    bus: Path
    rest_port: int
    chain_port: int


def yagna_environment(
    addresses: YagnaAddresses, app_key: str, network: str, inherited: Mapping[str, str]
) -> dict[str, str]:
    """Return the whole environment of a daemon that can reach nothing but loopback.

    Args:
        addresses: where it lives.
        app_key: the requestor's key, which the daemon accepts besides those it created.
        network: the payment network that the stand-in chain serves, for example `hoodi`.
        inherited: our own environment, of which it sees `PATH` and the log level only.

    Raises:
        ValueError: yagna knows no such network.
    """
    if network not in NETWORKS:
        raise ValueError(
            f"yagna knows no payment network {network!r}; known are {', '.join(sorted(NETWORKS))}"
        )
    endpoints = chain_endpoints(network, addresses.chain_port)
    chains = {f"{name.upper()}_GETH_ADDR": endpoint for name, endpoint in endpoints.items()}
    return {
        "PATH": inherited.get("PATH", "/usr/bin:/bin"),
        "LANG": "C.UTF-8",
        "HOME": str(addresses.data),
        "RUST_LOG": inherited.get("RUST_LOG", _LOG_LEVELS),
        "YAGNA_DATADIR": str(addresses.data),
        "YAGNA_LOG_DIR": "",  # to standard error only, which is our log file
        "YAGNA_API_URL": f"http://{LOOPBACK}:{addresses.rest_port}",
        "GSB_URL": f"unix:{addresses.bus}",
        "YAGNA_AUTOCONF_APPKEY": app_key,
        "YAGNA_HTTP_WORKERS": "2",
        # the network of nodes: there is none, and the wait for it is part of every start
        "YA_NET_TYPE": "hybrid",
        "YA_NET_BIND_URL": f"udp://{LOOPBACK}:0",
        "YA_NET_RELAY_HOST": _NOWHERE,
        "YA_NET_SESSION_REQUEST_TIMEOUT": "50ms",
        "MEAN_CYCLIC_BCAST_INTERVAL": "3s",
        "MEAN_CYCLIC_UNSUBSCRIBES_INTERVAL": "3s",
        # statistics, and the question for new releases, which knows no setting of its own
        "YA_CONSENT_STATS": "deny",
        "YA_CONSENT_INTERNAL": "deny",
        "YAGNA_METRICS_URL": f"http://{_NOWHERE}",
        "HTTP_PROXY": f"http://{_NOWHERE}",
        "HTTPS_PROXY": f"http://{_NOWHERE}",
        "NO_PROXY": f"{LOOPBACK},localhost",
        **chains,
    }


def chain_endpoints(network: str, chain_port: int) -> dict[str, str]:
    """The URL of every network's chain: ours at `chain_port`, of all others nobody's."""
    return {
        name: f"http://{LOOPBACK}:{chain_port}" if name == network else f"http://{_NOWHERE}"
        for name in NETWORKS
    }
