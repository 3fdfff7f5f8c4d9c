"""Runs of the pristine host among others: the bulk entry of defects with the same settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from definet_flows.errors import InputError
from definet_flows.schemas import HostNote, Provenance, RelaxedHost
from definet_flows.workflows.recording.ends import place_rows
from definet_flows.workflows.recording.provenance import location

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from definet_flows.defects import Recovered
    from definet_flows.schemas import Host, Ledger


def pristine_host(
    host: Host,
    recovered: Recovered,
    end: Structure | None,
    ledger: Ledger | None,
    settings: str,
    where: str,
    *,
    static: bool = False,
) -> RelaxedHost:
    """Return the relaxed host of a run without a defect.

    Parameters
    ----------
    host
        The bulk supercell.
    recovered
        The run's first structure, read as the host.
    end
        Its last structure, in the host's cell and the order of the run; None if it is unknown.
    ledger
        Its cost and its energy, eV.
    settings
        Settings hash of the run.
    where
        Folder or file of the run.
    static
        Whether the sites were kept where they are, so that forces do not matter.

    Raises
    ------
    InputError
        If the run is charged, did not converge or its energy is unknown.
    """
    charge = recovered.configuration.charge
    if charge:
        msg = f"{where} is the host itself with charge {charge:+d}: no bulk entry, which is neutral"
        raise InputError(msg)
    ended = ledger is not None and (ledger.attempts[-1].finished if static and ledger.attempts else ledger.converged)
    if end is None or ledger is None or ledger.energy is None or not ended:
        msg = f"{where} is the host itself, without a converged end and its energy: no bulk entry"
        raise InputError(msg)
    return RelaxedHost(
        id=RelaxedHost.identity(host.hash, settings),
        host=HostNote.of(host),
        settings_hash=settings,
        relaxed=place_rows(host.cartesian, recovered.permutation.tolist(), end, host.lattice),
        ledger=ledger,
        provenance=Provenance(**location({"dir_name": where})),
    )
