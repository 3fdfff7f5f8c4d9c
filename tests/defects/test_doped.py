"""Our names of single defects are those that doped gives: compared with doped itself where it is installed."""

import pytest
from bulk_hosts import CASES

from definet_flows.defects import Choices, doped_name, enumerate_configurations
from definet_flows.hosts import make_host, to_structure

generation = pytest.importorskip(
    "doped.generation",
    reason="doped is not installed: it is no dependency; pip install doped in an environment of its own to compare",
    exc_type=ImportError,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

CHARGES = {"-1", "0", "+1"}


@pytest.mark.parametrize(
    ("case", "kinds", "interstitials"),
    [
        ("Y2Ti2S2O5", ("v_O", "S_O", "v_Y", "v_Ti", "v_S"), False),
        ("MoS2", ("v_S", "v_Mo", "S_Mo", "Mo_S"), False),
        ("P", ("v_P",), False),
        ("CdTe", ("v_Cd", "v_Te", "Te_Cd", "Cd_Te", "Cd_i", "Te_i"), True),
    ],
)
def test_names(case, kinds, interstitials):
    """doped guesses which charges there are: of those of -1 to +1 every name is ours, and we have no other sites."""
    host = make_host(*CASES[case][:2])
    choices = Choices(defects=kinds, charges=(-1, 0, 1))
    ours = {doped_name(host, configuration) for configuration in enumerate_configurations(host, choices)}
    entries = generation.DefectsGenerator(
        to_structure(host),
        generate_supercell=False,
        interstitial_gen_kwargs={} if interstitials else False,
        processes=1,
    ).defect_entries
    theirs = {name for name in entries if "_".join(name.split("_")[:2]) in kinds and name.rsplit("_", 1)[1] in CHARGES}
    assert theirs <= ours
    assert {name.rsplit("_", 1)[0] for name in theirs} == {name.rsplit("_", 1)[0] for name in ours}
