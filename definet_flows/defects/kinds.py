"""What may be placed: kinds of point defects and the choices that bound their combinations."""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Literal

from pydantic import Field, ValidationError, model_validator
from pymatgen.core import Element

from definet_flows.errors import InputError
from definet_flows.schemas import Frozen, Host

_NAME = re.compile(r"(?P<new>[A-Z][a-z]?|v|Vac)_(?P<old>[A-Z][a-z]?|i)(?:@(?P<site>\d+))?")
_VACANCY_NAMES = ("v", "Vac")  # V is vanadium
INTERSTITIAL = "i"
_VANADIUM = 23
_MOST_CHARGED = 1000  # elementary charges; a number beyond 64 bits has no place in a database


class DefectKind(Frozen):
    """One kind of point defect: a vacancy, a substitution, or an inserted atom."""

    new: int | None = Field(description="atomic number placed there; None for a vacancy")
    old: int | None = Field(description="atomic number of the host's element; None for an inserted atom")
    site: int | None = Field(default=None, description="only on sites symmetry-equivalent to this site; None: on all")

    @classmethod
    def parse(cls, text: str | DefectKind) -> DefectKind:
        """Return the kind that `v_S`, `W_Mo`, `Li_i`, or with a site `v_S@12`, names.

        Raises
        ------
        InputError
            Not of this form, an unknown element, or a substitution by itself.
        """
        if isinstance(text, DefectKind):
            return text
        match = _NAME.fullmatch(text.strip())
        if match is None:
            msg = f"defect {text!r} is not a name such as v_S, W_Mo, Li_i (inserted) or v_S@12 (by site)"
            raise InputError(msg)
        if match["new"] in _VACANCY_NAMES and match["old"] == INTERSTITIAL:
            msg = f"defect {text!r}: a vacancy is named after the missing element, as in v_S"
            raise InputError(msg)
        new = None if match["new"] in _VACANCY_NAMES else _atomic_number(match["new"], text)
        old = None if match["old"] == INTERSTITIAL else _atomic_number(match["old"], text)
        if new == old:
            msg = f"defect {text!r} replaces an element by itself: name another, or the vacancy v_{match['old']}"
            raise InputError(msg)
        return cls(new=new, old=old, site=None if match["site"] is None else int(match["site"]))

    @property
    def name(self) -> str:
        """`v_S`, `W_Mo` or `Li_i`, without the site."""
        new = "v" if self.new is None else Element.from_Z(self.new).symbol
        return f"{new}_{self.on}"

    @property
    def on(self) -> str:
        """Element of the host that it edits; "i" for an inserted atom."""
        return INTERSTITIAL if self.old is None else str(Element.from_Z(self.old).symbol)

    @property
    def color(self) -> tuple[int, int]:
        """Old and new atomic number, 0 for none: the order in which kinds enter a canonical placement."""
        return (self.old or 0, self.new or 0)


def _atomic_number(symbol: str, text: str) -> int:
    if not Element.is_valid_symbol(symbol):
        msg = f"defect {text!r}: {symbol} is not an element"
        raise InputError(msg)
    return int(Element(symbol).Z)


def check_kinds(host: Host, kinds: tuple[DefectKind, ...]) -> None:
    """Refuse a kind whose element or site the host does not have; warn of a V_Ga that may mean the vacancy v_Ga.

    Raises
    ------
    InputError
        Naming the kind and what the host has.
    """
    symbols = {number: Element.from_Z(number).symbol for number in dict.fromkeys(host.numbers)}
    for kind in kinds:
        if kind.old is not None and kind.old not in symbols:
            msg = f"defect {kind.name}: host {host.formula} has no such element, only {', '.join(symbols.values())}"
            raise InputError(msg)
        if (
            kind.old is not None
            and kind.site is not None
            and not (kind.site < host.n_sites and host.numbers[kind.site] == kind.old)
        ):
            here = f"holds {symbols[host.numbers[kind.site]]}" if kind.site < host.n_sites else "does not exist"
            msg = (
                f"defect {kind.name}@{kind.site}: site {kind.site} of host {host.formula} ({host.n_sites} sites) {here}"
            )
            raise InputError(msg)
        if kind.new == _VANADIUM and kind.old is not None and _VANADIUM not in symbols:
            told = f"defect {kind.name} is vanadium on {kind.on}: the vacancy is named v_{kind.on}"
            warnings.warn(told, UserWarning, stacklevel=2)


class Wish(Frozen):
    """Base of what the user asks for: a wrong field is an InputError of one line."""

    if not TYPE_CHECKING:  # type checkers keep the signature that the fields give

        def __init__(self, **data: object) -> None:
            try:
                super().__init__(**data)
            except ValidationError as error:
                raise self._refusal(error) from None

    @classmethod
    def _refusal(cls, error: ValidationError) -> InputError:
        """Return pydantic's first complaint, or the InputError that a validator raised."""
        first = error.errors()[0]
        raised = first.get("ctx", {}).get("error")
        if isinstance(raised, InputError):
            return raised
        where = ".".join(str(part) for part in first["loc"])
        return InputError(f"{cls.__name__.lower()}: {where}={first['input']!r}: {first['msg']}")


class Choices(Wish):
    """Which configurations are wanted; every limit is inclusive.

    Examples
    --------
    >>> Choices(defects=("v_Mo", "W_Mo", "v_S", "Se_S"), max_on={"Mo": 1, "S": 2}).max_on
    {'Mo': 1, 'S': 2}
    """

    defects: tuple[str, ...] = Field(min_length=1, description="kinds by name (v_S) or by site (v_S@12)")
    min_defects: int = Field(default=1, ge=0, description="least number of defects in a configuration")
    max_defects: int | None = Field(
        default=None, ge=1, description="None: as many as max_on or max_per_kind allow; 1 where nothing is limited"
    )
    max_on: dict[str, int] = Field(
        default_factory=dict, description="most defects on the sites of one host element; 'i': of inserted atoms"
    )
    max_per_kind: dict[str, int] = Field(
        default_factory=dict, description="most defects of one kind, such as {'v_S': 2}"
    )
    min_distance: float | None = Field(default=None, ge=0, description="between any two defects, Å, minimum image")
    max_distance: float | None = Field(default=None, gt=0, description="between any two defects, Å, minimum image")
    charges: tuple[int, ...] | dict[str, tuple[int, ...]] | Literal["guess"] = Field(
        default=(0,),
        description="net charges of every configuration, elementary charges; or per kind, summed over its defects; "
        "or guessed per kind",
    )

    @model_validator(mode="before")
    @classmethod
    def _names(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("defects"), str):
            msg = f"defects={data['defects']!r}: give a tuple of names, such as ('v_S', 'W_Mo')"
            raise InputError(msg)
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Choices:
        names = {kind.name for kind in self.kinds}
        elements = {kind.on for kind in self.kinds}
        for label, given, known in (("max_on", self.max_on, elements), ("max_per_kind", self.max_per_kind, names)):
            for key, limit in given.items():
                if key not in known or limit < 0:
                    msg = f"{label} {key}={limit}: the limit must be 0 or more and of one of {', '.join(sorted(known))}"
                    raise InputError(msg)
        if self.max_defects is not None and self.max_defects < self.min_defects:
            msg = f"max_defects={self.max_defects} is below min_defects={self.min_defects}"
            raise InputError(msg)
        charges = self.charges if isinstance(self.charges, dict) else {}
        if self.charges == () or any(name not in names or not states for name, states in charges.items()):
            kinds = ", ".join(sorted(names))
            msg = f"charges={self.charges!r}: give net charges such as (0, -1), or some for one of {kinds}"
            raise InputError(msg)
        each = self.charges if isinstance(self.charges, tuple) else [q for some in charges.values() for q in some]
        beyond = next((q for q in each if abs(q) > _MOST_CHARGED), None)
        if beyond is not None:
            msg = f"charge {beyond:+d}: a net charge lies between -{_MOST_CHARGED} and +{_MOST_CHARGED}"
            raise InputError(msg)
        if None not in (self.min_distance, self.max_distance) and self.min_distance > self.max_distance:  # type: ignore[operator]
            msg = f"min_distance={self.min_distance} is above max_distance={self.max_distance} Å"
            raise InputError(msg)
        return self

    @property
    def kinds(self) -> tuple[DefectKind, ...]:
        """The kinds, parsed, without repetition."""
        return tuple(dict.fromkeys(DefectKind.parse(text) for text in self.defects))

    def limit(self) -> int:
        """Return the largest number of defects in one configuration.

        Raises
        ------
        InputError
            If some kinds are limited and others are not, or more than one defect is asked for and nothing limits any.
        """
        limits = [self._limit_of(kind) for kind in self.kinds]
        if self.max_defects is not None:
            return self.max_defects
        if all(limit is None for limit in limits):
            if self.min_defects > 1:
                msg = f"min_defects={self.min_defects}: give max_defects too, nothing else limits the number"
                raise InputError(msg)
            return 1
        if None in limits:
            free = ", ".join(kind.name for kind, limit in zip(self.kinds, limits, strict=True) if limit is None)
            msg = f"nothing limits the number of {free}; give max_defects, or max_on for its element"
            raise InputError(msg)
        return sum(self.max_per_kind.values()) + sum(self.max_on.values())

    def _limit_of(self, kind: DefectKind) -> int | None:
        limits = [limit for limit in (self.max_on.get(kind.on), self.max_per_kind.get(kind.name)) if limit is not None]
        return min(limits, default=None)
