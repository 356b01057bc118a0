"""`derl-image verify`: is an image file what it should be?"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rich_click as click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from gvmi.cli.report_view import print_report
from gvmi.errors import BadImage, MachineUnfit
from gvmi.image_lock import LOCK_FILE
from gvmi.variants import VARIANTS, Variant
from gvmi.verification.deviations import shown
from gvmi.verification.report import Report
from gvmi.verification.verifying import Told, Wanted
from gvmi.verification.verifying import verify as verify_image


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--variant", type=click.Choice(VARIANTS), help="What it shall be (default: its label says)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--no-run", is_flag=True, help="Look only; run nothing of what is in the image.")
@click.option(
    "--lock",
    type=click.Path(path_type=Path),
    default=LOCK_FILE,
    help="The lock to compare with (default: the one of this installation).",
)
def verify(file: Path, variant: Variant | None, as_json: bool, no_run: bool, lock: Path) -> None:
    """Verify the image FILE: layout, hash, content, and a round run inside it.

    The file may be a stranger's: its names, sizes, links and settings are looked at before anything
    of it is run, and it is run in a sandbox, without network, as a provider would run it. That
    needs bubblewrap; without it the rest is done and the program ends with 4.
    """
    with _progress(file, quiet=as_json) as told:
        report = verify_image(Wanted(file, variant, lock, runs=not no_run), told)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        print_report(report, Console())
    _end(report, no_run)


def _end(report: Report, no_run: bool) -> None:
    if report.verdict == "bad":
        count = len(report.deviations)
        raise BadImage(
            f"{report.facts.path}: {count} deviation{'s' if count > 1 else ''} "
            f"(the worst: {shown(report.deviations[0].text, most=200)})",
            fix="do not run or push it; build it again: derl-image build",
        )
    if report.verdict == "not run" and not no_run:
        reason = report.skipped["start"]
        raise MachineUnfit(
            f"{report.facts.path}: nothing wrong was found, but the image was NOT RUN: {reason}",
            fix="apt install bubblewrap; or look only: derl-image verify --no-run",
        )


@contextmanager
def _progress(file: Path, quiet: bool) -> Iterator[Told]:
    """Show on the terminal how far it is; in a pipe nothing."""
    console = Console(stderr=True)
    if quiet or not sys.stderr.isatty():
        yield Told()
        return
    total = file.stat().st_size if file.is_file() else None
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    bars = Progress(*columns, console=console, transient=True)
    status = console.status("")

    def step(text: str) -> None:
        bars.stop()  # both at once cannot be
        status.start()
        status.update(text)

    try:
        bars.start()
        task = bars.add_task("hash", total=total)
        yield Told(hashed=lambda done: bars.update(task, completed=done), step=step)
    finally:
        bars.stop()
        status.stop()
