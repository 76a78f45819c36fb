"""A CPU node that holds accelerators: one machine of two profiles."""

from __future__ import annotations

from simulator.errors import ProfileError
from simulator.hardware.profile import Profile


def with_host(profile: Profile, host: Profile, sockets: int | None = None) -> Profile:
    """The chips of `profile` in the CPU node `host`, of which so many sockets take part (all when left out).

    The machine is a DRAM node; the host's main memory is behind the link that the chips' own profile states of the
    memory of their node; what is around them draws what the host's node does. It has no price: the chips' may hold a
    host of its own. Raise ProfileError when `host` is no CPU node, has fewer sockets, or no link is stated.
    """
    if host.family != "dram-node":
        raise ProfileError(f"'{host.name}' is no CPU node ({host.family}); a host is one, such as xeon-6454s-2s")
    sockets = sockets or host.node.chips
    if sockets > host.node.chips:
        raise ProfileError(f"{sockets} sockets, '{host.name}' has {host.node.chips}; write sockets: {host.node.chips}")
    links = [tier.link for tier in profile.node.memory if tier.link is not None]
    if not links:
        raise ProfileError(
            f"'{profile.name}' states no link to the memory of its node; add a tier with `link` to its node's memory"
        )
    holding = host.model_copy(update={"node": host.node.model_copy(update={"chips": sockets})})
    main = host.chip.main_memory
    others = tuple(tier for tier in profile.node.memory if tier.tier != main.tier)
    shared = main.model_copy(
        update={
            "shared_by": "node",
            "capacity": main.capacity * sockets,
            "bandwidth": main.bandwidth * sockets,
            "channels": None,
            "transfer_rate": None,
            "link": links[0],
            "outstanding": next((t.outstanding for t in profile.node.memory if t.link is not None), None),
            "latency": next((t.latency for t in profile.node.memory if t.link is not None), None),
        }
    )
    return profile.model_copy(
        update={
            "name": f"{host.name}+{profile.name}"
            if sockets == host.node.chips
            else f"{host.name}/{sockets}+{profile.name}",
            "title": f"{profile.title} in {host.title}",
            "family": host.family,
            "node": profile.node.model_copy(update={"memory": (shared, *others), "power": host.node.power}),
            "price": None,
            "host": holding,
        }
    )
