"""Documents that cross a job or a store: frozen, versioned, every physical field with its unit.

Everything here is plain data. Structures are built from it where needed
(`definet_flows.hosts`, `definet_flows.defects`), so that a document stays small: coordinate tables
are stored as whole numbers of 1e-6 Å in a flat list, which keeps the record of a 192-site cell
below 30 kB in BSON.
"""

from definet_flows.schemas.base import (
    INSERTED,
    PRISTINE,
    SCHEMA_VERSION,
    SUBSTITUTION,
    VACANCY,
    Document,
    FloatArray,
    Frozen,
    IntMatrix,
    Matrix,
    Table,
    Vector,
    base_hash,
    content_hash,
    dump,
)
from definet_flows.schemas.comparisons import Pair, Probe, Verdict
from definet_flows.schemas.configuration import Configuration, Edit, Host, joined_name, signed
from definet_flows.schemas.models import Supercell
from definet_flows.schemas.records import (
    NOT_PREDICTED,
    AnyRun,
    Attempt,
    DefectRecord,
    Gate,
    HostNote,
    HostRun,
    Ledger,
    Prediction,
    PredictionNote,
    Provenance,
    RelaxedHost,
    SiteMap,
    Start,
    Status,
)
from definet_flows.schemas.starts import AUTO, DEFINET, FIELDS, Choice, KnownPreRelaxer, PreRelaxerName

__all__ = [
    "AUTO",
    "DEFINET",
    "FIELDS",
    "INSERTED",
    "NOT_PREDICTED",
    "PRISTINE",
    "SCHEMA_VERSION",
    "SUBSTITUTION",
    "VACANCY",
    "AnyRun",
    "Attempt",
    "Choice",
    "Configuration",
    "DefectRecord",
    "Document",
    "Edit",
    "FloatArray",
    "Frozen",
    "Gate",
    "Host",
    "HostNote",
    "HostRun",
    "IntMatrix",
    "KnownPreRelaxer",
    "Ledger",
    "Matrix",
    "Pair",
    "PreRelaxerName",
    "Prediction",
    "PredictionNote",
    "Probe",
    "Provenance",
    "RelaxedHost",
    "SiteMap",
    "Start",
    "Status",
    "Supercell",
    "Table",
    "Vector",
    "Verdict",
    "base_hash",
    "content_hash",
    "dump",
    "joined_name",
    "signed",
]
