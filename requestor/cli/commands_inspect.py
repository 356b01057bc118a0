"""`status`, `ls` and `evaluate`."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import rich_click as click
from rich.console import Console

from provider_image.wire import StateRules
from requestor.cli.options import as_json_option, runs_option
from requestor.config import RunConfig, environment_spec, learner_spec, load_config, state_rules
from requestor.errors import RunFailed, UsageError
from requestor.evaluation.judge import ARCHIVE_NAME, Evaluation, Judge
from requestor.evaluation.local_worker import LocalWorker, LocalWorkerError
from requestor.federation.seeds import held_out_seeds
from requestor.marketplace.money.ledger_entries import read_entries
from requestor.marketplace.money.statement import make_statement
from requestor.reporting.money_view import money_record, print_money
from requestor.reporting.run_list import print_runs, print_status, read_status, status_record
from requestor.training_run.checkpoints import CheckpointStore
from requestor.training_run.run_directory import RunDirectory, find_run, list_runs


@click.command()
@click.argument("run_name", metavar="RUN", default="last")
@click.option(
    "--money",
    is_flag=True,
    help="The account with each provider: what it asked, got, and did for it.",
)
@as_json_option
@runs_option
def status(run_name: str, *, money: bool, as_json: bool, runs_dir: Path) -> None:
    """Show where RUN (a name from `ls`, a path, or `last`) stands: rounds, returns, cost."""
    directory = find_run(runs_dir, run_name)
    if money:
        _show_money(directory, as_json=as_json)
        return
    found = read_status(directory)
    if as_json:
        click.echo(json.dumps(status_record(found)))
    else:
        print_status(found, Console(), time.time())


def _show_money(directory: RunDirectory, *, as_json: bool) -> None:
    statement = make_statement(read_entries(directory.ledger))
    if as_json:
        click.echo(json.dumps(money_record(statement)))
    else:
        print_money(statement, Console())


@click.command("ls")
@as_json_option
@runs_option
def list_command(*, as_json: bool, runs_dir: Path) -> None:
    """List the runs."""
    found = [read_status(run) for run in list_runs(runs_dir) if not run.is_benchmark]
    if as_json:
        click.echo(json.dumps([status_record(entry) for entry in found]))
    elif found:
        print_runs(found, Console())
    else:
        click.echo(f"no runs in {runs_dir} yet; start one: derl-request run configs/cartpole.yaml")


@dataclass(frozen=True)
class _Subject:
    """What is to be evaluated: a model bundle or an SB3 archive, and the config it belongs to."""

    config: RunConfig
    model: Path
    name: str

    @property
    def is_archive(self) -> bool:
        return self.model.suffix == ".zip"


@click.command()
@click.argument("subject", metavar="RUN|MODEL")
@click.option("--episodes", type=click.IntRange(1, 10_000), default=100, show_default=True)
@click.option("--seed", type=int, help="Where episodes' seeds come from; default: the run's.")
@click.option("--best", is_flag=True, help="The run's best model instead of its last.")
@click.option(
    "--config",
    "config_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="For a MODEL outside of its run's folder: the config it was trained with.",
)
@as_json_option
@runs_option
def evaluate(
    subject: str,
    *,
    episodes: int,
    seed: int | None,
    best: bool,
    config_file: Path | None,
    as_json: bool,
    runs_dir: Path,
) -> None:
    """Play held-out episodes on this machine with a run's model or an SB3 archive.

    RUN is a name from `ls`, a path, or `last`; MODEL is a model.zip. With the default seed and
    100 episodes, a run's last model plays the same episodes as in its final evaluation.
    """
    chosen = _subject(subject, runs_dir, config_file, best=best)
    base = chosen.config.seed if seed is None else seed
    result = asyncio.run(_play(chosen, held_out_seeds(base, "final evaluation", episodes)))
    record = {
        "model": str(chosen.model),
        "episodes": episodes,
        "mean_return": result.mean_return,
        "std_return": result.std_return,
        "mean_length": result.mean_length,
    }
    if as_json:
        click.echo(json.dumps({**record, "returns": result.returns, "lengths": result.lengths}))
    else:
        click.echo(
            f"{chosen.name}: mean return {result.mean_return:.2f} ± {result.std_return:.2f} "
            f"over {episodes} episodes of {result.mean_length:.1f} steps"
        )


def _subject(text: str, runs: Path, config_file: Path | None, *, best: bool) -> _Subject:
    path = Path(text)
    if path.suffix == ".zip":
        return _archive(path, config_file)
    return _model_of(find_run(runs, text), best=best)


def _model_of(directory: RunDirectory, *, best: bool) -> _Subject:
    store = CheckpointStore(directory.checkpoints)
    checkpoint = store.latest()
    if checkpoint is None:
        raise RunFailed(f"{directory.name} has no model yet", fix="`derl-request resume` it")
    model = checkpoint.best.model if best else checkpoint.model
    which = "best model" if best else "last model"
    return _Subject(load_config(directory.config), store.path(model), f"{directory.name}, {which}")


def _archive(path: Path, config_file: Path | None) -> _Subject:
    if not path.is_file():
        raise UsageError(f"there is no file {path}", fix="give a run's name, or a model.zip")
    run = RunDirectory(path.parent)
    if (
        config_file is None
        and run.identity.is_file()
        and path.resolve()
        in (
            run.model,
            run.best_model,
        )
    ):
        # the run's own bundle: the same weights, and the normaliser's statistics with them
        return _model_of(run, best=path.resolve() == run.best_model)
    beside = RunDirectory(path.parent).config
    source = config_file or (beside if beside.is_file() else None)
    if source is None:
        raise UsageError(
            f"{path} does not say which environment it is for",
            fix="name the config it was trained with: --config configs/cartpole.yaml",
        )
    return _Subject(load_config(source), path, str(path))


async def _play(subject: _Subject, seeds: tuple[int, ...]) -> Evaluation:
    with tempfile.TemporaryDirectory(prefix="derl-evaluate-") as folder:
        config = subject.config
        learner = learner_spec(config)
        async with LocalWorker(Path(folder) / "worker", learner) as worker:
            # an archive has the weights alone, whatever else the run's models carry
            rules = StateRules() if subject.is_archive else state_rules(config)
            judge = Judge(worker, environment_spec(config), learner, rules)
            model = subject.model
            if subject.is_archive:
                model = Path(folder) / "imported.safetensors"
                await _import(judge, subject.model, model)
            return await judge.evaluate(model, seeds, deterministic=config.evaluation.deterministic)


async def _import(judge: Judge, archive: Path, model: Path) -> None:
    try:
        await judge.import_archive(archive, model)
    except LocalWorkerError as error:
        raise UsageError(
            error.message.replace(ARCHIVE_NAME, str(archive)),
            fix="give an archive that Stable-Baselines3 wrote, and with --config the config of "
            "the same algorithm and environment",
        ) from error
