"""What a machine costs an hour, bought or rented.

Bought:  USD/h = K * a / 8760 h * (1 + facility + operation) / utilisation, and electricity beside it, with
         K = capital + sum over tiers of bytes * (price in the memory scenario - price at the capital's own date),
         a = i / (1 - (1 + i)^-n) the annuity of n years at interest i; 1/n without interest.
Rented:  USD/h = rental * chips / utilisation, electricity included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simulator.hardware.memory_price import memory_prices
from simulator.hardware.profile import Profile

HOUR_S, YEAR_S = 3600.0, 31_536_000.0
MTOK = 1e6


@dataclass(frozen=True)
class Terms:
    """How machines are paid for, in SI (seconds, USD per joule); shares are of the machine's own cost."""

    basis: str
    amortisation_s: float
    interest: float
    electricity: float
    facility: float
    operation: float
    utilisation: float
    memory_prices: str | None = None


@dataclass(frozen=True)
class HourlyCost:
    """USD an hour of one node by component, without electricity where `electricity` (USD/J) is paid beside it."""

    parts: dict[str, float]
    electricity: float
    date: str

    def of(self, seconds: float, nodes: float, joules: float) -> dict[str, float]:
        """USD by component of `nodes` nodes (a share of one counts as such) for so long, and of the site's joules."""
        spent = {name: rate * nodes * seconds / HOUR_S for name, rate in self.parts.items()}
        return {**spent, "energy": joules * self.electricity} if self.electricity else spent


def annuity(years: float, interest: float) -> float:
    """Share of the capital that is paid every year, so that it is paid back with interest after `years`."""
    return interest / (1.0 - (1.0 + interest) ** -years) if interest else 1.0 / years


def capital_at(profile: Profile, capital: float, date: str, scenario: str | None) -> float:
    """USD of a machine priced at `date`, its memory priced anew in a memory price scenario."""
    if scenario is None:
        return capital
    then, now = memory_prices().at(date), memory_prices().of(scenario)
    tiers = [(tier, profile.node.chips) for tier in profile.chip.memory] + [(tier, 1) for tier in profile.node.memory]
    rise = 0.0
    for tier, copies in tiers:
        if not tier.cache and tier.tier in now and tier.tier in then:
            rise += copies * float(tier.capacity) * (float(now[tier.tier]) - float(then[tier.tier]))
    return max(capital + rise, 0.0)


def hourly_cost(
    profile: Profile, terms: Terms, capital: float | None = None, rental: float | None = None
) -> HourlyCost | None:
    """USD an hour of the whole node; `capital` (USD) and `rental` (USD/h of a chip) come before the profile's own.

    None where neither states a price of the basis. Raise ProfileError for an unknown memory price scenario.
    """
    price = profile.price
    date = price.date if price else "-"
    if terms.basis == "rental":
        rate = rental if rental is not None else (price.rental if price else None)
        if rate is None:
            return None
        return HourlyCost({"rental": float(rate) * profile.node.chips / terms.utilisation}, 0.0, date)
    bought = capital if capital is not None else (price.capital if price else None)
    if bought is None:
        return None
    dated = capital_at(profile, float(bought), date, terms.memory_prices) if price else float(bought)
    own = dated * annuity(terms.amortisation_s / YEAR_S, terms.interest) * HOUR_S / YEAR_S / terms.utilisation
    parts = {"machine": own, "facility": own * terms.facility, "operation": own * terms.operation}
    return HourlyCost(parts, terms.electricity, date)


def common_basis(profiles: Iterable[Profile], capital: Iterable[str] = (), rental: Iterable[str] = ()) -> str:
    """Rental where every machine has one, else capital; `capital` and `rental` name profiles that are priced anew."""
    capital, rental = set(capital), set(rental)
    everywhere = all(p.name in rental or (p.price is not None and p.price.rental is not None) for p in profiles)
    return "rental" if everywhere else "capital"


def no_price(profile: Profile, basis: str) -> str:
    """What to say of a machine without a price of the basis."""
    example = "2.5 USD/h" if basis == "rental" else "250000 USD"
    return f"no {basis} price of '{profile.name}'; write money: {{{basis}: {{{profile.name}: {example}}}}}"
