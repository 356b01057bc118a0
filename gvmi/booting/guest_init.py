"""What the virtual machine does once its kernel runs: a script for busybox's shell, as process 1.

It builds the root that a container on Golem has, runs one command in it and switches off. To the
host it speaks over three named virtio-serial ports: the command's output, its errors, and `status`,
one line each: `up`, `failed WHAT`, `exit CODE`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

OUTPUT_PORT, ERROR_PORT, STATUS_PORT = "derl.output", "derl.errors", "derl.status"
PORTS = (OUTPUT_PORT, ERROR_PORT, STATUS_PORT)
MODULE_FOLDER = "modules"
UPPER_LAYER_MEBIBYTES = 128
"""What may be written to the root of a container on Golem (golem-wire 5.5)."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCRIPT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /image /upper /root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in @MODULES@; do
    insmod "/{MODULE_FOLDER}/$module.ko" || echo "derl: module $module: not loaded"
done

port() {{
    for port in /sys/class/virtio-ports/*; do
        if [ "$(cat "$port/name")" = "$1" ]; then echo "/dev/${{port##*/}}"; fi
    done
}} 2>/dev/null
tries=200
until [ -c "$(port {OUTPUT_PORT})" ] && [ -c "$(port {ERROR_PORT})" ] &&
    [ -c "$(port {STATUS_PORT})" ] && [ -b /dev/vda ]; do
    tries=$((tries - 1))
    if [ $tries -eq 0 ]; then echo "derl: no ports or no disk"; poweroff -f; fi
    usleep 50000
done
exec 3>"$(port {STATUS_PORT})"
echo up >&3
end() {{ echo "$*" >&3; poweroff -f; }}
must() {{ "$@" || end "failed $*"; }}

must mount -t squashfs -o ro,nodev /dev/vda /image
must mount -t tmpfs -o size={UPPER_LAYER_MEBIBYTES}m,mode=0755 upper /upper
mkdir /upper/files /upper/work
must mount -t overlay -o lowerdir=/image,upperdir=/upper/files,workdir=/upper/work overlay /root
root=/root
mkdir -p $root/proc $root/sys $root/dev $root/tmp
must mount -t proc proc $root/proc
must mount -t sysfs sys $root/sys
must mount -t devtmpfs dev $root/dev
mkdir -p $root/dev/pts $root/dev/shm
must mount -t devpts devpts $root/dev/pts
must mount -t tmpfs -o mode=1777 shm $root/dev/shm
must mount -t tmpfs -o mode=1777 tmp $root/tmp
for volume in @VOLUMES@; do
    must mkdir -p "$root$volume"
    must mount -t tmpfs -o mode=0755 volume "$root$volume"
done
must mkdir -p "$root"@WORKING_DIR@
hostname golem
ip link set lo up
env -i @ENVIRONMENT@ \\
    /bin/busybox nsenter -r$root -w"$root"@WORKING_DIR@ -F -- @COMMAND@ \\
    </dev/null >"$(port {OUTPUT_PORT})" 2>"$(port {ERROR_PORT})" 3>&-
end "exit $?"
"""


@dataclass(frozen=True)
class GuestTask:
    """What is to be run in the container, and in which surroundings."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = "/"
    volumes: Sequence[str] = ()


def init_script(task: GuestTask, modules: Iterable[str]) -> str:
    """Return the script of process 1; a variable whose name no shell knows is left out.

    Nothing of the task is ever read as shell: it may come from a stranger's image.
    """
    variables = [
        f"{name}={value}" for name, value in task.environment.items() if _VARIABLE.fullmatch(name)
    ]
    # outer volumes first, lest they hide inner ones
    volumes = sorted(task.volumes)
    words = {
        "MODULES": shlex.join(modules),
        "VOLUMES": shlex.join(volumes),
        "WORKING_DIR": shlex.quote(task.working_dir),
        "ENVIRONMENT": shlex.join(variables),
        "COMMAND": shlex.join(task.command),
    }
    return re.sub(r"@([A-Z_]+)@", lambda found: words[found[1]], _SCRIPT)
