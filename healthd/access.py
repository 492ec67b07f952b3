"""How operators prove who they are: the settings of tokens, of an identity provider, and of a proxy that knows them."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator, model_validator

from healthd.core.roles import Grants, Role
from healthd.sections import Section, as_list

LONGEST_TOKEN = 512
_SHORTEST_TOKEN = 32
_HEADER = re.compile(r"[A-Za-z0-9-]{1,80}", re.ASCII)
_ADDRESS = re.compile(
    r"(?:https://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])|http://(?:localhost|127\.0\.0\.1|\[::1\]))"
    r"(?::(?P<port>\d{1,5}))?(?:/[\w.~/-]*)?",
    re.ASCII,
)


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds blanks, line breaks or signs that a header cannot carry")
    if not _SHORTEST_TOKEN <= len(text) <= LONGEST_TOKEN:
        raise ValueError(
            f"needs {_SHORTEST_TOKEN} characters or more, and no more than {LONGEST_TOKEN}: make one with "
            "`openssl rand -hex 32`"
        )
    return value


def _filled(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("is empty")
    return value


class TokenSettings(Section):
    """A token that comes with the settings; its name stands in ``[access.tokens.NAME]``."""

    role: Role
    token: Annotated[SecretStr, AfterValidator(_token)]


class _Granting(Section):
    """Who is given which role; whoever is in none of these may not enter."""

    groups: dict[str, Role] = Field(default_factory=dict)
    users: dict[str, Role] = Field(default_factory=dict)
    domains: dict[str, Role] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _somebody(self) -> _Granting:
        if not (self.groups or self.users or self.domains):
            raise ValueError(
                'would let nobody in: give roles to groups, users or domains, such as users = { "ada@example.com" = '
                '"admin" }'
            )
        return self

    def grants(self) -> Grants:
        return Grants(self.groups, self.users, self.domains)


class OidcSettings(_Granting):
    """An OpenID Connect provider."""

    issuer: str
    client_id: str
    client_secret: Annotated[SecretStr, AfterValidator(_filled)]
    scopes: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ("openid", "email", "profile")
    groups_claim: str = "groups"
    ca_file: Path | None = None

    @field_validator("issuer")
    @classmethod
    def _https(cls, value: str) -> str:
        found = _ADDRESS.fullmatch(value)
        if found is None or int(found["port"] or 0) > 65535:
            raise ValueError(
                "must be the provider's https address as it names itself, without user, query or fragment (plain http "
                "only on this machine)"
            )
        return value

    @field_validator("scopes")
    @classmethod
    def _openid(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "openid" not in value:
            raise ValueError('needs "openid" among them')
        return value

    @field_validator("ca_file")
    @classmethod
    def _there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("is no file")
        return value


class ProxySettings(_Granting):
    """A proxy that signs people in and says who they are in a header."""

    header: str
    groups_header: str = ""
    addresses: Annotated[tuple[str, ...], BeforeValidator(as_list)]

    @field_validator("header", "groups_header")
    @classmethod
    def _header(cls, value: str) -> str:
        if value and not _HEADER.fullmatch(value):
            raise ValueError("is no name of a header: write it as X-Forwarded-Email")
        return value

    @field_validator("addresses")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("is empty: name the addresses from which the header is believed")
        for address in value:
            try:
                network = ipaddress.ip_network(address, strict=False)
            except ValueError:
                raise ValueError(
                    f"{address!r} is no address or network: write them as 10.0.0.7 or 10.0.0.0/8, never as names"
                ) from None
            if network.prefixlen == 0:
                raise ValueError(
                    f"{address!r} is everybody: whoever reaches the listener could call themselves anything"
                )
        return value

    @model_validator(mode="after")
    def _named(self) -> ProxySettings:
        if not self.header:
            raise ValueError("header is empty")
        if self.groups and not self.groups_header:
            raise ValueError("groups has no use without groups_header, the header that names them")
        return self

    def believes(self, address: str) -> bool:
        """Whether a peer at this address may say who its visitors are."""
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        found = getattr(found, "ipv4_mapped", None) or found
        return any(found in ipaddress.ip_network(network, strict=False) for network in self.addresses)
