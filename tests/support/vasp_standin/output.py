"""OUTCAR, OSZICAR, vasprun.xml, CONTCAR and XDATCAR, as VASP 6 writes them."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

CORES = 4
INTEGERS = {"IBRION", "NSW", "NELM", "NELMIN", "ISIF", "ISPIN", "ISMEAR", "ISYM", "LMAXMIX", "LORBIT", "IDIPOL"}
STRINGS = {"ALGO", "PREC", "GGA", "LREAL", "SYSTEM"}


class Output:
    """The open files of one execution."""

    def __init__(self, tags, lattice, species, potcar, coords):
        self.began = self.lap = time.perf_counter()
        self.tags, self.lattice, self.coords = tags, lattice, coords
        (self.species, self.counts), (self.titles, self.valences) = species, potcar
        self.symbols = [s for s, count in zip(self.species, self.counts, strict=True) for _ in range(count)]
        charges = float(np.dot(self.counts, self.valences))
        self.electrons = float(tags.get("NELECT", charges))
        started = abs(sum(map(float, _spelled_out(tags.get("MAGMOM", "0")))))
        self.moment = started if round(started) % 2 == round(self.electrons) % 2 else float(round(self.electrons) % 2)
        self.bands = int(self.electrons / 2) + 8
        self.outcar, self.oszicar, self.xml, self.xdatcar = (
            Path(name).open("w")  # noqa: SIM115 - open for as long as VASP runs
            for name in ("OUTCAR", "OSZICAR", "vasprun.xml", "XDATCAR")
        )
        self.last_energy = 0.0
        Path("CONTCAR").write_text("")  # as VASP does before its first step
        self._head()

    # ------------------------------------------------------------ what happens

    def electronic(self, step, loop, energy):
        """One step of the electronic loop."""
        if loop == 1:
            self.oszicar.write("       N       E                     dE             d eps       ncg     rms\n")
            self.xml.write(" <calculation>\n")
        self.oszicar.write(f"DAV:{loop:4d}    {energy:19.12E}   {-(10.0**-loop):12.5E}  -0.1E-01   100   0.1E-01\n")
        self.outcar.write(f"{'-' * 39} Iteration {step:6d}({loop:4d})  {'-' * 39}\n\n\n")
        self.outcar.write(f"      LOOP:  cpu time{self._lap():10.4f}: real time{self._lap():10.4f}\n\n")
        self.outcar.write(f" number of electron {self.electrons:15.7f} magnetization {self.moment:15.7f}\n")
        self.outcar.write(
            f"  entropy T*S    EENTRO =        -0.00000010\n  free energy    TOTEN  = {energy:18.8f} eV\n\n"
        )
        self.xml.write(f'  <scstep>\n   <time name="total">{self._lap():8.2f}{self._lap():8.2f}</time>\n   <energy>\n')
        self.xml.write(_energies(energy) + "   </energy>\n  </scstep>\n")

    def ionic(self, step, energy, forces):
        """The end of an ionic step; everything is on disk when this returns."""
        change, self.last_energy = energy - self.last_energy, energy
        self.outcar.write(
            "------------------------ aborting loop because EDIFF is reached ----------------------\n\n\n"
        )
        self._moments()
        self.outcar.write(" POSITION                                       TOTAL-FORCE (eV/Angst)\n " + "-" * 83 + "\n")
        for place, force in zip(self.coords @ self.lattice, forces, strict=True):
            self.outcar.write("".join(f"{x:13.5f}" for x in place) + " " + "".join(f"{x:14.6f}" for x in force) + "\n")
        self.outcar.write(" " + "-" * 83 + "\n    total drift:      0.000000      0.000000      0.000000\n\n\n")
        self.outcar.write("  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n")
        self.outcar.write(f"  free  energy   TOTEN  = {energy:18.8f} eV\n\n")
        self.outcar.write(f"  energy  without entropy= {energy:18.8f}  energy(sigma->0) = {energy:18.8f}\n\n")
        self.outcar.write(f"     LOOP+:  cpu time{self._lap():10.4f}: real time{self._lap():10.4f}\n")
        self.oszicar.write(f"{step:4d} F= {energy:.8E} E0= {energy:.8E}  d E ={change:.6E}  mag= {self.moment:10.4f}\n")
        self.xml.write(self._structure("", "  "))
        self.xml.write(_varray("forces", forces, "  ") + _varray("stress", np.zeros((3, 3)), "  "))
        self.xml.write("  <energy>\n" + _energies(energy) + "  </energy>\n")
        self.xml.write(f'  <time name="totalsc">{self._lap():8.2f}{self._lap():8.2f}</time>\n')
        self.xdatcar.write(f"Direct configuration= {step:5d}\n" + _rows(self.coords, "", ""))
        print(f"{step:4d} F= {energy:.8E}", flush=True)
        self._close_step()
        self._contcar()
        self.flush()

    def move(self, displacement):
        """Go to the next positions, which the CONTCAR then holds; [n, 3], Å."""
        self.coords = self.coords + displacement @ np.linalg.inv(self.lattice)
        self._contcar()

    def end(self, word):
        """End as VASP ends."""
        print(word, flush=True)
        elapsed = time.perf_counter() - self.began
        self.outcar.write(f" {word}\n\n\n General timing and accounting informations for this job:\n {'=' * 56}\n  \n")
        for label in ("Total CPU time used", "User time", "System time", "Elapsed time"):
            self.outcar.write(f"{label:>36} (sec): {elapsed:12.3f}\n")
        self.outcar.write("                   Maximum memory used (kb):      320420.\n")
        self.xml.write(self._structure(' name="finalpos"', " ") + "</modeling>\n")
        self.flush()

    def stop(self, word):
        """Stop with a message and the files as they are."""
        print(word, flush=True)
        self.flush()
        sys.exit(1)

    def flush(self):
        """Write out what was buffered."""
        for file in (self.outcar, self.oszicar, self.xml, self.xdatcar):
            file.flush()

    # ------------------------------------------------------------ pieces

    def _lap(self):
        now = time.perf_counter()
        lap, self.lap = now - self.lap, now
        return lap

    def _head(self):
        day, clock = time.strftime("%Y %m %d"), time.strftime("%H:%M:%S")
        self.outcar.write(f" vasp.6.3.0 20Jan22 (stand-in)\n\n executed on  LinuxIFC date {day}  {clock}\n")
        self.outcar.write(f" running on  {CORES:4d} total cores\n\n")
        for title in self.titles:
            self.outcar.write(f" POTCAR:    {title}\n")
        self.outcar.write(f"   number of bands    NBANDS= {self.bands:6d}\n   total plane-waves  NPLWV =  32768\n")
        self.outcar.write(f"   NELM   = {int(self._tag('NELM', 60)):6d};   NELMIN=  2; NELMDL= -5     # of ELM steps\n")
        self.outcar.write(f"   EDIFFG = {self._tag('EDIFFG', 0)}   stopping-criterion for IOM\n")
        self.outcar.write(f"   IBRION = {int(self._tag('IBRION', -1)):6d}    ionic relax: 0-MD 1-quasi-New 2-CG\n")
        self.outcar.write(
            f"   ISPIN  =      2    spin polarized calculation?\n   NELECT = {self.electrons:12.4f}    total\n"
        )
        self.outcar.write(
            "\n\n\n" + "-" * 104 + "\n\n\n k-point   1 :   0.0000 0.0000 0.0000  plane waves:    4096\n\n"
        )
        self.outcar.write(" maximum and minimum number of plane-waves per node :      4096     4096\n\n\n")
        names = "  ".join(self.species) + "\n" + "  ".join(map(str, self.counts)) + "\n"
        self.xdatcar.write("stand-in\n   1.0\n" + _rows(self.lattice, "", "") + names)
        self.xml.write('<?xml version="1.0" encoding="ISO-8859-1"?>\n<modeling>\n <generator>\n')
        values = {"program": "vasp", "version": "6.3.0", "subversion": "stand-in", "platform": "LinuxIFC"}
        values |= {"date": day, "time": clock}
        self.xml.writelines(f'  <i name="{k}" type="string">{v} </i>\n' for k, v in values.items())
        self.xml.write(" </generator>\n <incar>\n" + "".join(map(self._item, self.tags)) + " </incar>\n")
        self.xml.write(" <kpoints>\n" + _varray("kpointlist", np.zeros((1, 3)), "  "))
        self.xml.write(_varray("weights", np.ones((1, 1)), "  ") + " </kpoints>\n <parameters>\n")
        defaults = {"NBANDS": self.bands, "NELECT": self.electrons, "NELM": 60, "LORBIT": 0, "IBRION": -1, "NSW": 0}
        for name, value in defaults.items():
            self.tags.setdefault(name, str(value))
        self.xml.write("".join(map(self._item, self.tags)) + " </parameters>\n" + self._atoms())
        self.xml.write(self._structure(' name="initialpos"', " "))

    def _tag(self, name, default):
        return float(self.tags.get(name, default))

    def _item(self, name):
        value = self.tags[name]
        if name == "MAGMOM":
            value = " ".join(_spelled_out(value))
            return f'  <v name="MAGMOM">{value}</v>\n'
        if value.strip(".").lower() in ("true", "false"):
            return f'  <i type="logical" name="{name}"> {value.strip(".")[0].upper()} </i>\n'
        if name in STRINGS:
            return f'  <i type="string" name="{name}">{value}</i>\n'
        kind = 'type="int" ' if name in INTEGERS or name == "NBANDS" else ""
        return f'  <i {kind}name="{name}"> {int(float(value)) if kind else float(value)} </i>\n'

    def _atoms(self):
        kinds = [k + 1 for k, count in enumerate(self.counts) for _ in range(count)]
        text = f" <atominfo>\n  <atoms> {len(self.symbols)} </atoms>\n  <types> {len(self.species)} </types>\n"
        text += '  <array name="atoms">\n   <dimension dim="1">ion</dimension>\n'
        text += '   <field type="string">element</field>\n   <field type="int">atomtype</field>\n   <set>\n'
        for symbol, kind in zip(self.symbols, kinds, strict=True):
            text += f"    <rc><c>{symbol:2}</c><c>{kind:4d}</c></rc>\n"
        text += '   </set>\n  </array>\n  <array name="atomtypes">\n   <dimension dim="1">type</dimension>\n'
        fields = (
            ("int", "atomspertype"),
            ("string", "element"),
            ("", "mass"),
            ("", "valence"),
            ("string", "pseudopotential"),
        )
        for kind, name in fields:
            text += f'   <field type="{kind}">{name}</field>\n' if kind else f"   <field>{name}</field>\n"
        text += "   <set>\n"
        for rows in zip(self.counts, self.species, self.valences, self.titles, strict=True):
            count, symbol, valence, title = rows
            text += f"    <rc><c>{count:4d}</c><c>{symbol:2}</c><c> 1.0</c><c>{valence}</c><c> {title} </c></rc>\n"
        return text + "   </set>\n  </array>\n </atominfo>\n"

    def _structure(self, name, pad):
        reciprocal = np.linalg.inv(self.lattice).T
        text = f"{pad}<structure{name}>\n{pad} <crystal>\n" + _varray("basis", self.lattice, pad + "  ")
        text += f'{pad}  <i name="volume">{abs(np.linalg.det(self.lattice)):16.8f} </i>\n'
        text += _varray("rec_basis", reciprocal, pad + "  ") + f"{pad} </crystal>\n"
        return text + _varray("positions", self.coords % 1.0, pad + " ") + f"{pad}</structure>\n"

    def _moments(self):
        share = self.moment / len(self.symbols)
        self.outcar.write("\n magnetization (x)\n \n# of ion       s       p       d       tot\n" + "-" * 42 + "\n")
        for k in range(len(self.symbols)):
            self.outcar.write(f"{k + 1:5d}       0.000   0.000{share:8.3f}{share:8.3f}\n")
        self.outcar.write("-" * 42 + f"\ntot         0.000   0.000{self.moment:8.3f}{self.moment:8.3f}\n\n")
        self.outcar.write(" E-fermi :   1.0000     XC(G=0):  -5.0000     alpha+bet : -4.0000\n\n")

    def _close_step(self):
        filled = int(self.electrons / 2)
        text = "  <eigenvalues>\n   <array>\n    <set>\n"
        for spin in (1, 2):
            text += f'     <set comment="spin {spin}">\n      <set comment="kpoint 1">\n'
            for band in range(self.bands):
                text += f"       <r>{band - filled + 0.5:10.4f} {float(band < filled):8.4f} </r>\n"
            text += "      </set>\n     </set>\n"
        self.xml.write(text + "    </set>\n   </array>\n  </eigenvalues>\n </calculation>\n")

    def _contcar(self):
        head = "stand-in\n   1.00000000000000\n" + _rows(self.lattice, "  ", "")
        names = "   ".join(self.species) + "\n" + "  ".join(f"{count:5d}" for count in self.counts) + "\nDirect\n"
        # renamed into place: a handler that ends VASP at a random instant must find the same file in every run
        Path("CONTCAR.new").write_text(head + names + _rows(self.coords % 1.0, "  ", ""))
        Path("CONTCAR.new").replace("CONTCAR")


def _spelled_out(value):
    for word in value.split():
        count, star, moment = word.rpartition("*")
        yield from [moment] * int(count) if star else [moment]


def _energies(energy):
    names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
    return "".join(f'    <i name="{name}">{energy:18.8f} </i>\n' for name in names)


def _rows(table, before, after):
    return "".join(before + "".join(f"{x:20.16f} " for x in row) + after + "\n" for row in table)


def _varray(name, table, pad):
    rows = "".join(f"{pad} <v>" + "".join(f"{x:16.8f} " for x in row) + "</v>\n" for row in table)
    return f'{pad}<varray name="{name}" >\n{rows}{pad}</varray>\n'
