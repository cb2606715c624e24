"""What one answer is held to: its grammar, as far as the answer has come."""

from __future__ import annotations

from .constraint import Compiled, Constraint, ConstraintFailed, Mask
from .runner import Ids


class Held:
    """To nothing, until `hold`."""

    def __init__(self) -> None:
        self._constraint: Constraint | None = None
        self.allowed: Mask | None = None
        """The tokens that may come next; None for all."""

    def hold(self, compiled: Compiled, answered: Ids) -> None:
        """From now on to this grammar, and what there is of the answer, too.

        Raises:
            ConstraintFailed: that does not fit, or the grammar is none.
        """
        constraint = compiled.constraint
        if constraint is None:
            raise ConstraintFailed(compiled.error)
        for token in answered.tolist():
            constraint.push(token)
        self._constraint, self.allowed = constraint, constraint.allowed()

    def push(self, token: int) -> None:
        """The answer goes on.

        Raises:
            ConstraintFailed
        """
        if self._constraint:
            self._constraint.push(token)
            self.allowed = self._constraint.allowed()

    def copy(self) -> Held:
        """For another answer that begins like this one."""
        other = Held()
        if self._constraint:
            other._constraint, other.allowed = self._constraint.copy(), self.allowed
        return other

    def masks_after(self, guesses: Ids) -> list[Mask | None]:
        """What may come after each of ``guesses``, as many of them as the grammar lets follow on
        each other. Changes nothing."""
        if self._constraint is None:
            return [None] * len(guesses)
        ahead, masks = self.copy(), list[Mask | None]()
        for token in guesses.tolist():
            if not ahead.allows(token):
                break
            try:
                ahead.push(token)
            except ConstraintFailed:
                break
            if ahead.allowed is None or not ahead.allowed.any():  # the end of a sentence
                break
            masks.append(ahead.allowed)
        return masks

    def allows(self, token: int) -> bool:
        mask = self.allowed
        return mask is None or bool(mask[token // 8] >> (token % 8) & 1)
