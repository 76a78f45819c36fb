"""Measured power and energy: what a row's metric makes of the seconds and joules of one chip."""

from __future__ import annotations

from collections.abc import Callable

from simulator.validation.question import Question

Energy = Callable[[Question, float, float], float]


def one_chip_watts(question: Question, seconds: float, joules: float) -> float:
    """joules / seconds, at the level of the profile's chip."""
    return joules / seconds


def chips_watts(question: Question, seconds: float, joules: float) -> float:
    """chips * joules / seconds: all chips of the deployment, nothing around them."""
    return question.chips * one_chip_watts(question, seconds, joules)


def wall_watts(question: Question, seconds: float, joules: float) -> float:
    """The chips and their share of the node's base power."""
    node = question.machine.profile.node
    return chips_watts(question, seconds, joules) + float(node.power.base) * question.chips / node.chips


def joules_per_token(watts: Energy, tokens: Callable[[Question], float]) -> Energy:
    """watts * seconds / tokens, of output tokens."""
    return lambda question, seconds, joules: watts(question, seconds, joules) * seconds / tokens(question)


def batch_tokens(question: Question) -> float:
    """Output tokens of a whole static batch."""
    return question.batch * question.output_tokens


def step_tokens(question: Question) -> float:
    """Output tokens of one step: one for each sequence."""
    return question.batch
