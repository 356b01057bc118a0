"""One provider's activities: their exe-units, what they use, and how they end."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from requestor.mock_golem.answers import Refusal
from requestor.mock_golem.exe_unit import (
    CommandFaults,
    ContainerSpec,
    ExeUnit,
    IsolationError,
    Tamper,
)
from requestor.mock_golem.faults import (
    ActivityCreateFails,
    CommandFails,
    CommandHangs,
    DeployHangs,
    DiesInCommand,
    ResultTampered,
)
from requestor.mock_golem.identifiers import new_activity_id
from requestor.mock_golem.images.description import image_of
from requestor.mock_golem.images.package import package_of
from requestor.mock_golem.programs import install_programs
from requestor.mock_golem.records import Activity, Agreement
from requestor.mock_golem.surroundings import ProviderContext

UNRESPONSIVE_AFTER = timedelta(seconds=5)
DESTROYED_AFTER = timedelta(seconds=10)


@dataclass
class RunningActivity:
    """An activity whose exe-unit is there, or vanished at `gone_at`."""

    activity_id: str
    agreement_id: str
    unit: ExeUnit
    gone_at: datetime | None = None


def endpoint_not_found(address: str) -> Refusal:
    """Return yagna's answer when nobody listens at a service-bus address any more."""
    return Refusal(
        500,
        f"GSB error: Remote service at `{address}` error: GSB failure: "
        "Bad request: endpoint address not found",
    )


class ActivityHost:
    """Creates, watches and ends the activities of one provider.

    Args:
        context: whose activities these are.
        died: called with the fault when an exe-unit has died of `dies_in_command`.
        ended: called when an activity has ended.
    """

    def __init__(
        self,
        context: ProviderContext,
        *,
        died: Callable[[DiesInCommand], None],
        ended: Callable[[], None],
    ) -> None:
        self._node_id = context.node_id
        self._model = context.model
        self._faults = context.faults
        self._around = context.around
        self._tasks = context.tasks
        self._died = died
        self._ended = ended
        self._deadly: DiesInCommand | None = None
        self._running: dict[str, RunningActivity] = {}
        self._gone: dict[str, RunningActivity] = {}

    @property
    def live_ids(self) -> set[str]:
        """The ids of activities whose exe-unit is there."""
        return set(self._running)

    async def create(
        self, agreement: Agreement, timeout_seconds: float, activity_id: str | None = None
    ) -> Activity:
        """Start an exe-unit and return its activity once it is initialized.

        Raises:
            Refusal: 408, it took longer; 500, the provider failed; 400, the agreement ended.
        """
        await self._perhaps_fail(timeout_seconds)
        activity_id = activity_id or new_activity_id()
        unit = self._around.launch(self._container(activity_id, agreement), self._command_faults)
        try:
            await asyncio.wait_for(unit.initialize(), timeout_seconds)
        except TimeoutError:
            await unit.terminate()
            raise Refusal(408, "Timeout") from None
        except (IsolationError, OSError) as error:
            await unit.terminate()
            raise Refusal(500, f"The exe-unit could not be started: {error}") from error
        current = self._around.books.agreement(agreement.agreement_id)
        if current.state != "Approved":
            await unit.terminate()
            raise not_approved(current)
        activity = Activity(
            activity_id=activity_id,
            agreement_id=agreement.agreement_id,
            provider_id=self._node_id,
            created_at=self._around.clock.now(),
        )
        self._running[activity_id] = RunningActivity(activity_id, agreement.agreement_id, unit)
        self._around.books.commit(activity)
        self._tasks.spawn(self._await_end(activity_id, unit))
        return activity

    def unit(self, activity_id: str, method: str) -> ExeUnit:
        """Return the exe-unit that answers calls of an activity.

        Raises:
            Refusal: 500, it is not there any more.
        """
        running = self._running.get(activity_id)
        if running is not None and _has_ended(running.unit):
            self.refresh(activity_id)
            running = None
        if running is None:
            raise endpoint_not_found(f"/net/{self._node_id}/exeunit/{activity_id}/{method}")
        return running.unit

    def unit_at(self, network_id: str, ip: str) -> ExeUnit | None:
        """Return the exe-unit that was deployed with this address in a network, if it is there."""
        for running in self._running.values():
            if running.unit.is_in_network(network_id, ip) and not _has_ended(running.unit):
                return running.unit
        return None

    def state(self, activity: Activity) -> str:
        """Return the activity's state as the daemon knows it."""
        self.refresh(activity.activity_id)
        running = self._running.get(activity.activity_id)
        if running is not None:
            return running.unit.state
        gone = self._gone.get(activity.activity_id)
        if gone is None or gone.gone_at is None:
            return "Terminated"
        silent_for = self._around.clock.now() - gone.gone_at
        if silent_for >= DESTROYED_AFTER:
            return "Terminated"
        return "Unresponsive" if silent_for >= UNRESPONSIVE_AFTER else "Ready"

    def refresh(self, activity_id: str) -> Activity | None:
        """Take over an exe-unit's usage, and its end if it ended by itself."""
        running = self._running.get(activity_id)
        activity = self._around.books.activities.get(activity_id)
        if running is None or activity is None:
            return activity
        usage = running.unit.usage()
        current = activity.changed(
            cpu_seconds=max(activity.cpu_seconds, usage.cpu_seconds),
            duration_seconds=max(activity.duration_seconds, usage.duration_seconds),
        )
        vanished = running.unit.has_vanished
        if _has_ended(running.unit):
            del self._running[activity_id]
            current = current.changed(
                ended_at=self._around.clock.now(),
                reason=running.unit.reason,
                error_message=running.unit.error_message,
            )
        if current != activity:
            self._around.books.commit(current)
        if vanished:
            running.gone_at = current.ended_at
            self._gone[activity_id] = running
        if current.ended_at is not None:
            self._ended()
        if vanished and self._deadly is not None:
            fault, self._deadly = self._deadly, None
            self._died(fault)
        return current

    async def destroy(
        self, activity_id: str, reason: str | None = None, message: str | None = None
    ) -> None:
        """End an activity: its processes are gone when this returns. Idempotent."""
        running = self._running.get(activity_id)
        if running is not None:
            await running.unit.terminate(reason, message)
            self.refresh(activity_id)

    async def destroy_all(self, agreement_id: str | None = None) -> None:
        """End all activities (of one agreement, if given)."""
        await asyncio.gather(
            *(
                self.destroy(running.activity_id)
                for running in list(self._running.values())
                if agreement_id in (None, running.agreement_id)
            )
        )

    async def vanish(self) -> None:
        """Lose all exe-units at once, as when the provider's machine dies."""
        lost = list(self._running.values())
        await asyncio.gather(*(running.unit.vanish() for running in lost))
        for running in lost:
            self.refresh(running.activity_id)

    async def _await_end(self, activity_id: str, unit: ExeUnit) -> None:
        await unit.wait_gone()
        self.refresh(activity_id)

    async def _perhaps_fail(self, timeout_seconds: float) -> None:
        fault = self._faults.fires(ActivityCreateFails)
        if fault is None:
            return
        if fault.status == 408:
            await asyncio.sleep(timeout_seconds)
            raise Refusal(408, "Timeout")
        raise endpoint_not_found(f"/net/{self._node_id}/activity/CreateActivity")

    def _container(self, activity_id: str, agreement: Agreement) -> ContainerSpec:
        fleet, demand = self._around.fleet, agreement.demand["properties"]
        spec = ContainerSpec(
            directory=self._around.activities_directory / activity_id,
            isolation=fleet.runtime.isolation,
            pace=self._model.pace,
            memory_bytes=int(self._model.memory_gib * 2**30),
            storage_bytes=int(self._model.storage_gib * 2**30),
        )
        if fleet.runtime.kind == "image":
            package = package_of(demand)
            if package is None:
                raise Refusal(500, "The exe-unit could not be started: the demand names no image")
            return replace(spec, image=package)
        image = image_of(demand, fleet.images)
        spec = replace(
            spec,
            root=image.root,
            volumes=image.volumes,
            working_dir=image.working_dir,
            environment={**self._around.command_environment, **image.environment},
        )
        return self._with_own_programs(spec)

    def _with_own_programs(self, spec: ContainerSpec) -> ContainerSpec:
        """Put the provider's own programs and shared folder into a container."""
        model, environment = self._model, dict(spec.environment)
        visible: tuple[Path, ...] = ()
        if model.programs:
            folder = self._around.activities_directory.parent / "programs" / model.name
            path = install_programs(folder, model.programs, environment["PATH"])
            environment["PATH"], visible = path, (folder,)
        if model.shared is not None:
            model.shared.mkdir(parents=True, exist_ok=True)
            environment["MOCK_GOLEM_SHARED"] = str(model.shared)
        return replace(
            spec, environment=environment, visible_folders=visible, shared_folder=model.shared
        )

    def _command_faults(self, command: str) -> CommandFaults:
        if command == "deploy":
            return CommandFaults(hang=self._faults.fires(DeployHangs) is not None)
        if command == "transfer_out":
            return CommandFaults(tamper=self._tamper(consistent=False))
        if command != "run":
            return CommandFaults()
        dies = self._faults.fires(DiesInCommand)
        fails = self._faults.fires(CommandFails)
        hangs = self._faults.fires(CommandHangs)
        tamper = self._tamper(consistent=True)
        if dies is not None:
            self._deadly = dies
        return CommandFaults(
            hang=hangs is not None,
            exit_code=None if fails is None else fails.exit_code,
            die=dies is not None,
            die_after_seconds=0.0 if dies is None else dies.after_seconds,
            tamper=tamper,
        )

    def _tamper(self, *, consistent: bool) -> Tamper | None:
        fault = self._faults.fires(ResultTampered, lambda one: one.consistent == consistent)
        if fault is None:
            return None
        return Tamper(
            kind=fault.tamper,
            seed=self._around.fleet.seed,
            huge_bytes=fault.huge_bytes,
            consistent=fault.consistent,
        )


def _has_ended(unit: ExeUnit) -> bool:
    return unit.has_vanished or unit.state == "Terminated"


def not_approved(agreement: Agreement) -> Refusal:
    """Return yagna's answer to an activity under an agreement that is not in force."""
    return Refusal(
        400,
        f"Bad request: Agreement {agreement.agreement_id} is not Approved. "
        f"Current state: {agreement.state}",
    )
