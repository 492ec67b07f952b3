"""Who is told: the first routes that match an account, or the default recipients."""

from __future__ import annotations

from dataclasses import dataclass

from healthd.core.model import Target


@dataclass(frozen=True, slots=True)
class Route:
    """Targets for the accounts that meet every matcher given; an empty matcher matches all."""

    to: tuple[Target, ...]
    workspace: frozenset[str] = frozenset()
    platform: frozenset[str] = frozenset()
    account: frozenset[str] = frozenset()
    profile: frozenset[str] = frozenset()
    stop: bool = True
    """Whether later routes are passed over once this one matched."""

    def matches(self, workspace: str, platform: str, account: str, profile: str) -> bool:
        asked = (
            (self.workspace, workspace),
            (self.platform, platform),
            (self.account, account),
            (self.profile, profile),
        )
        return all(not wanted or found in wanted for wanted, found in asked)


@dataclass(frozen=True, slots=True)
class Routing:
    """All routes in order, and who is told where none matches."""

    routes: tuple[Route, ...] = ()
    default: tuple[Target, ...] = ()

    def targets(self, workspace: str, platform: str, account: str, profile: str) -> tuple[Target, ...]:
        """Each target once, in the order of the routes. Empty where nobody is configured to be told."""
        found: dict[Target, None] = {}
        matched = False
        for route in self.routes:
            if route.matches(workspace, platform, account, profile):
                matched = True
                found.update(dict.fromkeys(route.to))
                if route.stop:
                    break
        return tuple(found) if matched else self.default
