"""Where defects may go: symmetry of a supercell, its orbits, candidate positions of inserted atoms."""
