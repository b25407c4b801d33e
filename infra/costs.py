"""Costs of the node pools of each environment, from pools.yaml and machines.yaml: ``python infra/costs.py``."""

from __future__ import annotations

import datetime
import sys

import yaml

from mm1_components.wrapper.nodes import Cloud, Machine, Price
from mm1_components.wrapper.pools import PoolTable
from mm1_workflows.authoring import profiles

CLOUDS: dict[Cloud, str] = {"aws": "AWS", "gcp": "Google Cloud"}
HEAD = "| environment | cloud | pool | machine | nodes | USD/h, minimum | USD/h, maximum |\n|---|---|---|---|---|---|---|"


def table() -> str:
    """Return the costs as a Markdown table, and where its prices come from.

    The minimum is charged all the time, the maximum while all nodes of the pool exist. Approximate prices, on demand.
    """
    pools = PoolTable.model_validate(yaml.safe_load(profiles.POOLS.read_text(encoding="utf-8")))
    facts = yaml.safe_load(profiles.MACHINES.read_text(encoding="utf-8"))
    machines = {name: Machine.model_validate(value) for name, value in facts.items()}
    rows = [HEAD]
    for environment, sizes in pools.environments.items():
        for cloud, title in CLOUDS.items():
            total = [0.0, 0.0]
            unknown = []
            for name, pool in pools.pools.items():
                nodes = pool.nodes[cloud]
                size = sizes.get(name, nodes.size)
                price = machines[nodes.machine].price
                costs = [count * price.usd_per_hour if price else None for count in (size.min, size.max)]
                if price is None and size.max:
                    unknown.append(nodes.machine)
                total = [one + (cost or 0) for one, cost in zip(total, costs, strict=True)]
                shown = [f"{cost:,.2f}" if cost is not None else "not noted" if size.max else "0.00" for cost in costs]
                count = f"{size.min}" if size.min == size.max else f"{size.min} to {size.max}"
                rows.append(f"| {environment} | {title} | `{name}` | {nodes.machine} | {count} | {shown[0]} | {shown[1]} |")
            rest = f", without {', '.join(unknown)}" if unknown else ""
            rows.append(f"| {environment} | {title} | **all**{rest} | | | **{total[0]:,.2f}** | **{total[1]:,.2f}** |")
    return "\n".join([*rows, "", _sources([machine.price for machine in machines.values() if machine.price])])


def _sources(prices: list[Price]) -> str:
    regions = " and ".join(sorted({price.region for price in prices}))
    noted: datetime.date = min(price.noted for price in prices)
    return f"Approximate prices on demand in {regions}, of about {noted}; look up today's before you rely on them."


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
