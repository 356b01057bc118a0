"""The `mock-golem testnet` command's own part."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from requestor.mock_golem.cli_serving import (
    Refusals,
    fail,
    log_to_stderr,
    serve_until_stopped,
    serving_error,
)
from requestor.mock_golem.exe_unit import IsolationError
from requestor.mock_golem.fleet import Fleet
from requestor.mock_golem.journal import JournalError
from requestor.mock_golem.testnet.chain_ledger import ChainError
from requestor.mock_golem.testnet.testnet import Testnet, TestnetSettings
from requestor.mock_golem.testnet.yagna import YagnaError


@dataclass(frozen=True)
class TestnetOptions:
    """The options of the command that say what is served."""

    __test__ = False

    fleet: Fleet
    port: int
    app_key: str | None
    state: Path | None
    wire_log: Path | None


def run_testnet(options: TestnetOptions, *, stop_on_stdin_eof: bool, as_json: bool) -> None:
    """Serve a local network until told to stop; end the program if that cannot be."""
    log_to_stderr()
    settings = TestnetSettings(
        fleet=options.fleet,
        port=options.port,
        app_key=options.app_key,
        state_directory=options.state,
        wire_log=options.wire_log,
        refused=None if as_json else Refusals().tell,
    )
    testnet = Testnet(settings)
    try:
        asyncio.run(
            serve_until_stopped(
                testnet,
                options.fleet,
                stop_on_stdin_eof=stop_on_stdin_eof,
                as_json=as_json,
                more=lambda: {"yagna_pid": testnet.yagna.pid},
            )
        )
    except (YagnaError, ChainError, JournalError, IsolationError) as error:
        fail(str(error))
    except OSError as error:
        fail(serving_error(error, options.port))
