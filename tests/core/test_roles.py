"""A role may do what the lower ones may, and nobody gets one who is not named for it."""

from __future__ import annotations

from itertools import product

import pytest

from healthd.core.roles import Grants, Role

GRANTS = Grants(
    groups={"ops": Role.OPERATOR, "Root": Role.ADMIN},
    users={"Ada@Acme.example": Role.ADMIN, "bob": Role.OPERATOR},
    domains={"Acme.example": Role.VIEWER, "kiosk.example": Role.ADMIN},
)


@pytest.mark.parametrize(("has", "needs"), list(product(Role, Role)))
def test_a_role_may_what_those_before_it_may(has: Role, needs: Role) -> None:
    order = [Role.VIEWER, Role.OPERATOR, Role.ADMIN]
    assert has.may(needs) == (order.index(has) >= order.index(needs))


GIVEN: dict[str, tuple[str, tuple[str, ...], Role | None]] = {
    "by name, in any case": ("ADA@ACME.EXAMPLE", (), Role.ADMIN),
    "by a name that is no address": ("bob", (), Role.OPERATOR),
    "by domain": ("eve@acme.EXAMPLE", (), Role.VIEWER),
    "by group": ("mallory@evil.example", ("all", "ops"), Role.OPERATOR),
    "by a group, without a name": ("", ("ops",), Role.OPERATOR),
    "the highest of several": ("eve@acme.example", ("ops", "Root"), Role.ADMIN),
    "a group in another case": ("", ("OPS", "root"), None),
    "nobody": ("", (), None),
    "a stranger": ("mallory@evil.example", (), None),
    "a Kelvin sign for a k": ("eve@\u212aiosk.example", (), None),
    "a Kelvin sign in a name": ("eve\u212a@acme.example", (), None),
    "a long s": ("ada@acme.example\u017f", (), None),
    "a domain below": ("eve@x.acme.example", (), None),
    "a domain that ends so": ("eve@notacme.example", (), None),
    "two at signs": ("eve@evil.example@acme.example", (), None),
    "no name before the domain": ("@acme.example", (), None),
    "the domain alone": ("acme.example", (), None),
}


@pytest.mark.parametrize(("user", "groups", "role"), GIVEN.values(), ids=GIVEN)
def test_a_role_is_given_to_those_who_are_named(user: str, groups: tuple[str, ...], role: Role | None) -> None:
    assert GRANTS.role(user, groups) == role
