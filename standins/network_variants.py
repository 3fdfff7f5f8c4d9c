"""DefiNet with parts left out: what an ablation trains (doi:10.1038/s41524-025-01728-w, Suppl. 7 and 8)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from definet_flows.model.network.config import NetworkConfig
from definet_flows.model.network.edges import DefectGate, Edges, EdgeState, Radial
from definet_flows.model.network.layers import edge_state
from definet_flows.model.network.network import DefiNet
from definet_flows.model.network.radial import RadialBasis
from definet_flows.schemas import PRISTINE, VACANCY, Frozen


class Variant(Frozen):
    """What a network has; the defaults are the published form.

    Attributes
    ----------
    markers
        Where the site markers enter: in nodes and gates (defect-aware message passing), in nodes alone, or nowhere.
        Nowhere means a crystal of atoms: vacancies have no node, as in networks that know nothing of defects.
    updates
        Positions move in each layer. Otherwise they move once, after the last layer, by the nodes' vectors (eq. 5).
    global_node
        Messages go through a node of the whole structure (eqs. 8 to 11).
    activation
        Vectors pass the non-linear activation (eqs. 12 and 13).
    """

    markers: Literal["gates", "nodes", "nowhere"] = "gates"
    updates: bool = True
    global_node: bool = True
    activation: bool = True


class VariantNetwork(DefiNet):
    """A network of the same parameters that leaves out what its variant lacks."""

    def __init__(self, config: NetworkConfig, variant: Variant) -> None:
        super().__init__(config)
        self.variant = variant

    def single_pass(
        self, numbers: Tensor, markers: Tensor, positions: Tensor, edges: Edges, charges: Tensor | None = None
    ) -> Tensor:
        """See `DefiNet.single_pass`; a variant takes no charges."""
        del charges
        has = self.variant
        unmarked = torch.full_like(markers, PRISTINE)
        seen = SeenEdges(edges, (markers != VACANCY) if has.markers == "nowhere" else None, activation=has.activation)
        known = unmarked if has.markers == "nowhere" else markers
        defect = DefectGate(self.defect_emb.embeddings.weight, markers if has.markers == "gates" else unmarked)
        x = self.lin_comb(torch.cat([self.atom_emb(numbers), self.defect_emb(known)], -1))  # [*n, F]
        v = x.new_zeros(*x.shape[:-1], 3, x.shape[-1])  # [*n, 3, F]
        x_global, v_global = self.vn_emb.weight.expand_as(seen.mean(x)), seen.mean(v)  # [*g, F], [*g, 3, F]
        r = positions
        for scalar, vector, message, update, coordinate in self._layers():
            edge = edge_state(r, seen, self.basis)
            if has.global_node:
                x, v = scalar.distribute(x, x_global, seen), vector.distribute(v, v_global, seen)
            x, v = message(x, v, defect, edge, seen)
            x, v = update(x, v, seen)
            if has.updates:
                r = r + coordinate(x, v, defect, edge, seen)
            if has.global_node:
                x_global, v_global = scalar.aggregate(x, x_global, seen), vector.aggregate(v, v_global, seen)
        if not has.updates:
            *_, (*_, head) = self._layers()
            r = r + head.lin_vec2coord(v).squeeze(-1)
        return r


class SeenEdges(Edges):
    """Edges without those from vacancies where `atoms` says what is an atom, and without the activation if it is off.

    Parameters
    ----------
    inner : Edges
        All edges.
    atoms : Tensor or None
        False on vacancies, [*n]; None: they are nodes like any other.
    activation : bool
        Whether vectors are activated.
    """

    def __init__(self, inner: Edges, atoms: Tensor | None, *, activation: bool) -> None:
        self.inner, self.activation = inner, activation
        self.shift, self.mask = inner.shift, inner.mask
        self.atoms = None if atoms is None else atoms.unsqueeze(-1).to(inner.shift.dtype)  # [*n, 1]

    def source(self, nodes: Tensor) -> Tensor:
        """See `Edges.source`."""
        return self.inner.source(nodes)

    def target(self, nodes: Tensor) -> Tensor:
        """See `Edges.target`."""
        return self.inner.target(nodes)

    def sum(self, edges: Tensor) -> Tensor:
        """See `Edges.sum`."""
        return self.inner.sum(edges)

    def spread(self, globals_: Tensor) -> Tensor:
        """See `Edges.spread`."""
        return self.inner.spread(globals_)

    def radial(self, distance: Tensor, basis: RadialBasis) -> Radial:
        """See `Edges.radial`."""
        return self.inner.radial(distance, basis)

    def mean(self, nodes: Tensor) -> Tensor:
        """Mean over the atoms of each structure."""
        if self.atoms is None:
            return self.inner.mean(nodes)
        atoms = self.atoms.view(*self.atoms.shape, *[1] * (nodes.dim() - self.atoms.dim()))  # [*n, 1, ...]
        return self.inner.mean(nodes * atoms) / self.inner.mean(atoms)

    def messages(
        self, phi: Tensor, gate: DefectGate, v: Tensor, edge: EdgeState, filters: nn.Linear
    ) -> tuple[Tensor, Tensor]:
        """See `Edges.messages`; a vacancy sends nothing."""
        return self.inner.messages(phi if self.atoms is None else phi * self.atoms, gate, v, edge, filters)

    def pulls(self, phi: Tensor, gate: DefectGate, edge: EdgeState, filters: nn.Linear, mlp: nn.Sequential) -> Tensor:
        """See `Edges.pulls`; a vacancy pulls nothing, although `mlp` makes something of nothing."""
        if self.atoms is None:
            return self.inner.pulls(phi, gate, edge, filters, mlp)
        of_vacancies = self.sum(self.source(1 - self.atoms) * edge.unit)  # [*n, 3]
        of_nothing: Tensor = mlp(phi.new_zeros(phi.shape[-1]))  # [1]
        return self.inner.pulls(phi * self.atoms, gate, edge, filters, mlp) - of_nothing * of_vacancies

    def activated(self, mapped: Tensor, consensus: Tensor) -> Tensor:
        """See `Edges.activated`."""
        return self.inner.activated(mapped, consensus) if self.activation else mapped
