"""Bulk hosts of the tests of enumeration, conversion and interstitials, as conventional cells."""

from pymatgen.core import Lattice, Structure

CDTE = Structure.from_spacegroup("F-43m", Lattice.cubic(6.48), ["Cd", "Te"], [[0, 0, 0], [0.25] * 3])
Y2TI2S2O5 = Structure.from_spacegroup(  # I4/mmm, the oxysulfide of the defect literature; O on two inequivalent sites
    "I4/mmm",
    Lattice.tetragonal(3.77, 22.80),
    ["Y", "Ti", "S", "O", "O"],
    [[0, 0, 0.334], [0, 0, 0.0775], [0, 0, 0.205], [0, 0.5, 0.1], [0, 0, 0]],
)

CASES = {
    "CdTe": (CDTE, (2, 2, 2), ("v_Cd", "Te_Cd", "Li_i")),
    "Y2Ti2S2O5": (Y2TI2S2O5, (3, 3, 1), ("v_O", "S_O", "v_Y")),
    "MoS2": ("MoS2", (3, 3, 1), ("v_S", "W_Mo", "Li_i")),
    "P": ("P", (3, 3, 1), ("v_P", "Li_i")),
}
