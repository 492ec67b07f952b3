"""What somebody may do on the private listener, and who is given which role."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """Each may do what those before it may."""

    VIEWER = "viewer"
    """Looks."""
    OPERATOR = "operator"
    """Also acts on accounts, incidents and notices, and changes what is on record of people."""
    ADMIN = "admin"
    """Also sees who may do what, and what everybody did."""

    def may(self, needed: Role) -> bool:
        """Whether this role is enough where that one is asked for."""
        return _RANK[self] >= _RANK[needed]


_RANK = {role: rank for rank, role in enumerate(Role)}


@dataclass(frozen=True, slots=True)
class Grants:
    """Who is given which role by somebody else's word: an identity provider's, or a proxy's.

    ``users`` and ``domains`` are compared without regard to case, ``groups`` as they are written.
    """

    groups: Mapping[str, Role] = field(default_factory=dict)
    users: Mapping[str, Role] = field(default_factory=dict)
    domains: Mapping[str, Role] = field(default_factory=dict)

    def role(self, user: str, groups: Iterable[str] = ()) -> Role | None:
        """The highest of the roles that this user is given; ``None`` for nobody we know. A user without a name that
        can be trusted is the empty text.
        """
        found = [self.groups[group] for group in groups if group in self.groups]
        # Lower case maps letters of other alphabets onto ours: such a name must not pass for one that is listed.
        if user and user.isascii():
            name, at, domain = user.lower().rpartition("@")
            found += [self.users[listed] for listed in self.users if listed.lower() == user.lower()]
            if name and at and "@" not in name:
                found += [self.domains[listed] for listed in self.domains if listed.lower() == domain]
        return max(found, key=_RANK.__getitem__, default=None)
