"""`study`: many runs on a virtual market, to see what the defence bears."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rich_click as click

from requestor.attacks.catalogue import ATTACKS, find_attack
from requestor.cli.assembly import run_settings
from requestor.config import RunConfig, load_config, resolved_yaml
from requestor.errors import UsageError
from requestor.reporting.figures import draw_rounds
from requestor.studies.byzantine import (
    UNATTACKED,
    VARIANTS,
    figure_data,
    markdown,
    plan_cells,
    summarise,
)
from requestor.studies.cells import CellResult
from requestor.studies.conducting import Conductor, Prepared, setting_digest

CONFIG = Path("configs") / "byzantine.yaml"
RECORD = "cells.jsonl"
TABLE = "BYZANTINE.md"
FIGURE = "byzantine.svg"
_ALWAYS = ("federation.speculate=false",)
"""A colluder waits for honest work, which looks like being late."""


@click.group()
def study() -> None:
    """Run studies on a virtual market on this machine: no daemon, no money."""


@study.command()
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    default=CONFIG,
    show_default=True,
    help="What each run is; its golem.providers are the crowd.",
)
@click.option("--attacks", "attack_names", default="all", help="Names with commas; or all.")
@click.option(
    "--variants",
    "variant_names",
    default="default,mean",
    show_default=True,
    help=f"Defences, with commas: {', '.join(VARIANTS)}.",
)
@click.option("--seeds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--liars", type=click.IntRange(1, 1000), default=3, show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("studies") / "byzantine",
    show_default=True,
    help="Where results (cells.jsonl), table and figure go; what is done is not done again.",
)
@click.option("--at-once", type=click.IntRange(1, 64), default=1, help="Runs at the same time (1).")
@click.option("--figure/--no-figure", default=True, help="Draw byzantine.svg.")
def byzantine(
    overrides: tuple[str, ...],
    *,
    config: Path,
    attack_names: str,
    variant_names: str,
    seeds: int,
    liars: int,
    out: Path,
    at_once: int,
    figure: bool,
) -> None:
    """Attack a run in every known way, and count the rounds until it has learned all the same.

    Each attack is held against each variant of the defence, with `--seeds` seeds. Liars know every
    honest update of their round. `derl-request attacks` lists the attacks.
    """
    attacks = list(ATTACKS) if attack_names == "all" else _known(attack_names)
    variants = [name.strip() for name in variant_names.split(",")]
    for name in variants:
        if name not in VARIANTS:
            raise UsageError(f"no variant is called {name}", fix=f"take of {', '.join(VARIANTS)}")
    if not config.is_file():
        raise UsageError(
            f"there is no {config}", fix="call this in a clone of DeRL, or give --config FILE"
        )
    cells = plan_cells(variants, attacks, range(seeds))
    prepared: list[Prepared] = []
    for cell in cells:
        changed = (*VARIANTS[cell.variant].overrides, *_ALWAYS, *overrides, f"seed={cell.seed}")
        loaded = load_config(config, changed)
        digest = setting_digest(f"{liars}\n{resolved_yaml(_without_fleet(loaded))}")
        prepared.append(Prepared(cell, run_settings(loaded, "study"), digest))
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="derl-study-"))
    try:
        conductor = Conductor(out / RECORD, scratch, liars, at_once)
        results = asyncio.run(conductor.conduct(prepared, _tell))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    _report(results, prepared, config, overrides, out, liars, draws=figure)


@click.command()
def attacks() -> None:
    """List the attacks that studies and lying mock providers know."""
    for attack in ATTACKS.values():
        click.echo(f"{attack.name:18} {attack.summary} ({attack.source})")


def _without_fleet(config: RunConfig) -> RunConfig:
    """Leave out the mock fleet, of which a virtual market has nothing."""
    return config.model_copy(update={"golem": config.golem.model_copy(update={"fleet": None})})


def _known(names: str) -> list[str]:
    found = []
    for name in names.split(","):
        if name.strip() == UNATTACKED:
            continue
        try:
            found.append(find_attack(name.strip()).name)
        except ValueError as error:
            raise UsageError(str(error), fix="`derl-request attacks` lists them") from error
    return found


def _tell(result: CellResult) -> None:
    cell = result.cell
    rounds = "not reached" if result.rounds is None else f"{result.rounds} rounds"
    refused = f"{result.refused_liars}/{result.refused_honest} refused"
    click.echo(
        f"{cell.variant:18} {cell.attack:18} seed {cell.seed}: {rounds}, "
        f"best {max(result.returns, default=0.0):.0f}, {refused}, {result.seconds:.0f} s "
        f"({result.outcome})"
    )


def _report(
    results: Sequence[CellResult],
    prepared: Sequence[Prepared],
    config: Path,
    overrides: Sequence[str],
    out: Path,
    liars: int,
    *,
    draws: bool,
) -> None:
    rows = summarise(results)
    settings = prepared[0].settings
    seeds = sorted({one.cell.seed for one in prepared})
    target = settings.evaluation.target_return
    variants = ",".join(dict.fromkeys(one.cell.variant for one in prepared))
    command = f"derl-request study byzantine --variants {variants} --seeds {len(seeds)}"
    title = f"{liars} of {settings.terms.providers} providers lie"
    told = [
        f"{config.name}: {settings.environment.id}, {settings.federation.clients} clients of "
        f"{settings.federation.local_steps} steps a round, at most {settings.federation.rounds} "
        f"rounds, until the mean return of {settings.evaluation.episodes} held-out episodes is "
        f"{target:g} and that of {settings.evaluation.final_episodes} others confirms it. Seeds "
        f"{', '.join(map(str, seeds))}. Liars know every honest update of their round. Made by "
        f"`{' '.join([command, *overrides])}`.",
    ]
    if draws:
        draw_rounds(
            out / FIGURE,
            figure_data(rows),
            title=title,
            most_rounds=settings.federation.rounds,
        )
        told += ["", f"![rounds to the target]({FIGURE})"]
    (out / TABLE).write_text(markdown(rows, title, told))
    click.echo(f"wrote {out / TABLE}")
    click.echo("\n".join(f"misses the gate: {r.variant} {r.attack}" for r in rows if not r.passes))
