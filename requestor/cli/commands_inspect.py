"""`status`, `ls` and `evaluate`."""

from __future__ import annotations

import rich_click as click


@click.command()
def status() -> None:
    """."""


@click.command("ls")
def list_command() -> None:
    """."""


@click.command()
def evaluate() -> None:
    """."""
