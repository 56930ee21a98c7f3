"""Prefetch profiles: a session records them; files carry them to other images."""

import errno
import json
from pathlib import Path
from typing import Unpack

import pytest

import fvd
from fvd.types import ImageOptions
from support import KIB, MIB, fvd_command
from support.disks import random_disk

ROOM: ImageOptions = {"prefetch_profile_size": 4096}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return random_disk(tmp_path / "base.raw", 4 * MIB, seed=1)


def overlay(base: Path, name: str, size: int | None = None, **options: Unpack[ImageOptions]) -> Path:
    path = base.parent / name
    fvd.create(path, size, backing_file=base.name, backing_format="raw", options=options)
    return path


def record(base: Path, *reads: tuple[int, int]) -> Path:
    path = overlay(base, "recorded.fvd", generate_prefetch_profile=True)
    with fvd.open(path, "r+") as image:
        for offset, count in reads:
            image.pread(count, offset)
    return path


def test_an_image_without_options_has_no_room_and_no_profile(base: Path) -> None:
    path = overlay(base, "plain.fvd")
    profile = fvd.profile(path)
    assert (profile["capacity"], profile["entries"], profile["recording"]) == (0, [], False)
    fvd.clear_profile(path)
    assert "prefetch-profile" not in fvd.info(path)["format-specific"]["data"]


def test_a_session_records_what_it_needs_of_the_base(base: Path) -> None:
    path = record(base, (2 * MIB, 5000), (100, 1), (2 * MIB + 8192, 1))
    profile = fvd.profile(path)
    assert profile["entries"] == [(2 * MIB, 8192), (0, 4096), (2 * MIB + 8192, 4096)]
    assert (profile["bytes"], profile["unit"], profile["virtual-size"]) == (16384, 4096, 4 * MIB)
    assert fvd.info(path)["format-specific"]["data"]["prefetch-profile"] == {
        "size": 64 * KIB,
        "entries": 3,
        "generate": True,
        "start-delay": -1,
    }
    assert fvd.dump(path)["profile"] == [(2 * MIB, 2), (0, 1), (2 * MIB + 8192, 1)]
    assert fvd.dump(path, limit=2)["truncated"] == ["profile"]


def test_only_a_cleared_profile_is_recorded_again(base: Path) -> None:
    path = record(base, (0, 1))
    for cleared, expected in ((False, [(0, 4096)]), (True, [(MIB, 4096)])):
        if cleared:
            fvd.clear_profile(path)
            assert fvd.profile(path)["recording"]
        with fvd.open(path, "r+") as image:
            image.pread(1, MIB)
        assert fvd.profile(path)["entries"] == expected
    assert not fvd.profile(path)["recording"]


def test_a_conversion_records_no_profile(base: Path) -> None:
    target = base.parent / "converted.fvd"
    fvd.convert(
        base,
        target,
        target_format="fvd",
        backing_file=base.name,
        backing_format="raw",
        options={"generate_prefetch_profile": True, "block_size": 1 << 20},
    )
    assert fvd.profile(target)["entries"] == []
    assert fvd.profile(target)["recording"]


def test_a_profile_is_exported_to_a_file_and_imported(base: Path) -> None:
    first = record(base, (MIB, 4096), (0, 8192))
    file = base.parent / "profile.json"
    exported = fvd.export_profile(first, file)
    assert json.loads(file.read_text()) == {
        "fvd-profile": 1,
        "disk-size": 4 * MIB,
        "unit": 4096,
        "entries": [[MIB, 4096], [0, 8192]],
    }
    second = overlay(base, "second.fvd", profile_directed_prefetch_start_delay=0)
    for _ in range(2):
        taken = fvd.import_profile(second, file)
        assert taken == {"entries": 2, "bytes": 12288, "beyond_disk": 0, "no_room": 0}
        assert fvd.profile(second)["entries"] == exported["entries"]


def test_an_import_is_cut_to_the_disk_and_the_capacity(base: Path) -> None:
    file = base.parent / "profile.json"
    entries = [[4 * MIB - 8192, 65536], [5 * MIB, 4096], *([n * 8192, 4096] for n in range(400))]
    file.write_text(json.dumps({"fvd-profile": 1, "entries": entries}))
    path = overlay(base, "second.fvd", **ROOM)
    taken = fvd.import_profile(path, file)
    assert taken == {"entries": 341, "bytes": 341 * 4096 + 4096, "beyond_disk": 2, "no_room": 60}
    stored = fvd.profile(path)["entries"]
    assert stored[:2] == [(4 * MIB - 8192, 8192), (0, 4096)]
    said = fvd_command("profile", "import", path, file)
    assert said.stdout == b"Imported 341 entries, 1.34 MiB (1400832 bytes)\n"
    assert said.stderr.decode().splitlines()[-2:] == [
        "fvd: note: the disk is smaller: 2 entries were cut or left out",
        "fvd: note: the image has no more room: 60 entries were left out",
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("\xff", "not JSON"),
        ("[]", "'fvd-profile' is missing"),
        ('{"entries": []}', "'fvd-profile' is missing"),
        ('{"fvd-profile": 2, "entries": []}', "version is 2"),
        ('{"fvd-profile": true, "entries": []}', "version is True"),
        ('{"fvd-profile": 1}', "'entries' is not a list"),
        ('{"fvd-profile": 1, "entries": [[0, 1], [0]]}', r"entry 1 is \[0\]"),
        ('{"fvd-profile": 1, "entries": [[-1, 1]]}', "entry 0"),
        ('{"fvd-profile": 1, "entries": [[0, 9223372036854775808]]}', "entry 0"),
        ('{"fvd-profile": 1, "entries": [[0, 1.5]]}', "entry 0"),
        ('{"fvd-profile": 1, "entries": [[false, 1]]}', "entry 0"),
        ('{"fvd-profile": 1, "entries": ["ab"]}', "entry 0"),
    ],
)
def test_a_bad_profile_file_is_refused_and_the_old_one_stays(base: Path, text: str, reason: str) -> None:
    path = record(base, (0, 1))
    file = base.parent / "profile.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=f"{file}: not a prefetch profile: .*{reason}"):
        fvd.import_profile(path, file)
    assert fvd.profile(path)["entries"] == [(0, 4096)]


def test_an_import_without_capacity_says_what_would_help(base: Path) -> None:
    file = base.parent / "profile.json"
    fvd.export_profile(record(base, (0, 1)), file)
    path = overlay(base, "plain.fvd")
    with pytest.raises(ValueError, match=r"no room for a prefetch profile.*prefetch_profile_size"):
        fvd.import_profile(path, file)


def test_a_profile_is_not_replaced_under_an_open_image(base: Path) -> None:
    path = record(base, (0, 1))
    with fvd.open(path, "r+"), pytest.raises(fvd.InUseError):
        fvd.clear_profile(path)


def test_options_without_a_base_or_room_are_refused(tmp_path: Path, base: Path) -> None:
    needing: tuple[ImageOptions, ...] = (
        ROOM,
        {"generate_prefetch_profile": True},
        {"profile_directed_prefetch_start_delay": 0},
    )
    for options in needing:
        with pytest.raises(ValueError, match="needs a backing file"):
            fvd.create(tmp_path / "x.fvd", MIB, options=options)
    with pytest.raises(ValueError, match="prefetch_profile_size must be larger than 0"):
        overlay(base, "x.fvd", generate_prefetch_profile=True, prefetch_profile_size=0)
    assert not (tmp_path / "x.fvd").exists()


def test_room_for_a_profile_changes_nothing_else(base: Path) -> None:
    plain, roomy = overlay(base, "plain.fvd"), overlay(base, "roomy.fvd", **ROOM)
    without, with_room = fvd.dump(plain)["header"], fvd.dump(roomy)["header"]
    changed = {name for name in without if without[name] != with_room[name]}
    assert changed == {"metadata_size", "prefetch_profile_offset"}
    assert with_room["metadata_size"] == without["metadata_size"] + 4096
    assert with_room["prefetch_profile_offset"] == without["metadata_size"]
    content = base.read_bytes()
    with fvd.open(roomy, "r+") as image:
        image.pwrite(b"x" * 1000, 12345)
        assert image.pread(image.size, 0) == content[:12345] + b"x" * 1000 + content[13345:]
    assert fvd.check(roomy)["corruptions"] == 0


def test_the_command_shows_and_clears(base: Path) -> None:
    path = record(base, (MIB, 1))
    shown = fvd_command("profile", "show", path).stdout.decode().splitlines()
    assert shown[1:] == [
        "room: 5461 entries, in units of 4096 bytes",
        "profile: 1 entries, 4 KiB (4096 bytes)",
        "Offset          Length",
        "0x100000        0x1000",
    ]
    document = json.loads(fvd_command("profile", "show", "--output=json", path).stdout)
    assert document == {**fvd.profile(path), "entries": [[MIB, 4096]]}
    file = base.parent / "exported"
    assert fvd_command("profile", "export", "-q", path, file).stdout == b""
    assert fvd_command("profile", "clear", path).stdout == b"Cleared\n"
    assert fvd_command("profile", "export", path, file).stdout == b"Exported 0 entries, 0 B (0 bytes)\n"
    assert b"none, and no room" in fvd_command("profile", "show", overlay(base, "plain.fvd")).stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Expecting one of show, export, import, clear"),
        (["list", "x"], "Expecting one of show, export, import, clear, not 'list'"),
        (["show"], "show: Expecting FILENAME"),
        (["export", "x"], "export: Expecting FILENAME and FILE"),
        (["clear", "-U", "x"], "An image that is changed cannot be shared: use either clear or -U"),
        (["import", "{image}", "missing"], "Could not import 'missing': No such file or directory"),
        (["export", "{image}", "no/such"], "Could not export 'no/such': No such file or directory"),
        (["show", "missing"], "Could not open 'missing': No such file or directory"),
    ],
)
def test_the_command_refuses_in_one_line(base: Path, arguments: list[str], complaint: str) -> None:
    image = record(base, (0, 1)).name
    given = [image if word == "{image}" else word for word in arguments]
    done = fvd_command("profile", *given, cwd=base.parent, ok=(1,))
    lines = [line for line in done.stderr.decode().splitlines() if line.startswith("fvd: ")]
    assert lines == [f"fvd: {complaint}"]


def test_a_failed_export_names_the_file_that_was_given(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = overlay(base, "overlay.fvd"), tmp_path / "missing" / "profile"
    for given in (target, str(target)):
        with pytest.raises(FileNotFoundError) as caught:
            fvd.export_profile(path, given)
        assert (caught.value.filename, caught.value.filename2) == (str(target), None)
    said = fvd_command("profile", "export", path, target, ok=[1]).stderr.decode()
    assert said == f"fvd: Could not export '{target}': No such file or directory\n"

    def fails(_new: str, _target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", _new, None, _target)

    # The last step fails.
    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(PermissionError) as denied:
        fvd.export_profile(path, tmp_path / "profile")
    assert (denied.value.filename, denied.value.filename2) == (str(tmp_path / "profile"), None)
    assert not list(tmp_path.glob("profile*"))


def test_an_export_overwrites_profiles_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "base.raw").write_bytes(b"x" * MIB)
    path = tmp_path / "disk.fvd"
    options: ImageOptions = {"generate_prefetch_profile": True}
    fvd.create(path, backing_file="base.raw", backing_format="raw", options=options)
    for victim in (path, tmp_path / "base.raw"):
        before = victim.read_bytes()
        with pytest.raises(ValueError, match="is no prefetch profile, so it is not overwritten"):
            fvd.export_profile(path, victim)
        assert victim.read_bytes() == before
    target = tmp_path / "profile"
    fvd.export_profile(path, target)
    first = target.read_text()
    fvd.export_profile(path, target)
    assert target.read_text() == first
    assert fvd_command("profile", "export", path, "-").stdout.decode() == first
