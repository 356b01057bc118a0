"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

runs_option = click.option(
    "--runs-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs"),
    envvar="DERL_RUNS_DIR",
    show_default=True,
    show_envvar=True,
    help="Where runs are kept.",
)
as_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout; progress goes to stderr."
)
