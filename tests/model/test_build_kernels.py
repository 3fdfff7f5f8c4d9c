"""How the kernels are compiled on each kind of machine, and what they leave of the process as it is."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest
from network_helpers import needs_kernels

from definet_flows.model.network import kernels


@pytest.fixture
def compiler(monkeypatch):
    """A compiler that writes down its arguments, and refuses what one on ARM does not know."""
    calls: list[list[str]] = []

    def run(command, **_):
        calls.append(command)
        arm = platform.machine() != "x86_64"
        if arm and {"-mprefer-vector-width=512", "-march=x86-64", "-lmvec"} & set(command):
            raise subprocess.CalledProcessError(1, command)
        Path(command[command.index("-o") + 1]).touch()

    monkeypatch.setattr(kernels.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(kernels.subprocess, "run", run)
    return calls


@pytest.mark.parametrize(
    ("machine", "has", "lacks"),
    [
        ("x86_64", {"-march=native", "-mprefer-vector-width=512"}, {"-mcpu=native"}),
        ("AMD64", {"-march=native", "-mprefer-vector-width=512"}, {"-mcpu=native"}),
        ("aarch64", {"-mcpu=native"}, {"-march=native", "-mprefer-vector-width=512"}),
        ("arm64", {"-mcpu=native"}, {"-march=native", "-mprefer-vector-width=512"}),
        ("riscv64", {"-O3"}, {"-march=native", "-mcpu=native", "-mprefer-vector-width=512"}),
    ],
)
def test_flags_are_those_of_the_machine(machine, has, lacks, monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    flags = set(kernels._flags())
    assert has | {"-O3", "-ffast-math", "-fopenmp", "-fPIC", "-std=c++17"} <= flags
    assert not lacks & flags


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_library_is_made_where_the_compiler_knows_no_flag_of_another_machine(
    machine, compiler, tmp_path, monkeypatch
):
    monkeypatch.setattr(platform, "machine", lambda: machine)
    kernels._build(tmp_path / "cache" / "kernels.so")
    assert (tmp_path / "cache" / "kernels.so").exists()
    assert ("-lmvec" in compiler[-1]) == (machine == "x86_64")


WITHOUT_OPENMP = """#!/bin/sh
echo "In file included from native/pulls.cpp:3:" >&2
echo "native/graph.hpp:4:10: fatal error: omp.h: No such file or directory" >&2
exit 1
"""


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (WITHOUT_OPENMP, r"native/graph.hpp:4:10: fatal error: omp.h: No such file or directory"),
        ("#!/bin/sh\nexit 3\n", "it ended with 3"),
        (None, r"no g\+\+ on PATH"),
    ],
)
def test_without_a_compiler_that_can_the_plain_form_runs_and_a_line_says_why(script, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    monkeypatch.setenv("DEFINET_FLOWS_CACHE_DIR", str(tmp_path / "cache"))
    if script is not None:
        (tmp_path / "c++").write_text(script)
        (tmp_path / "c++").chmod(0o755)
    with pytest.warns(UserWarning, match=reason) as caught:
        assert kernels.library.__wrapped__() is None
    (line,) = [str(warning.message) for warning in caught]
    assert "\n" not in line
    assert len(line) < 300
    assert not list((tmp_path / "cache").glob("kernels-*.so"))


def test_processors_of_arm_are_told_apart(monkeypatch):
    text = "processor\t: 0\nFeatures\t: fp asimd {}\nCPU part\t: 0xd0c\n"
    found = []
    for feature in ("sve", ""):
        monkeypatch.setattr(Path, "read_text", lambda self, feature=feature: text.format(feature))  # noqa: ARG005
        found.append(kernels._cpu())
    assert len(set(found)) == 2


class Libc:
    """A libc whose mallopt answers as it is bid."""

    def __init__(self, *answers: int) -> None:
        self.answers, self.calls = list(answers), []

    def mallopt(self, option: int, value: int) -> int:
        self.calls.append((option, value))
        return self.answers.pop(0)


@pytest.mark.parametrize(("answers", "kept", "calls"), [((1, 1), True, 2), ((0,), False, 1), ((1, 0), False, 2)])
def test_what_mallopt_answers_is_heeded(answers, kept, calls, monkeypatch):
    libc = Libc(*answers)
    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda _: libc)
    assert kernels.keep_freed_memory() is kept
    assert libc.calls == [(-3, 2**30), (-1, 2**30)][:calls]


def test_a_libc_without_mallopt_is_left_alone(monkeypatch):
    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda _: object())
    assert kernels.keep_freed_memory() is False


@needs_kernels
def test_loading_the_kernels_leaves_the_process_as_it_is(monkeypatch):
    loaded = []
    real = kernels.ctypes.CDLL
    monkeypatch.setattr(kernels.ctypes, "CDLL", lambda name: loaded.append(name) or real(name))
    assert kernels.library.__wrapped__() is not None
    assert len(loaded) == 1
    assert loaded[0] is not None
