"""Hyper-parameters of the network, each documented once, beside its default."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from definet_flows.schemas import Frozen


class NetworkConfig(Frozen):
    """Shape of a DefiNet; the defaults are the paper's (doi:10.1038/s41524-025-01728-w)."""

    hidden: int = Field(default=512, ge=2, le=4096, multiple_of=2, description="width F of scalars and vectors")
    layers: int = Field(default=4, ge=1, le=64, description="number T of layers")
    gaussians: int = Field(default=128, ge=2, le=4096, description="number K of radial Gaussians")
    radial_extent: float = Field(default=30.0, gt=0, le=1000, description="c, Å: Gaussians and envelope end here")
    cutoff: float = Field(default=6.0, gt=0, le=30, description="D, Å: sites nearer than this are neighbours")
    max_neighbours: int = Field(
        default=50, ge=1, le=1000, description="N, nearest neighbours per centre, whole shells only"
    )
    passes: int = Field(
        default=1, ge=1, le=100, description="times that the network runs, each on the positions of the run before"
    )
    max_number: int = Field(default=117, ge=1, le=117, description="largest atomic number in the element table")
    charges: bool = Field(
        default=False,
        description="the net charge is an input of edited sites; a neutral cell gives the numbers of a network without",
    )
    inserted: bool = Field(default=False, description="the marker table has a row more, for inserted atoms")

    @model_validator(mode="after")
    def _envelope_covers_edges(self) -> Self:
        if self.radial_extent < self.cutoff:
            msg = (
                f"radial_extent={self.radial_extent} Å is shorter than cutoff={self.cutoff} Å: make it at least as long"
            )
            raise ValueError(msg)
        return self

    @property
    def n_parameters(self) -> int:
        """Parameters of such a network, rounded: the widths of its matrices, not each bias."""
        f, k = self.hidden, self.gaussians
        return self.layers * (22 * f**2 + 4 * k * f) + (self.max_number + 6) * f

    @property
    def markers(self) -> int:
        """Rows of the marker table: atom of the host, substitution, vacancy, and inserted atom where it is known."""
        return 4 if self.inserted else 3

    @property
    def sees(self) -> tuple[float, int, int, bool, bool]:
        """What networks must share to run on the same crystals' edges."""
        return self.cutoff, self.max_neighbours, self.max_number, self.charges, self.inserted

    @property
    def spacing(self) -> float:
        """Distance between Gaussian centres, Å."""
        return self.radial_extent / (self.gaussians - 1)
