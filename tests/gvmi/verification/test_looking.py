"""Looking into images without running them: a good one, and each way of being bad, by name."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gvmi.errors import BadImage
from gvmi.image_lock import LockedImage, write_locked
from gvmi.verification import content
from gvmi.verification.looking import Looked, look_into
from gvmi.verification.squashfs import parse_line
from gvmi.verification.tree import Tree
from requestor.mock_golem.images.gvmi_file import (
    ContainerSettings,
    GvmiFile,
    Squashfs,
    image_hash,
)
from tests.gvmi.verification.conftest import PYC, SETTINGS, SITE, SOURCES, MakeImage, bill


def look(image: Path, lock: Path | None = None, variant: Any = None) -> Looked:
    return look_into(image, lock or image.parent / "no.lock.yaml", variant, lambda done: None)


def told(looked: Looked) -> dict[str, list[str]]:
    """Texts of the deviations by check."""
    found: dict[str, list[str]] = {}
    for deviation in looked.deviations:
        found.setdefault(deviation.check, []).append(deviation.text)
    return found


def test_a_good_image_passes_and_is_described(make_image: MakeImage) -> None:
    image = make_image()
    hashed: list[int] = []
    looked = look_into(image, image.parent / "no.lock", None, hashed.append)
    assert told(looked) == {}
    assert looked.skipped == {"lock": "no image native is locked in no.lock"}
    facts = looked.facts
    assert (facts.variant, facts.sources, facts.cuda) == ("native", SOURCES, "no")
    assert (facts.sha3, facts.size_bytes) == (image_hash(image), image.stat().st_size)
    assert hashed[-1] == facts.size_bytes
    assert (facts.compression, facts.packages) == ("gzip", 1)
    names, sizes = zip(*facts.largest, strict=True)
    assert {"tiny-pack", "/opt/derl/share", "/usr/bin", "/usr/lib/python3.11"} <= set(names)
    assert sum(sizes) == facts.unpacked_bytes
    assert dict(facts.largest)["tiny-pack"] == len("x = 1\n") + len(PYC) + len("Name: tiny.pack\n")


@pytest.mark.parametrize(
    ("definition", "check", "text"),
    [
        ("dev/sda b 600 0 0 8 0", "devices", "/dev/sda is a block device"),
        ("dev/mem c 600 0 0 1 1", "devices", "/dev/mem is a character device"),
        ("run/door i 600 0 0 f", "devices", "/run/door is a named pipe"),
        ("run/door i 600 0 0 s", "devices", "/run/door is a socket"),
        ("usr/bin/su f 4755 0 0 echo x", "privileges", "/usr/bin/su has the mode rwsr-xr-x"),
        ("usr/bin/wall f 2755 0 0 echo x", "privileges", "/usr/bin/wall has the mode rwxr-sr-x"),
        ("usr/bin/S f 4644 0 0 echo x", "privileges", "/usr/bin/S has the mode rwSr--r--"),
        ("etc/a s 777 0 0 /etc/passwd", "links", "/etc/a is an absolute link to /etc/passwd"),
        ("etc/a s 777 0 0 ../../x", "links", "/etc/a leads out of the image: ../../x"),
        ("etc/a s 777 0 0 ../usr/../../usr", "links", "/etc/a leads out of the image"),
        # `bin` is a link itself: the way goes up from where it leads
        ("b s 777 0 0 bin/../../../x", "links", "/b leads out of the image"),
        ("b s 777 0 0 not/there/../../../x", "links", "/b leads out of the image"),
        ("etc/id_ed25519 f 600 0 0 echo x", "secrets", "/etc/id_ed25519 looks like a key"),
        (".env f 600 0 0 echo x", "secrets", "/.env looks like a key or credentials"),
        ("etc/.ssh d 700 0 0", "secrets", "/etc/.ssh is a folder of credentials"),
        ("golem/work/x f 644 0 0 echo x", "volumes", "/golem/work/x is hidden by the volume"),
    ],
)
def test_what_is_refused_by_its_name(
    make_image: MakeImage, definition: str, check: str, text: str
) -> None:
    folder = definition.split("/", maxsplit=1)[0] if "/" in definition.split(maxsplit=1)[0] else ""
    pseudo = [f"{folder} d 755 0 0"] if folder in ("dev", "run", "etc") else []
    found = told(look(make_image(pseudo=[*pseudo, definition])))
    assert found.keys() == {check}
    assert found[check][0].startswith(text), found


@pytest.mark.parametrize(
    "target", ["../usr/bin/dash", "..", "../nowhere", "a", "../bin/../../usr/lib"]
)
def test_links_that_stay_inside_are_taken(make_image: MakeImage, target: str) -> None:
    pseudo = ["etc d 755 0 0", f"etc/a s 777 0 0 {target}"]
    assert told(look(make_image(pseudo=pseudo))) == {}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"esc\x1b[31m", r"/esc\x1b[31m has letters"),
        (b"not-utf8\xff", r"/not-utf8\udcff has letters"),
        (b"bell\x07", r"/bell\x07 has letters"),
        ("rtl\u202egpj".encode(), r"/rtl\u202egpj has letters"),
        (b" blank", "/ blank begins or ends with a blank"),
        (b"back\\slash", "/back\\slash has a backslash"),
    ],
)
def test_strange_names(make_image: MakeImage, name: bytes, shown: str) -> None:
    def change(root: Path) -> None:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_text("")

    (text,) = told(look(make_image(change=change)))["names"]
    assert text.startswith(shown)


@pytest.mark.parametrize(
    "name", ["a\nb", "\n", "a\n-rwxr-xr-x 0/0 5 2026-11-20 14:06 squashfs-root/forged"]
)
def test_a_name_that_forges_a_line_refuses_the_file(make_image: MakeImage, name: str) -> None:
    def change(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")

    with pytest.raises(BadImage, match="strange line"):
        look(make_image(change=change))


def test_a_link_whose_name_cannot_be_told_refuses_the_file(make_image: MakeImage) -> None:
    def change(root: Path) -> None:
        (root / "a -> b").symlink_to("c")

    with pytest.raises(BadImage, match="strange line"):
        look(make_image(change=change))


def sparse(size: int) -> Callable[[Path], None]:
    """A file that is one hole."""

    def change(root: Path) -> None:
        with (root / "zeros").open("wb") as file:
            file.truncate(size)

    return change


def test_a_decompression_bomb(make_image: MakeImage) -> None:
    (text,) = told(look(make_image(change=sparse(200 << 20))))["size"]
    assert text.endswith("times as many; at most 25 times are believed")


def test_a_file_of_a_hundred_gigabytes_is_named_before_it_is_unpacked() -> None:
    lines = [
        "drwxr-xr-x 0/0                   3 2026-11-20 14:06 P",
        f"-rw-r--r-- 0/0        {100 << 30} 2026-11-20 14:06 P/bomb",
    ]
    entries = [entry for line in lines if (entry := parse_line(line, "P")) is not None]
    squashfs = Squashfs("gzip", 2, 131072, 0, 5_000)
    image = GvmiFile(Path("x"), 5_100, squashfs, ContainerSettings({}, "/", (), "root", {}))
    texts = [one.text for one in content.dangers(Tree(entries), image) if one.check == "size"]
    assert texts[0].startswith("/bomb unpacks to 107374182400 bytes")
    assert texts[1].startswith("the image unpacks to 107374182400 bytes")
    assert "21474836 times as many" in texts[2]


def test_hard_links_are_counted(make_image: MakeImage) -> None:
    def change(root: Path) -> None:
        for number in range(1001):
            os.link(root / "usr/bin/dash", root / f"dash{number}")

    found = told(look(make_image(change=change)))
    assert found == {"hard links": ["1001 names are further hard links; at most 1000 are taken"]}


def test_inodes_without_a_name(make_image: MakeImage) -> None:
    image = make_image()
    whole = bytearray(image.read_bytes())
    whole[4] += 7  # the superblock's number of inodes
    image.write_bytes(whole)
    assert told(look(image)) == {"hard links": ["7 inodes of the squashfs have no name"]}


@pytest.mark.parametrize(
    ("files", "check", "text"),
    [
        ({"usr/bin/dash": None}, "needed", "/bin/sh (the shell that starts commands) is missing"),
        ({"usr/bin/python3.11": None}, "needed", "/opt/derl/bin/python3 (Python) is missing"),
        ({"opt/derl/bin/derl-worker": None}, "needed", "/opt/derl/bin/derl-worker (the worker)"),
        ({"opt/derl/share/image.json": None}, "needed", "/opt/derl/share/image.json (what"),
        ({"opt/derl/share/image.json": "{"}, "settings", "/opt/derl/share/image.json is no JSON"),
        ({"opt/derl/share/image.json": "{}"}, "settings", "variant is 'None' in image.json"),
        ({f"{SITE}/more.py": "x"}, "compiled", f"/{SITE}/more.py has no .pyc of python3.11"),
        ({"usr/lib/python3.11/re.py": "x"}, "compiled", "/usr/lib/python3.11/re.py has no .pyc"),
        ({"usr/lib/python3.11/os.py": "xx"}, None, ""),  # its byte code is checked by nothing
        ({"etc/ssl/cert.pem": "-----BEGIN CERTIFICATE"}, None, ""),
        (
            {"etc/ssl/own.pem": "-----BEGIN RSA " + "PRIVATE KEY"},
            "secrets",
            "/etc/ssl/own.pem holds",
        ),
        ({"etc/ssl/own.key": ""}, "secrets", "/etc/ssl/own.key looks like a key"),
    ],
)
def test_what_is_in_the_files(
    make_image: MakeImage, files: dict[str, str | None], check: str | None, text: str
) -> None:
    found = told(look(make_image(files)))
    assert found.keys() == ({check} if check else set())
    assert check is None or found[check][0].startswith(text), found


def test_byte_code_of_another_source_is_told(make_image: MakeImage) -> None:
    stale = PYC[:4] + bytes(8) + (999).to_bytes(4, "little") + b"code"
    files = {"usr/lib/python3.11/__pycache__/os.cpython-311.pyc": stale}
    (text,) = told(look(make_image(files)))["compiled"]
    assert "os.cpython-311.pyc is not of /usr/lib/python3.11/os.py" in text


@pytest.mark.parametrize(
    ("settings", "check", "text"),
    [
        ({"WorkingDir": "/opt/derl"}, "settings", "WorkingDir is /opt/derl, which is in no volume"),
        ({"Env": ["HOME=/root"]}, "settings", "HOME is /root, which is in no volume"),
        ({"Env": ["PATH=/bin"]}, "settings", "HOME is not set; it has to lie in the volume"),
        ({"Labels": {}}, "settings", "there is no label derl.variant"),
        ({"Labels": {"derl.variant": "big"}}, "settings", "the label derl.variant is 'big'"),
        ({"Volumes": {}}, "volumes", "/golem/work is no volume of the image"),
        ({"Volumes": {"/opt": {}, "/golem/work": {}}}, "volumes", "the volume /opt would hide"),
        ({"Volumes": {"/golem/work": {}, "/bin": {}}}, "volumes", "/bin, of a volume, is not a"),
    ],
)
def test_settings_unfit_for_a_provider(
    make_image: MakeImage, settings: dict[str, Any], check: str, text: str
) -> None:
    found = told(look(make_image(settings=settings)))
    assert found[check][0].startswith(text), found


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REGISTRY_TOKEN", "abc"),
        ("YAGNA_APPKEY", "abc"),
        ("AWS_SECRET_ACCESS_KEY", "abc"),
        ("X", "ghp_" + "a1" * 18),
        ("X", "https://me:hunter2@example.org/simple"),
    ],
)
def test_secrets_in_the_settings_are_told_without_their_value(
    make_image: MakeImage, name: str, value: str
) -> None:
    for settings in (
        {"Env": [*SETTINGS["Env"], f"{name}={value}"]},
        {"Labels": SETTINGS["Labels"] | {name: value}},
    ):
        (text,) = told(look(make_image(settings=settings)))["secrets"]
        assert name in text and value not in text


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (bill("pkg:deb/debian/dash@0.5.12-2"), "tiny-pack 1.2 is in the image and not in its bill"),
        (bill("pkg:pypi/Tiny_Pack@1.3", "pkg:deb/debian/dash@0.5.12-2"), "the bill says 1.3, inst"),
        (bill("pkg:pypi/tiny-pack@1.2"), "Debian's package dash 0.5.12-2 is in the image and not"),
        (
            bill("pkg:pypi/tiny-pack@1.2", "pkg:deb/debian/dash@0.5.12-2", "pkg:pypi/gone@1"),
            "Python's gone 1 is in the bill and not in the image",
        ),
        ("{}", "it is not CycloneDX"),
        ("[" * 9999, "it is not JSON"),
        ('{"bomFormat": "CycloneDX", "components": {}}', "it has no list of components"),
    ],
)
def test_the_bill_must_be_what_is_installed(
    make_image: MakeImage, document: str, text: str
) -> None:
    found = told(look(make_image({"opt/derl/share/bill-of-materials.cdx.json": document})))
    assert found.keys() == {"bill"}
    (said,) = found["bill"]
    assert text in said


def test_without_dpkg_debian_s_packages_are_compared_by_name(make_image: MakeImage) -> None:
    files = {"var/lib/dpkg/status": None, "usr/share/doc/dash/copyright": ""}
    looked = look(make_image(files))
    assert told(looked) == {} and "by their names alone" in looked.notes[0]
    (text,) = told(look(make_image(files | {"usr/share/doc/more/copyright": ""})))["bill"]
    assert text == "Debian's package more is in the image and not in its bill"
    bare = look(make_image({"var/lib/dpkg/status": None}))
    assert told(bare) == {} and bare.notes[1] == "no copyright file is in the image of dash"


def test_the_lock_is_compared_with_and_both_are_named(make_image: MakeImage) -> None:
    image = make_image()
    lock = image.parent / "image.lock.yaml"
    named = image_hash(image)
    write_locked(LockedImage("native", named, image.stat().st_size, SOURCES, "abc"), lock)
    looked = look(image, lock)
    assert (told(looked), looked.skipped) == ({}, {})
    # one changed byte, where nothing but the hash can see it
    whole = bytearray(image.read_bytes())
    whole[whole.index(b"\0" * 40, 200) + 20] = 1  # the padding behind the squashfs
    image.write_bytes(whole)
    (text,) = told(look(image, lock))["lock"]
    assert image_hash(image) in text and named in text and named != image_hash(image)
    write_locked(LockedImage("native", image_hash(image), 5, SOURCES, "abc"), lock)
    (text,) = told(look(image, lock))["lock"]
    assert f"the size is {len(whole)} bytes; locked for native are 5" in text
    assert "lock" in look(image, lock, "sb3").skipped


def test_another_variant_than_asked_for(make_image: MakeImage) -> None:
    (text,) = told(look(make_image(), variant="sb3"))["settings"]
    assert text == "the label derl.variant is 'native'; 'sb3' was asked for"


def test_every_deviation_is_collected(make_image: MakeImage) -> None:
    image = make_image(
        files={"usr/bin/dash": None, f"{SITE}/more.py": ""},
        pseudo=["sda b 600 0 0 8 0", "su f 4755 0 0 echo x", "abs s 777 0 0 /etc"],
        settings={"Env": ["HOME=/root"]},
    )
    assert told(look(image)).keys() == {
        "devices",
        "privileges",
        "links",
        "needed",
        "settings",
        "compiled",
    }


def test_cut_off_or_damaged_anywhere_it_is_refused_or_looked_at(make_image: MakeImage) -> None:
    image = make_image()
    whole = image.read_bytes()
    chosen = random.Random(1)
    for length in [0, 1, 95, 96, *chosen.sample(range(len(whole)), 20), len(whole) - 1]:
        image.write_bytes(whole[:length])
        with pytest.raises(BadImage):
            look(image)
    for _ in range(25):
        place = chosen.randrange(4096)
        image.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            look(image)  # a changed byte of content is the hash's to find
        except BadImage as error:
            assert str(error).isprintable()
