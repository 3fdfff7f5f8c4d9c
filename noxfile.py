"""Checks, each with its own command: `nox -s NAME`. `nox -l` lists them."""

import shutil

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "none"  # they run in the environment that has nox


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, format, types and import directions."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests."""
    session.run("pytest", "-n", "2", "--dist", "loadfile", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """Kill a writer of the SQLite file 200 times at random instants (ten minutes)."""
    session.run("pytest", "tests/stores/test_sqlite.py", "-k", "kill", env={"DEFINET_KILLS": "200"})


@nox.session
def cluster(session: nox.Session) -> None:
    """Run a campaign of 200 configurations with two workers, and every fault twice (half an hour)."""
    files = ("tests/workflows/queue/test_scale.py", "tests/workflows/queue/test_faults.py")
    session.run("pytest", *files, env={"DEFINET_CLUSTER": "1"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Damage files of every kind 300 times each and read them (half an hour); prints a table."""
    session.run("python", "tests/support/fuzz_readers.py", *(session.posargs or ["300"]))


@nox.session(venv_backend="venv", python="3.11")
def lowest(session: nox.Session) -> None:
    """Run fast tests with the lower bounds of pyproject.toml, in a venv of its own (ten minutes)."""
    bounds = session.cache_dir / "lowest.txt"
    session.install("uv")
    compiled = ("uv", "pip", "compile", "--quiet", "--resolution=lowest-direct", "--extra=dev", "pyproject.toml")
    session.run(*compiled, "--output-file", bounds)
    session.install("--constraint", bounds, "--editable", ".[dev]")  # pip takes a build of torch without CUDA too
    rooms = [f"tests/{room}" for room in ("hosts", "defects", "ledger", "stores", "structures", "starts")]
    marked = "not slow and not mongo and not browser"
    session.run("pytest", "-W", "ignore", "-m", marked, *(session.posargs or rooms))  # old releases warn


@nox.session(venv_backend="venv", reuse_venv=True)
def docs(session: nox.Session) -> None:
    """Build the documentation site into docs/_build, in an environment of its own; warnings are errors."""
    session.install("-q", "-c", "constraints.txt", "-e", ".[docs]")
    shutil.rmtree("docs/_api", ignore_errors=True)
    session.run("python", "-m", "sphinx", "-E", "-W", "--keep-going", "-b", "html", "docs", "docs/_build")
