"""The `derl-image` program."""

from __future__ import annotations

import errno
import sys
from typing import Any, NoReturn

import rich_click as click

from gvmi.cli.commands_boot import boot
from gvmi.cli.commands_build import build
from gvmi.cli.commands_clean import clean
from gvmi.cli.commands_lock import lock
from gvmi.cli.commands_push import push
from gvmi.cli.commands_verify import verify
from gvmi.errors import BadImage, ImageToolError
from requestor.mock_golem.images.gvmi_file import ImageError

EXIT_CODES = (
    "Exit codes: 0 done, 2 wrong usage, 3 the image is not what it should be, 4 this machine lacks "
    "something, 5 a locked package is nowhere to be had, 6 the registry refused, 130 interrupted."
)


class Program(click.RichGroup):
    """The group of commands, which ends with 130 when it is interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("derl-image: interrupted; nothing is half written", err=True)
            ctx.exit(130)


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES
)
@click.version_option(package_name="derl")
def cli() -> None:
    """Build, verify, push and boot the image that providers on Golem run.

    Start with `derl-image build native`; no Docker, no account and no Golem node are needed.
    """


for command in (boot, build, clean, lock, push, verify):
    cli.add_command(command)


def main() -> None:
    """Run the program; print errors a user can meet, with their exit codes."""
    try:
        cli(standalone_mode=True)
    except ImageToolError as error:
        _end(str(error), error.fix, error.exit_code)
    except ImageError as error:
        _end(str(error), None, BadImage.exit_code)
    except OSError as error:
        what = error.strerror or str(error)
        where = f"{error.filename}: " if error.filename else ""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space there, or in the cache (XDG_CACHE_HOME, ~/.cache/derl)"
        _end(f"{where}{what}", fix if full else "give a path that exists and can be written", 4)


def _end(message: str, fix: str | None, code: int) -> NoReturn:
    click.echo(f"derl-image: {message}", err=True)
    if fix is not None:
        click.echo(f"fix: {fix}", err=True)
    sys.exit(code)
