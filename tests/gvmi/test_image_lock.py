"""The image lock: what is written comes back; what is no lock is refused by name."""

from pathlib import Path

import pytest

from gvmi.errors import BadImage
from gvmi.image_lock import LockedImage, locked_image, read_lock, write_locked

NATIVE = LockedImage("native", "0a" * 28, 41_000_000, "5" * 64, "abc1234")


def test_rows_come_back_and_a_tag_outlives_a_rebuild_of_the_same_image(tmp_path: Path) -> None:
    lock = tmp_path / "image.lock.yaml"
    assert read_lock(lock) == {}
    tagged = LockedImage("native", "0a" * 28, 41_000_000, "5" * 64, "abc1234", "me/derl:1")
    write_locked(tagged, lock)
    write_locked(LockedImage("sb3", "0b" * 28, 1, "5" * 64, "abc1234"), lock)
    write_locked(NATIVE, lock)
    assert locked_image("native", lock) == tagged
    write_locked(LockedImage("native", "0c" * 28, 2, "6" * 64, "abc1235"), lock)
    assert locked_image("native", lock).tag is None
    assert list(read_lock(lock)) == ["native", "sb3"]
    assert [path.name for path in tmp_path.iterdir()] == ["image.lock.yaml"]


def test_a_variant_that_is_not_there_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="no image 'cuda'") as error:
        locked_image("cuda", tmp_path / "image.lock.yaml")
    assert error.value.fix == "build it: derl-image build cuda"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "native: {sha3: 12}",
        "other: {}",
        f"native: {{sha3: {'0a' * 28}, size_bytes: 0, sources: a, commit: b}}",
        f"native: {{sha3: {'0a' * 28}, size_bytes: 1, sources: a, commit: b, more: 1}}",
        "{",
        "a: " + "x" * (1 << 17),
    ],
)
def test_what_is_no_lock_is_refused(tmp_path: Path, text: str) -> None:
    lock = tmp_path / "image.lock.yaml"
    lock.write_text(text)
    with pytest.raises(BadImage, match="not an image lock"):
        read_lock(lock)
