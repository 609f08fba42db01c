"""Adapters: one library each, behind the interface of `Peer`."""

from typing import Protocol

from shapes import Problem


class Peer(Protocol):
    """A library with a network and its Adam, ready to train on the mini-batches of a problem."""

    version: str

    def __init__(self, problem: Problem, threads: int) -> None: ...

    def run(self, steps: int) -> None:
        """Train for `steps` steps, from the first mini-batch on and round; return when done."""

    def loss(self) -> float:
        """Mean cross entropy of the last mini-batch (problem.held_out()), nothing being trained."""


def cycles(steps: int, n_batches: int) -> list[tuple[int, int]]:
    """`steps` as [(passes, mini-batches in each)]: whole passes, then the rest."""
    passes, rest = divmod(steps, n_batches)
    return [(p, n) for p, n in ((passes, n_batches), (1, rest)) if p * n]
