"""Which modules a boot loads, in which order, and what is said where a package has none."""

from pathlib import Path

import pytest

from gvmi.booting.kernel import load_order, needs, read_kernel
from gvmi.errors import NotToBeHad


def test_a_module_comes_after_all_that_it_needs() -> None:
    needs_of = {
        "disk": ("bus", "ring"),
        "pci": ("ring", "modern"),
        "ring": ("bus",),
        "bus": (),
        "modern": ("bus",),
        "other": ("disk",),
    }
    order = load_order(["pci", "disk"], needs_of)
    assert sorted(order) == ["bus", "disk", "modern", "pci", "ring"]
    for name in order:
        assert set(needs_of[name]) <= set(order[: order.index(name)]), name


def test_what_is_built_in_is_not_loaded() -> None:
    assert load_order(["a", "b"], {"a": ("b", "c")}, builtin=["b", "c"]) == ["a"]


def test_modules_that_need_each_other_do_not_hang_it() -> None:
    assert sorted(load_order(["a"], {"a": ("b",), "b": ("a",)})) == ["a", "b"]


def test_needs_are_read_out_of_a_module() -> None:
    information = b"\x7fELF\0license=GPL\0depends=virtio-ring,virtio\0name=virtio_blk\0"
    assert needs(information) == ("virtio_ring", "virtio")
    assert needs(b"\x7fELF\0depends=\0name=squashfs\0") == ()


def unpacked(root: Path, modules: dict[str, bytes]) -> Path:
    folder = root / "usr/lib/modules/6.1.0-9"
    for path, content in {
        root / "boot/vmlinuz-6.1.0-9": b"kernel",
        root / "usr/bin/busybox": b"busybox",
        folder / "modules.builtin": b"kernel/lib/crc-16.ko\n",
        **{folder / "kernel" / name: content for name, content in modules.items()},
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def test_a_kernel_brings_its_modules(tmp_path: Path) -> None:
    modules = {"a/x-y.ko": b"\0depends=z,crc16\0", "b/z.ko": b"\0depends=\0", "b/idle.ko": b""}
    kernel = read_kernel(unpacked(tmp_path, {**modules, "a/crc16.ko": b""}), ["x_y"])
    assert kernel.release == "6.1.0-9"
    assert set(kernel.modules) == {"x_y", "z", "crc16"}
    assert kernel.modules["x_y"].name == "x-y.ko"


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotToBeHad, match="lacks the module squashfs"):
        read_kernel(unpacked(tmp_path, {}), ["squashfs"])


def test_a_package_without_a_kernel_is_refused_with_the_way_to_one(tmp_path: Path) -> None:
    with pytest.raises(NotToBeHad, match="no boot/vmlinuz") as error:
        read_kernel(tmp_path)
    assert "cloud-amd64" in (error.value.fix or "")
