"""Is CUDA to be had here, and if not, why not? The one place that imports the built module.

The module has CUDA's runtime inside and opens the driver when it is first asked for something, so
it can be imported anywhere; where nvcc was missing at installation there is no module at all.
"""

import importlib
from types import ModuleType

from native_kernels.cuda.errors import KernelError, UnavailableError

__all__ = ["device_count", "module", "require_device", "status"]

NOT_BUILT = "not built: nvcc was not found when this was installed, or DERL_CUDA=OFF was set"
ABSENT = {
    "cudaErrorNoDevice": "no device: this machine has no GPU that CUDA can see",
    "cudaErrorInsufficientDriver": (
        "no device: this machine has no NVIDIA driver, or one older than the kernels need"
    ),
}


def module() -> ModuleType:
    """Return ``native_kernels._cuda``; raises UnavailableError where it was not built."""
    try:
        return importlib.import_module("native_kernels._cuda")
    except ModuleNotFoundError as error:
        if error.name == "native_kernels._cuda":
            raise UnavailableError(NOT_BUILT) from None
        raise UnavailableError(f"not loadable: {error}") from error
    except ImportError as error:
        raise UnavailableError(f"not loadable: {error}") from error


def device_count() -> int:
    """How many CUDA devices there are; raises UnavailableError with the reason if none."""
    try:
        count = int(module().device_count())
    except KernelError as error:
        name = str(error).partition(":")[0]
        raise UnavailableError(ABSENT.get(name, f"no device: {error}")) from error
    if count == 0:
        raise UnavailableError(ABSENT["cudaErrorNoDevice"])
    return count


def require_device() -> ModuleType:
    """Return ``native_kernels._cuda`` where it can run; raises UnavailableError elsewhere."""
    device_count()
    return module()


def status() -> str:
    """One line: "ready: …" with the devices, or what is missing. Never raises for an absent GPU."""
    try:
        count = device_count()
    except UnavailableError as error:
        return str(error)
    devices = [module().describe(device) for device in range(count)]
    names = ", ".join(f"{one['name']} (sm_{one['compute_capability']})" for one in devices)
    driver = devices[0]["driver"]
    return f"ready: {names}; driver for CUDA {driver // 1000}.{driver % 1000 // 10}"
