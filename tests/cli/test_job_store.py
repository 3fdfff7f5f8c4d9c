"""jobflow's JobStore where its settings name none that keeps outputs: said in one line, and nothing is lost."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from flow_helpers import CU
from jobflow.settings import JobflowSettings
from typer.testing import CliRunner

from definet_flows.cli import app
from definet_flows.stores import open_store
from definet_flows.workflows.campaign import outputs, secrets
from definet_flows.workflows.campaign.local import JOBS, job_store, run_here
from definet_flows.workflows.campaign.preflight import preflight

pytest_plugins = ["flow_fixtures"]
KEPT_DOCS = "docs_store: {type: JSONStore, paths: [a.json], read_only: false}"
FAULTS = {
    "missing": (None, r"JOBFLOW_CONFIG_FILE names .*jobflow.yaml, and there is no such file"),
    "no store": ('LOG_FORMAT: "%(message)s"', r"jobflow.yaml names no JOB_STORE"),
    "memory": ("JOB_STORE: {docs_store: {type: MemoryStore}}", r"the JOB_STORE of .* keeps documents in memory only"),
    "data in memory": (
        f"JOB_STORE: {{{KEPT_DOCS}, additional_stores: {{data: {{type: MemoryStore}}}}}}",
        r"the JOB_STORE of .* keeps documents in memory only",
    ),
    "JSON": ("JOB_STORE: {docs_store: {type: JSONStore, paths: [a.json]}}", r"give it `read_only: false`"),
}


@pytest.fixture
def configure(workplace, monkeypatch):
    def write(text):
        path = workplace / "jobflow.yaml"
        if text is not None:
            path.write_text(text)
        monkeypatch.setenv("JOBFLOW_CONFIG_FILE", str(path))
        monkeypatch.setattr("jobflow.SETTINGS", JobflowSettings())
        return path

    return write


def job_store_line(maker):
    (line,) = [line for line in preflight(maker, CU) if line.subject == "job store"]
    return line


@pytest.mark.parametrize("case", FAULTS)
def test_check_says_that_outputs_would_go_nowhere(case, configure, maker):
    text, reason = FAULTS[case]
    configure(text)
    line = job_store_line(maker)
    assert line.level == "warn"
    assert outputs.configured_store() is None
    with pytest.warns(UserWarning, match=rf"{reason}.*outputs of jobs go to .*{JOBS}"):
        store = job_store(Path("run").absolute())
    assert store.docs_store.path.endswith(f"run/{JOBS}")
    assert "\n" not in line.text


def test_what_keeps_outputs_is_used(configure, maker):
    json = "{type: JSONStore, paths: [%s.json], read_only: false, key: %s}"
    docs, data = json % ("a", "uuid"), json % ("d", "blob_uuid")
    text = f"JOB_STORE: {{docs_store: {docs}, additional_stores: {{data: {data}}}}}"
    configure(text)
    assert outputs.job_store_fault() is None
    assert job_store(Path("run")).docs_store.paths == ["a.json"]
    line = job_store_line(maker)
    assert line.text.endswith("0 documents, can be written")
    assert line.level == "ok"
    Path("a.json").write_text('[{"uuid": "1"')
    configure(text)
    assert "a.json is damaged" in (outputs.job_store_fault() or "")
    assert outputs.configured_store() is None


@pytest.mark.filterwarnings("ignore:JOBFLOW_CONFIG_FILE names:UserWarning")
def test_outputs_of_a_run_are_kept_and_made_into_records(configure, maker):
    configure(None)
    folder = Path("data/runs/one").absolute()
    assert run_here(maker.make(CU), folder, lambda *_: None) is not None
    arguments = ["records", "build", "--store", "again.jsonl"]
    made = CliRunner().invoke(app, arguments)
    assert made.exit_code == 0, made.output
    assert "4 records made" in made.output
    again = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    assert "0 records made in" in again.output
    assert "relaxations in the job store are recorded already" in again.output
    assert "there is no such file" in again.output


def test_records_build_says_why_it_makes_none(configure, workplace):
    configure("JOB_STORE: {docs_store: {type: JSONStore, paths: [a.json], read_only: false, key: uuid}}")
    told = CliRunner().invoke(app, ["records", "build", "--store", "r.jsonl"])
    assert "0 records made in" in told.output
    assert "the job store holds no outputs of jobs" in told.output
    configure("JOB_STORE: {docs_store: {type: JSONStore, paths: [b.json], read_only: false, key: uuid}}")
    (workplace / "b.json").write_text('[{"uuid": "1", "index": 1, "output": 1, "metadata": {}}]')
    told = CliRunner().invoke(app, ["records", "build", "--store", "r.jsonl"])
    assert "none of the 1 outputs in the job store is of a relaxation" in told.output
    configure("LOG_FORMAT: '%(message)s'")
    told = CliRunner().invoke(app, ["records", "build", "--store", "r.jsonl"])
    assert (told.exit_code, told.output.count("\n")) == (2, 1)
    assert "names no JOB_STORE" in told.output


@pytest.mark.parametrize("case", ["missing", "memory"])
def test_a_queue_refuses(case, configure, workplace):
    text, reason = FAULTS[case]
    configure(text)
    (workplace / "pad.yaml").write_text("host: localhost")
    with open_store("r.jsonl"):
        pass
    told = CliRunner().invoke(app, ["retry", "--launchpad", "pad.yaml", "--store", "r.jsonl", "--engine", "sevennet"])
    assert told.exit_code == 2
    assert reason.split(".*")[0].split(" names")[0] in told.output


@pytest.mark.parametrize("text", ["a: [", "JOB_STOR: {a: s3cret}", "JOB_STORE: {docs_store: {type: MongoStre}}"])
def test_settings_that_jobflow_cannot_read_are_one_line(text, workplace):
    path = workplace / "jobflow.yaml"
    path.write_text(text)
    command = [Path(sys.executable).with_name("definet"), "records", "build"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "JOBFLOW_CONFIG_FILE": str(path)}
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    assert str(path) in done.stderr
    assert "s3cret" not in done.stderr


# ------------------------------------------------------------------ passwords


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        ("password: s3cret", True),
        ("JOB_STORE: {docs_store: {uri: 'mongodb://me:s3cret@host/db'}}", True),
        ('{"record_stores": {"a": {"password": "s3cret"}}}', True),
        ("aws_secret_access_key = s3cret", True),
        ("password: ''\nhost: h", False),
        ("password: null", False),
        ("# password: s3cret", False),
        ("uri: mongodb://host:27017/db\nuser: me", False),
    ],
)
def test_a_password_that_others_can_read_is_told(text, warned, workplace, monkeypatch):
    path = workplace / "a file.yaml"
    path.write_text(text)
    monkeypatch.setattr(secrets, "_files", list)
    path.chmod(0o644)
    told = secrets.exposed([path])
    assert told == [f"{path} holds a password, and others on this machine can read it: chmod 600 '{path}'"] * warned
    path.chmod(0o640)
    assert len(secrets.exposed([path])) == warned
    if warned:
        subprocess.run(shlex.split(told[0].split("it: ")[1]), check=True)
        assert secrets.exposed([path]) == []


def test_check_looks_at_every_file_of_settings(configure, workplace, monkeypatch, maker):
    settings, launchpad, placement = (workplace / name for name in ("s.yaml", "pad.yaml", "placement.yaml"))
    remote = workplace / "jfremote" / "project.yaml"
    remote.parent.mkdir()
    for path in (launchpad, remote):
        path.write_text("password: s3cret")
    settings.write_text("record_stores: {far: {'@module': maggma.stores, '@class': MongoStore, password: s3cret}}")
    placement.write_text("relax: {category: cpu, queue: {pre_rocket: 'export TOKEN=s3cret'}}")
    jobflow = configure("LOG_FORMAT: '%(message)s'")
    jobflow.write_text("JOB_STORE: {docs_store: {password: s3cret}}")
    monkeypatch.setenv("DEFINET_FLOWS_CONFIG", str(settings))
    monkeypatch.setenv("JFREMOTE_PROJECTS_FOLDER", str(remote.parent))
    monkeypatch.setattr(secrets, "LAUNCHPAD_LOC", str(launchpad))
    files = (settings, jobflow, launchpad, remote, placement)
    for path in files:
        path.chmod(0o644)
    lines = [line for line in preflight(maker, CU, files=[placement]) if line.subject == "password"]
    assert [line.text.split(" holds")[0] for line in lines] == [str(path) for path in files]
    assert {line.level for line in lines} == {"warn"}
    assert not any("s3cret" in line.text for line in lines)
