"""Which tools stand at the beginning of a dialogue, and requests that fit one of them or none."""

from __future__ import annotations

from demo_model.asides import with_more
from demo_model.demo.made_tools import made_tool
from demo_model.draws import Draws
from demo_model.lookups import lookup
from demo_model.mix import Mix
from demo_model.requests import Request, request
from demo_model.schemas import styled
from demo_model.tools import Family, Offer, families, offer

TOOLS = [1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6]
FEWER_TOOLS = [1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 5, 6]
SHELLS = {"run_shell"}
SHELL_DOMAINS = {"computer", "builders"}


class Offering:
    """Draws tools and requests from one stream of random numbers."""

    def __init__(self, draws: Draws, mix: Mix) -> None:
        self.d = draws
        self.mix = mix
        self.families = [family for family in families() if family.held_out == draws.held_out]
        self.others = families()

    # --- tools

    def offers(self, n: int | None = None) -> list[Offer]:
        """One to six tools; where there are several, near ones are among them more often than not."""
        n = n or self.d.one(FEWER_TOOLS if self.d.held_out else TOOLS)
        first = self._made() if self._makes(self.mix.made) else self.d.one(self.families)
        made = _apart(self._named_apart(self._with_neighbours(first, n)))
        self.d.random.shuffle(made)
        return made or self.offers(n)

    def _with_neighbours(self, first: Family, n: int) -> list[Family]:
        chosen = [first]
        for _ in range(40):
            if len(chosen) == n:
                break
            another = self._beside(first, chosen)
            if another.key not in {one.key for one in chosen}:
                chosen.append(another)
        return chosen

    def _beside(self, first: Family, chosen: list[Family]) -> Family:
        """Often one that does nearly the same as the first, or something else for the same thing."""
        near = [
            one
            for one in self.others
            if one.family == first.family or (self.d.often(0.3) and one.domain == first.domain)
        ]
        another: Family = self.d.one(near) if near and self.d.often(0.55) else self.d.one(self.others)
        if first.domain == "made" and self.d.often(0.6):
            return made_tool(self.d, first.family if self.d.often(0.6) else None)
        if first.domain == "lookups" and self.d.often(0.6):
            return lookup(self.d, chosen)
        return another

    def _named_apart(self, chosen: list[Family]) -> list[Offer]:
        """Offers of different names; the first only where there is something to ask of it."""
        made: dict[str, Offer] = {}
        for place, family in enumerate(chosen):
            one = self._offered(family)
            if place or one.usable():
                made.setdefault(one.name, one)
        return list(made.values())

    def _offered(self, family: Family) -> Offer:
        one = offer(family, self.d)
        return styled(one, self.d) if self._makes(0.6) else one

    def _made(self) -> Family:
        """A tool that nobody wrote: those are too few to learn from that a schema has to be read."""
        return lookup(self.d) if self.d.often(0.6) else made_tool(self.d)

    def _makes(self, share: float) -> bool:
        """Whether to do what only training does: an evaluation has the hand-written tools, plainly listed."""
        return not self.d.held_out and self.d.often(share)

    # --- requests

    def askable(self, offers: list[Offer]) -> list[Offer]:
        """Those that a request can be for; in an evaluation only what was held out."""
        return [one for one in offers if one.family.held_out == self.d.held_out and one.usable()]

    def asked(self, offers: list[Offer]) -> Request:
        """A request for one of the tools, or for another where none can be asked for."""
        able = self.askable(offers)
        if not able:
            return self.asked(self.offers())
        chosen = self.d.one(able)
        fuller = chosen.with_optional() if self._makes(self.mix.optional) else None
        made = request(chosen, self.d, fuller)
        assert made  # its schema fits a wording
        return (with_more(made, self.d) if self._makes(self.mix.beside) else None) or made

    def unlike(self, first: Request, offers: list[Offer]) -> Request:
        """A request that differs from the first in one thing: an optional argument, the values, or the tool."""
        share = self.d.random.random()
        others = [one for one in self.askable(offers) if one is not first.offer]
        if others and share < 0.35:
            return self.asked([self.d.one(others)])
        more = with_more(first, self.d) if share < 0.6 else None
        if share < 0.8 and more is None and (fuller := first.offer.with_optional()):
            more = request(first.offer, self.d, fuller, like=first)
        return more or request(first.offer, self.d, [first.wording]) or first

    def unfit(self, offers: list[Offer]) -> Request | None:
        """A request of another domain and family than all of the tools; None where its schema has no wording."""
        families_here = {one.family.family for one in offers}
        domains = {one.family.domain for one in offers}
        others = [one for one in self.others if one.family not in families_here and one.domain not in domains]
        return request(offer(self.d.one(others), self.d), self.d)


def _apart(offers: list[Offer]) -> list[Offer]:
    """A shell can do what most tools of a computer do: beside it no other is the only right one."""
    if not {one.family.key for one in offers} & SHELLS:
        return offers
    return [one for one in offers if one.family.domain not in SHELL_DOMAINS or one.family.key in SHELLS]
