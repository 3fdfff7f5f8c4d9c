"""Documents that retraining leaves in a record store: supercells, models, trials and champions."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from definet_flows.schemas.base import Document, Frozen, content_hash
from definet_flows.schemas.configuration import Host
from definet_flows.schemas.records import Provenance


class Supercell(Document):
    """A bulk supercell as given: the input of the network, which a relaxed base does not contain."""

    kind: Literal["supercell"] = "supercell"
    host: Host

    @staticmethod
    def identity(host_hash: str) -> str:
        """Return the id of the supercell with this hash."""
        return content_hash("supercell", host_hash)

    @classmethod
    def of(cls, host: Host) -> Supercell:
        """Return the document of a supercell."""
        return cls(id=cls.identity(host.hash), host=host)


class Revised(Document):
    """A document that is replaced only if its last revision was read."""

    revision: int = Field(default=0, ge=0)


class ModelRef(Frozen):
    """Weights by name and content."""

    name: str = Field(description="registry id")
    sha256: str = Field(description="of the safetensors file")


class HostTrial(Frozen):
    """Champion and challenger on the held-out configurations of one host."""

    host: str = Field(description="reduced formula")
    n: int = Field(description="held-out configurations, or all of a cross-validation")
    champion: float = Field(description="mean |component| error, Å")
    challenger: float = Field(description="mean |component| error, Å")
    nothing: float = Field(description="the same for no displacement at all, Å")
    p: float = Field(description="one-sided Wilcoxon signed-rank test that the challenger's errors are smaller")


class StepTrial(Frozen):
    """Ionic steps of relaxations of held-out configurations from the predictions of both."""

    n: int = Field(description="configurations that were relaxed from both")
    champion: int = Field(description="sum of ionic steps")
    challenger: int = Field(description="sum of ionic steps")


class Trial(Frozen):
    """A challenger against the champion of the day."""

    champion: ModelRef
    held_out: str = Field(description="hash of the held-out configurations and their ends")
    hosts: tuple[HostTrial, ...]
    folds: int = Field(default=0, description="of a cross-validation, where too few are held out; else 0")
    steps: StepTrial | None = Field(description="None where no held-out configuration was relaxed from both")
    passed: bool
    reason: str = Field(description="in words with numbers")
    at: str = Field(description="UTC, ISO 8601")


class Model(Document):
    """Weights that were trained on records; their bytes are in the store's weights."""

    kind: Literal["model"] = "model"
    settings_hash: str
    engine: str
    sha256: str = Field(description="of the safetensors file")
    size: int = Field(description="of the safetensors file, bytes")
    recipe: dict[str, Any] = Field(description="of the training, the network's shape included")
    hosts: tuple[str, ...] = Field(description="hosts it claims to know, by formula")
    data_hash: str = Field(description="of the training set, all splits")
    configurations: int = Field(description="configurations in the training set, all splits")
    counts: tuple[str, ...] = Field(description="configurations by host, density and split, in words")
    refused: int = Field(description="records that were refused")
    parent: ModelRef | None = Field(description="where training started; None: from scratch")
    trials: tuple[Trial, ...] = ()
    provenance: Provenance = Provenance()

    @property
    def ref(self) -> ModelRef:
        """Name and content."""
        return ModelRef(name=self.id, sha256=self.sha256)


class Tenure(Frozen):
    """A change of champion."""

    action: Literal["promoted", "rolled back"]
    model: ModelRef | None = Field(description="champion from then on; None: the weights of the package")
    at: str = Field(description="UTC, ISO 8601")
    reason: str


class Champion(Revised):
    """The champions of one settings hash, in a single document that is replaced whole."""

    kind: Literal["champion"] = "champion"
    settings_hash: str
    history: tuple[Tenure, ...] = Field(min_length=1, description="oldest first; the last is champion")

    @staticmethod
    def identity(settings_hash: str) -> str:
        """Return the id of the champion of a settings hash."""
        return content_hash("champion", settings_hash)

    @property
    def model(self) -> ModelRef | None:
        """The champion."""
        return self.history[-1].model

    @property
    def before(self) -> tuple[ModelRef, ...]:
        """The champions that a rollback can return to, the next of them last; those rolled back are not in it."""
        stack: list[ModelRef] = []
        for tenure in self.history:
            if tenure.action == "rolled back":
                del stack[-1:]
            elif tenure.model is not None:
                stack.append(tenure.model)
        return tuple(stack[:-1])


class Lease(Revised):
    """A lease: its holder does some work that a single process may do at a time."""

    kind: Literal["lease"] = "lease"
    what: str
    holder: str | None = Field(description="an id of its own; None: free")
    hostname: str = ""
    pid: int = 0
    since: str = Field(default="", description="UTC, ISO 8601")
    renewed: float = Field(default=0.0, description="UTC, seconds since 1970")
    beat: float = Field(default=60.0, description="seconds after which the holder renews it")
    place: str = Field(default="", description="running system and PID namespace that `pid` belongs to; empty: unknown")
    born: str = Field(default="", description="when that system started the process, in its own units")
    folder: str = Field(default="", description="where the holder runs its jobs")

    @staticmethod
    def identity(what: str) -> str:
        """Return the id of the lease on something."""
        return content_hash("lease", what)
