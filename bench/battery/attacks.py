"""The parts of a battery's YAML that say how it attacks: `attacks:` and `controls:`, a key an attack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pydantic import create_model

from ...attacks.spec import Attack, Strict

SpecT = TypeVar("SpecT", bound=Strict)


class Section(Strict):
    """`attacks:` or `controls:`. Its keys are made from a table of attacks; each may be left out."""

    declarations: ClassVar[Mapping[str, Attack[Any]]] = {}
    """Of each key."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """What it says of the attack `name`; None where it leaves that attack out."""

    def chosen(self) -> Iterator[tuple[str, Strict]]:
        """The keys that are given, in the table's order, each with what it says."""
        for name in type(self).model_fields:
            spec = getattr(self, name)
            if spec is not None:
                yield name, spec

    def name_of(self, kind: type[Strict]) -> str | None:
        """The key of the attack whose keys are a `kind`; None where it leaves that attack out."""
        return next((name for name, spec in self.chosen() if isinstance(spec, kind)), None)

    def of(self, kind: type[SpecT]) -> SpecT | None:
        """What it says of the attack whose keys are a `kind`; None where it leaves that attack out."""
        return next((spec for _, spec in self.chosen() if isinstance(spec, kind)), None)


def section(name: str, attacks: Iterable[Attack[Any]]) -> type[Section]:
    """The Pydantic model of a section that takes these attacks."""
    known = {attack.name: attack for attack in attacks}
    keys: dict[str, Any] = {attack.name: (attack.spec | None, None) for attack in known.values()}
    made = create_model(name, __base__=Section, __doc__=Section.__doc__, **keys)
    made.declarations = known
    return made
