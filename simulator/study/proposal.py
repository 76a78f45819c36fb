"""What a plan answers: the fleet, its runners-up, what binds it, what more would buy, how sensitive it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.metrics.slo import Slo
from simulator.metrics.steady import student_t
from simulator.report.day_chart import draw_day
from simulator.report.notebook import Charts, Shown, labelled
from simulator.report.study_charts import draw_front
from simulator.study.bench import Miss
from simulator.study.equal_loss import Level, level_lines
from simulator.study.fleet import Demand, Fleet
from simulator.study.objective import Objective
from simulator.study.sensitivity import sensitivity
from simulator.study.study import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame


@dataclass(frozen=True)
class Proposal(Shown):
    """fleets: verified ones, the best first (empty: nothing keeps the SLO); headroom: factor on the traffic that the
    best still holds; headroom_found: whether more was tried in vain; runs: of its first part at the peak, one for each
    seed; closed: all fleets of one candidate by their closed form; joined: fleets of two kinds likewise; refused: why
    others were none -> how many; levels: the predicted losses where there are several models."""

    name: str
    plan: Plan
    slo: Slo
    objective: Objective
    demand: Demand
    fleets: tuple[Fleet, ...]
    headroom: float
    headroom_found: bool
    runs: tuple[Mapping[str, Any], ...]
    closed: tuple[Fleet, ...]
    joined: tuple[Fleet, ...]
    refused: Mapping[str, int]
    nearest: Miss | None
    levels: tuple[Level, ...]
    tried: int
    computed: int

    @property
    def run(self) -> Mapping[str, Any]:
        """Figures of the best fleet at the peak, of its first part."""
        return self.runs[0] if self.runs else {}

    @property
    def table(self) -> DataFrame:
        """The verified fleets, then the other candidates by their closed form."""
        from pandas import DataFrame

        known = {fleet.name for fleet in self.fleets}
        rest = [fleet for fleet in self.closed if fleet.name not in known]
        several = len(self.levels) > 1
        rows = [_record(each, True, several) for each in self.fleets] + [_record(each, False, several) for each in rest]
        if len(self.objective.weights) > 1:
            front = {id(each) for each in self.objective.front(self.fleets)}
            for row, each in zip(rows, [*self.fleets, *rest], strict=True):
                row["front"] = id(each) in front
        return DataFrame.from_records(rows)

    def attained(self) -> tuple[float, float | None]:
        """Share of the requests of the best fleet's first part that keep the SLO at the peak, and half of its 95 %
        interval over the seeds (None for a single one)."""
        shares = [float(run["slo_attainment"]) for run in self.runs]
        mean = sum(shares) / len(shares)
        if len(shares) < 2:
            return mean, None
        spread = (sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)) ** 0.5
        return mean, student_t(len(shares) - 1) * spread / len(shares) ** 0.5

    def constraints(self) -> dict[str, int]:
        """Constraint -> how many fleets of one candidate break it furthest."""
        broken = [excess.constraint for excess in (each.breaks(self.plan) for each in self.closed) if excess]
        return {f"constraint {name}": broken.count(name) for name in dict.fromkeys(broken)}

    def kept_out(self) -> tuple[str, Fleet] | None:
        """The constraint that binds, and the best fleet that it keeps out: better in closed form than the best."""
        if not self.fleets:
            return None
        best = self.objective.of(self.fleets[0])
        for each in self.closed:
            excess = each.breaks(self.plan)
            if excess and self.objective.of(each) < best:
                return f"{excess.constraint}: {excess.what}", each
        return None

    def buys(self) -> dict[str, float]:
        """Requests a second that one more USD an hour and one more kW would carry, on the best fleet's kinds."""
        if not self.fleets:
            return {}
        best = self.fleets[0]
        rate = sum(part.rate for part in best.parts)
        per_dollar = {"USD/h": rate / best.cost_per_hour} if best.cost_per_hour else {}
        return {**per_dollar, "kW": rate / best.peak_power * 1e3}

    def sensitivity(self) -> DataFrame:
        """What the best fleet's objective becomes when an input is 20 % larger, all else equal, by the closed form."""
        from pandas import DataFrame

        if not self.fleets:
            return DataFrame()
        return DataFrame.from_records(
            sensitivity(self.fleets[0], self.objective, self.slo, self.demand, self.plan, self.headroom)
        )

    def level_lines(self) -> list[str]:
        """What is said of the models' losses, where there are several."""
        wanted = self.plan.at_equal_loss
        return level_lines([self.levels], wanted.tolerance if wanted else 0.0) if self.levels else []

    def frame(self) -> DataFrame:
        """`table` with the units in the names of columns."""
        return labelled(self.table)

    def charts(self) -> Charts:
        """The charts of `plots/`, by the names of its files."""
        return {
            "day": self._day,
            "candidates": lambda: draw_front(self._kinds(), "cost_per_mtok_usd", "energy_per_output_token_j"),
            "latency": lambda: draw_front(self._kinds(), "tpot_mean_ms", "cost_per_mtok_usd"),
        }

    def _kinds(self) -> DataFrame:
        """`table`, with all machines of a fleet in the place of the first."""
        table = self.table
        if table.empty:
            return table
        prompts = table["prefill_machine"].map(lambda name: f"{name} > " if isinstance(name, str) else "")
        peaks = table["peaks_machine"].map(lambda name: f" + {name}" if isinstance(name, str) else "")
        return table.assign(machine=prompts + table["machine"] + peaks)

    def _day(self) -> Figure | None:
        """The hours of the day and who carries them; None where no fleet does."""
        parts = self.fleets[0].parts if self.fleets else ()
        loads = {f"{part.replicas} x {part.candidate.machines}": part.hours(self.demand) for part in parts}
        return draw_day(loads, [part.rate for part in parts]) if parts else None


def _record(each: Fleet, verified: bool, several: bool) -> dict[str, Any]:
    case = each.candidate.case
    return {
        **({"model": str(each.candidate.model)} if several else {}),
        "machine": case.machine.profile.name,
        "layout": str(case.machine.parallelism),
        "weights": case.precision.weights,
        "max_num_seqs": each.candidate.limits.max_num_seqs,
        "stack": case.machine.stack.name,
        "verified": verified,
        "replicas": each.replicas,
        **_prefill(each),
        **_peaks(each),
        "nodes": each.count_of(case.machine.profile.name),
        "spares": each.spares,
        "chips": each.chips,
        "racks": each.racks,
        "cost_per_mtok_usd": each.cost_per_mtok,
        "cost_per_hour_usd": each.cost_per_hour,
        "energy_per_output_token_j": each.joules_per_token,
        "average_power_w": each.power,
        "peak_power_w": each.peak_power,
        "carbon_per_mtok_kg": each.carbon_per_mtok,
        "tpot_mean_ms": each.candidate.token_s * 1e3,
        "requests_per_s_per_replica": each.candidate.rate,
        "binding": each.candidate.binding,
    }


def _prefill(each: Fleet) -> dict[str, Any]:
    """The machines that compute the prompts, where they are others; nodes 0: they share those that answer."""
    side = each.candidate.prefill
    if side is None:
        return {"prefill_machine": None, "prefill_layout": None, "prefill_replicas": 0, "prefill_nodes": 0}
    profile = side.case.machine.profile
    shared = profile.name == each.candidate.case.machine.profile.name
    return {
        "prefill_machine": profile.name,
        "prefill_layout": str(side.case.machine.parallelism),
        "prefill_replicas": side.count(each.replicas),
        "prefill_nodes": 0 if shared else each.count_of(profile.name),
    }


def _peaks(each: Fleet) -> dict[str, Any]:
    """The machines that carry what exceeds the base load, where there are others, and the base load (1/s)."""
    part = each.peaks
    if part is None:
        return {"peaks_machine": None, "peaks_layout": None, "peaks_replicas": 0, "peaks_nodes": 0, "base_rate": None}
    machine = part.candidate.case.machine
    return {
        "peaks_machine": machine.profile.name,
        "peaks_layout": str(machine.parallelism),
        "peaks_replicas": part.replicas,
        "peaks_nodes": each.count_of(machine.profile.name),
        "base_rate": part.floor,
    }
