"""Energy: how often each part acted, times what one action costs; and what all parts leak meanwhile."""

from collections.abc import Iterable

from memspike.chip import COMPONENTS, Chip
from memspike.cost import CostRow
from memspike.errors import CostError
from memspike.estimator.layers import layer_of
from memspike.mapping import Mapping
from memspike.result import Activity

CELL_ACTIONS = ("read", "read_levels")


def action_rows(mapping: Mapping, activity: Activity) -> list[CostRow]:
    """One row per op, component and action that was counted, per image; raises CostError for counts that the chip cannot have made."""
    rows: list[CostRow] = []
    names: dict[str, str] = {value: layer_of(mapping.program, value) for value in {op for op, _, _ in activity.counts} & mapping.program.types.keys()}
    for (op, component, action), count in activity.counts.items():
        where = f"activity of ({op}, {component}, {action})"
        if op not in names:
            raise CostError(f"program {mapping.program.name} has no value {op!r}", where=where, cure="use the activity of a simulation of this mapping")
        if count < 0:
            raise CostError(f"counted {count} times; expected zero or more", where=where)
        rows.append(CostRow(names[op], component, action, count / activity.num_images, energy_each=_energy_each(mapping, op, component, action, where)))
    return rows


def leak_rows(chip: Chip, parts: Iterable[CostRow], interval: float) -> list[CostRow]:
    """Leakage of every instance in `parts` while one image passes; with layers pipelined that is `interval` = 1 / throughput [s]."""
    each = {name: chip.component(name).leakage.value * interval for name in COMPONENTS}
    return [CostRow(part.layer, part.component, "leak", part.count, energy_each=each[part.component]) for part in parts if each[part.component] > 0]


def cell_read_energies(chip: Chip, max_level: int) -> dict[str, float]:
    """Joule per counted `read` (a cell at level 0 for one spike) and per counted `read_levels` (one level more of it): V^2 * g * timestep."""
    device = chip.crossbar.device
    per_siemens = chip.crossbar.read_voltage.value**2 * chip.timestep.value
    return {"read": per_siemens * device.g_min.value, "read_levels": per_siemens * (device.g_max.value - device.g_min.value) / max_level}


def _energy_each(mapping: Mapping, op: str, component: str, action: str, where: str) -> float:
    known = {name: (*actions, *(CELL_ACTIONS if name == "cell" else ())) for name, actions in COMPONENTS.items()}
    if action not in known.get(component, ()):
        actions = "; ".join(f"{name}: {', '.join(names)}" for name, names in known.items() if names)
        raise CostError(f"no component {component!r} has an action {action!r}", where=where, cure=f"known are {actions}")
    if component != "cell":
        return mapping.chip.component(component).energy[action].value
    plan = next((plan for plan in mapping.layers if plan.op == op), None)
    if plan is None:
        raise CostError(f"op {op!r} has no cells", where=where, cure=f"ops with cells: {', '.join(plan.op for plan in mapping.layers)}")
    return cell_read_energies(mapping.chip, plan.max_level)[action]
