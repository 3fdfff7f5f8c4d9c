"""Which kind of job goes where, jobs made by jobs included; the placement file."""

from __future__ import annotations

from importlib import import_module
from pkgutil import walk_packages

import pytest
from flow_helpers import CU
from jobflow import Flow, Maker
from jobflow import job as decorated
from jobflow.core.job import store_inputs
from jobflow.managers.fireworks import flow_to_workflow
from queue_helpers import EXAMPLES

import definet_flows
from definet_flows import DefectFlowMaker
from definet_flows.errors import InputError
from definet_flows.workflows.engines.base import resolve_engine
from definet_flows.workflows.engines.calculator import CalculatorRelaxMaker
from definet_flows.workflows.engines.gpaw import GpawRelaxMaker
from definet_flows.workflows.engines.relaunched import RelaunchedMaker
from definet_flows.workflows.learning.active.flow import ActiveLearningMaker, learn_round
from definet_flows.workflows.learning.retrain import RetrainMaker
from definet_flows.workflows.queue.kinds import KINDS, plain
from definet_flows.workflows.queue.routing import DEFAULT_PLACEMENT, place, read_placement
from definet_flows.workflows.recovery.probe import probe_flow, record_probe

pytest_plugins = ["flow_fixtures"]


def categories(flow):
    """Return {first word of a job's name: its category}, as FireWorks would have it."""
    return {firework.name.split()[0]: firework.spec["_category"] for firework in flow_to_workflow(flow).fws}


def test_static_jobs_have_their_categories_and_survive_failed_parents(maker):
    flow = maker.make(CU)
    place(flow, DEFAULT_PLACEMENT.fireworks)
    assert categories(flow) == {"host": "light", "predict": "gpu", "relax": "light", "totals": "light"}
    survivors = {fw.name.split()[0] for fw in flow_to_workflow(flow).fws if fw.spec.get("_allow_fizzled_parents")}
    assert survivors == {"relax", "totals"}


@pytest.mark.parametrize(("control", "join"), [(0, {}), (1, {"store_inputs": "light"})])
def test_jobs_made_by_jobs_have_their_categories_and_survive_failed_parents(maker, jobs, control, join):
    """One arm is a detour, two are a replacement, which jobflow completes by a job of its own."""
    maker.relax_host, maker.control_fraction, maker.allow_unseen_host = False, control, True
    flow = maker.make(CU)
    place(flow, DEFAULT_PLACEMENT.fireworks)
    jobs.connect()
    made = None
    for job, _ in flow.iterflow():
        response = job.run(jobs)
        made = response.replace or response.detour
        if made is not None:
            break
    assert categories(made) == {"EMT": "cpu", "record": "light", **join}
    assert {job.config.pass_manager_config for job, _ in made.iterflow()} == {False}
    specs = {firework.name.split()[0]: firework.spec for firework in flow_to_workflow(made).fws}
    assert job.config.manager_config["_priority"] < specs["EMT"]["_priority"] < specs["record"]["_priority"]
    assert specs["record"]["_allow_fizzled_parents"]
    assert {spec["configuration_id"] for spec in specs.values()} == {job.metadata["configuration_id"]}


def test_the_host_is_relaxed_where_relaxations_are(maker, jobs):
    job = maker.prepared(maker.campaign(CU))
    place(job, DEFAULT_PLACEMENT.fireworks)
    jobs.connect()
    assert categories(job.run(jobs).replace) == {"EMT": "cpu", "record_host": "light", "store_inputs": "light"}


def test_one_file_holds_the_resources_of_both_queues():
    placement = read_placement(EXAMPLES / "placement.yaml")
    assert placement.relax.fireworks["_queueadapter"] == {"queue": "cpu", "nodes": 2, "walltime": "24:00:00"}
    assert placement.light.fireworks == {"_category": "light"}
    assert placement.predict.remote["worker"] == "gpu"
    assert set(placement.light.remote) == {"worker", "exec_config"}
    assert DEFAULT_PLACEMENT.relax.remote == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("relax: {category: ''}", "relax.category"),  # "" would mean: every worker
        ("relx: {category: cpu}", "relx"),
        ("relax: {category: cpu, queues: {}}", "relax.queues"),
        ("relax: [", "no YAML"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, text, told):
    path = tmp_path / "placement.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=told) as error:
        read_placement(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_placement(tmp_path / "none.yaml")


def job_functions():
    """Return every function of the package that jobflow has decorated, methods of Makers apart."""
    modules = [import_module(one.name) for one in walk_packages(definet_flows.__path__, "definet_flows.")]
    own = [(module.__name__, value) for module in modules for value in vars(module).values()]
    return {
        plain(value)
        for name, value in own
        if callable(value) and hasattr(value, "original") and getattr(value, "__module__", "") == name
    }


def test_every_job_function_of_the_package_has_a_kind():
    found = job_functions()
    assert len(found) >= 13
    assert found | {plain(store_inputs)} == {plain(function) for function in KINDS}


def makers():
    modules = [import_module(one.name) for one in walk_packages(definet_flows.__path__, "definet_flows.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    return [one for one in found if issubclass(one, Maker) and one.__module__.startswith("definet_flows.")]


def test_every_maker_of_the_package_makes_jobs_of_known_kinds(maker):
    """Makers whose `make` is a job are engines; the others are named here, each with its flow."""
    flows = {
        DefectFlowMaker: lambda: maker.make(CU),
        RetrainMaker: lambda: RetrainMaker(store="records.jsonl").make(),
        ActiveLearningMaker: lambda: Flow([learn_round(None, CU, number=None)]),
    }
    relaxations = {
        CalculatorRelaxMaker: lambda: resolve_engine(
            CalculatorRelaxMaker(calculator_class="ase.calculators.emt.EMT", version="1")
        ).relaxation(CU),
        GpawRelaxMaker: lambda: GpawRelaxMaker().make(CU),  # to resolve it needs GPAW
        RelaunchedMaker: lambda: resolve_engine("sevennet").relaxation(CU, "record", None),
    }
    for one in makers():
        if one in flows:
            place(flows.pop(one)(), DEFAULT_PLACEMENT.fireworks)
            continue
        flow = relaxations[one]() if one in relaxations else resolve_engine(one()).relaxation(CU)
        place(flow, DEFAULT_PLACEMENT.fireworks)
        assert set(categories(Flow([flow])).values()) == {"cpu"}, one
    assert not flows


def test_probes_and_learning_run_where_they_should(maker):
    probing = probe_flow(["one"], "sevennet", "records.jsonl")
    place(probing, DEFAULT_PLACEMENT.fireworks)
    assert categories(probing) == {"probe_end": "light", "probed": "light"}
    learning = Flow([learn_round(None, CU, number=None)])
    place(learning, DEFAULT_PLACEMENT.fireworks)
    assert categories(learning) == {"learn_round": "gpu"}
    (first,) = [job for job, _ in learning.iterflow()]
    grown = maker.make(CU)  # as a round grows its flow, jobflow hands the updates down
    grown.add_jobs(record_probe(grown.output, record_id="one", store=None, rattle=0.0, seed=0))
    for update in first.config_updates:
        grown.update_config(**update, dynamic=True)
    found = categories(grown)
    assert found == {"host": "light", "predict": "gpu", "relax": "light", "totals": "light", "record_probe": "light"}


def test_a_job_of_an_unknown_kind_is_refused_and_nothing_is_placed(maker):
    @decorated
    def plot(value):
        return value

    campaign = maker.make(CU)
    flow = Flow([campaign, plot(campaign.output)])
    with pytest.raises(InputError, match=r"plot.*no kind") as error:
        place(flow, DEFAULT_PLACEMENT.fireworks)
    assert "\n" not in str(error.value)
    assert not any(job.config.manager_config for job, _ in flow.iterflow())
