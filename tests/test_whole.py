"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from store_fixtures import configuration, host

from definet_flows.atomic import new_folder, replacing, write_whole
from definet_flows.defects import write_configurations
from definet_flows.errors import InputError

_SMALL_DISK = """
import resource, signal, sys
from pathlib import Path
from definet_flows.atomic import write_whole
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_whole(Path(sys.argv[1]), "x" * 1_000_000)
except ValueError as error:
    print(error)
"""

_KILLED = """
import os, signal, sys
from pathlib import Path
from definet_flows.atomic import replacing
with replacing(Path(sys.argv[1])) as part, part.open("w") as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run(code, path):
    return subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("before")
    return path


def test_a_file_is_replaced_with_the_mode_of_the_umask(path):
    before = os.umask(0o027)
    try:
        write_whole(path, "Å")
    finally:
        os.umask(before)
    assert path.read_bytes() == "Å".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(path.parent.iterdir()) == [path]


def test_killed_while_writing(path):
    assert run(_KILLED, path).returncode == -signal.SIGKILL
    assert path.read_text() == "before"
    write_whole(path, "after")  # what the killed process left is in nobody's way
    assert path.read_text() == "after"
    with new_folder(path.with_name("set.part")) as part:
        (part / "one").touch()


def test_a_disk_that_is_full(path):
    """The system refuses to write more; a limit of the process is what a test can set without a disk of its own."""
    told = run(_SMALL_DISK, path)
    assert told.stdout == f"{path} cannot be written (File too large): name another place\n", told.stderr
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_whatever_goes_wrong_in_the_block_leaves_what_was_there(path):
    def write_half(error):
        with replacing(path) as part:
            part.write_text("half")
            raise error

    with pytest.raises(InputError, match=r"page\.html cannot be written \(No space left on device\)"):
        write_half(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        write_half(KeyboardInterrupt())
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_do_not_mix(path, monkeypatch):
    with replacing(path) as first:
        first.write_text("first")
        monkeypatch.setattr(os, "getpid", lambda: 1)
        write_whole(path, "second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


@pytest.mark.parametrize("place", ["no/such/page.html", "page.html/page.html", "folder"])
def test_places_that_take_no_file(path, place):
    (path.parent / "folder").mkdir()
    with pytest.raises(InputError, match=r"name (a file|another place)"):
        write_whole(path.parent / place, "text")


def test_a_folder_is_whole_and_new(tmp_path):
    def fill(error=None):
        with new_folder(tmp_path / "set") as part:
            (part / "one").touch()
            if error:
                raise error

    with pytest.raises(InputError, match="No space left"):
        fill(OSError(28, "No space left on device"))
    assert not list(tmp_path.iterdir())
    fill()
    assert [one.name for one in (tmp_path / "set").iterdir()] == ["one"]
    with pytest.raises(InputError, match="is there already"):
        fill()


def test_a_link_stays_and_its_target_is_replaced(path):
    link, second = path.with_name("link"), path.with_name("second")
    link.symlink_to("page.html")
    second.symlink_to(link)
    write_whole(second, "after")
    assert path.read_text() == "after"
    assert (second.is_symlink(), link.is_symlink()) == (True, True)
    assert not path.is_symlink()


def test_a_link_in_another_folder_to_nothing_makes_its_target(path):
    (path.parent / "far").mkdir()
    link = path.parent / "far" / "link"
    link.symlink_to("../new.html")
    write_whole(link, "new")
    assert (path.parent / "new.html").read_text() == "new"
    assert link.is_symlink()
    link.unlink()
    link.symlink_to("/no/such/folder/new.html")
    with pytest.raises(InputError, match="cannot be written"):
        write_whole(link, "new")


def no_file(folder, kind):
    place = folder / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(place))
        server.close()
    elif kind == "circle":
        place.symlink_to("circle")
    elif kind == "link to a device":
        place.symlink_to("/dev/null")
    elif kind == "link to a folder":
        place.symlink_to(folder)
    else:
        return Path(kind)
    return place


@pytest.mark.parametrize(
    "kind",
    [
        "pipe",
        "socket",
        "circle",
        "link to a device",
        "link to a folder",
        "/dev/null",
        "/dev/full",
        "/dev/stdout",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "zero\0byte",
    ],
)
def test_what_is_no_plain_file_is_left_as_it_is(tmp_path, kind):
    place = no_file(tmp_path, kind)
    before = place.lstat() if "\0" not in kind else None
    with pytest.raises(InputError, match=r"name (a file|another place)"):
        write_whole(place, "text")
    if before is not None:
        assert (place.lstat().st_mode, place.lstat().st_ino) == (before.st_mode, before.st_ino)
    assert not list(tmp_path.glob("*.part"))


def test_a_folder_takes_no_place_of_a_link(tmp_path):
    (tmp_path / "link").symlink_to("nothing")
    with pytest.raises(InputError, match="is there already"), new_folder(tmp_path / "link"):
        pass


@pytest.mark.parametrize("name", ["out.jsonl", "out.extxyz", "out"])
def test_configurations_are_written_through_a_link(tmp_path, name):
    (tmp_path / "far").mkdir()
    target = tmp_path / "far" / name
    if "." not in name:
        target.mkdir()
    (tmp_path / name).symlink_to(target)
    assert write_configurations(tmp_path / name, host(), [configuration()]) == 1
    assert (tmp_path / name).is_symlink()
    assert target.is_dir() if "." not in name else target.stat().st_size > 0


@pytest.mark.parametrize("name", ["null.jsonl", "null"])
def test_configurations_take_no_place_of_a_device(tmp_path, name):
    (tmp_path / name).symlink_to("/dev/null")
    with pytest.raises(InputError, match=r"device|exists already"):
        write_configurations(tmp_path / name, host(), [configuration()])
    assert stat.S_ISCHR((tmp_path / name).stat().st_mode)
