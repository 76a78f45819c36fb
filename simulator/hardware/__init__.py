"""What a machine is: compute, memory, fabric, power and price, with the source of every number."""

from __future__ import annotations

from simulator.hardware.catalogue import Catalogue, packaged_folder
from simulator.hardware.compute import Chip, ComputeFormat, Matrix, Vector
from simulator.hardware.fabric import Fabric, ScaleOut
from simulator.hardware.memory import MemoryTier
from simulator.hardware.power import ChipPower, NodePower
from simulator.hardware.price import Price
from simulator.hardware.profile import Node, Profile, check_profile
from simulator.provenance import Fact, weakest

__all__ = [
    "Catalogue",
    "Chip",
    "ChipPower",
    "ComputeFormat",
    "Fabric",
    "Fact",
    "Matrix",
    "MemoryTier",
    "Node",
    "NodePower",
    "Price",
    "Profile",
    "ScaleOut",
    "Vector",
    "check_profile",
    "packaged_folder",
    "weakest",
]
