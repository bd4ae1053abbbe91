"""A provider that an org set up: its key is kept elsewhere, and is never sent to another address than it was given for.

Hence a provider's address can't be changed: whoever may change it, but doesn't know the key, could learn it that way.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Self
from uuid import UUID

from shared.inference.config import ProviderAccount, ProviderKind
from shared.kernel import ids
from shared.kernel.errors import Conflict, InvalidRequest, Kind, RunyardError
from shared.kernel.public_addresses import LONGEST_URL, has_allowed_scheme, is_plain, names_forbidden_address

MOST_PROVIDERS = 50
# Of a shorter key, four characters would be too much of it.
_SHORTEST_HINTED = 16
_HINT = 4
# Longer than any request takes, and not longer than its Idempotency-Key is reserved: one sent again begins anew.
_GIVEN_UP_AFTER = timedelta(seconds=55)


class ProviderNameTaken(Conflict):
    """The org has another provider of this name."""

    code = "provider_name_taken"


class ProviderInUse(Conflict):
    """A route names the provider; change or delete the route first."""

    code = "provider_in_use"


class ProviderWithoutKey(Conflict):
    """The provider's key was never stored: rotate it first."""

    code = "provider_without_key"


class ProviderAddressRefused(InvalidRequest):
    """A provider must be reached by https at a public address."""

    code = "provider_address_refused"


class SetUpLimitReached(RunyardError):
    """The org has as many of these as anybody can have; delete one first."""

    kind = Kind.FORBIDDEN
    code = "setup_limit_reached"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A provider as it is stored. `secret` is the name of the secret that holds its key, empty where none is needed.

    `rotated_at` is when its key was last stored; one with a secret that never was is not asked.
    """

    id: UUID
    name: str
    kind: ProviderKind
    base_url: str
    region: str
    models: tuple[str, ...]
    parameters: tuple[str, ...]
    secret: str
    key_hint: str
    enabled: bool
    created_by: str
    created_at: datetime
    updated_at: datetime
    rotated_at: datetime | None

    @property
    def lacks_key(self) -> bool:
        return bool(self.secret) and self.rotated_at is None

    def was_given_up(self, now: datetime) -> bool:
        """Tell whether its creation was cut short before its key was stored, and nobody is at it any more."""
        return self.lacks_key and now - self.updated_at > _GIVEN_UP_AFTER

    def changed(
        self,
        *,
        models: tuple[str, ...] | None = None,
        parameters: tuple[str, ...] | None = None,
        enabled: bool | None = None,
    ) -> Self:
        """Return it with what is given changed; raise `ProviderWithoutKey`."""
        if enabled and self.lacks_key:
            raise ProviderWithoutKey("This provider's key was never stored; rotate it first.")
        return replace(
            self,
            models=self.models if models is None else models,
            parameters=self.parameters if parameters is None else parameters,
            enabled=self.enabled if enabled is None else enabled,
        )

    def rotated(self, api_key: str, now: datetime, *, enabled: bool | None = None) -> Self:
        """Return it with this key stored, asked from now on if it is `enabled`; None: as before.

        Raises `InvalidRequest` where no key is needed.
        """
        if not self.secret:
            raise InvalidRequest("This provider was set up without a key; create another one with it.", param="api_key")
        # What waited for its key begins to be asked.
        wanted = self.enabled or self.lacks_key if enabled is None else enabled
        return replace(self, key_hint=hint_of(api_key), rotated_at=now, enabled=wanted)

    def to_ask(self, *, own: bool) -> ProviderAccount:
        return ProviderAccount(
            name=self.name,
            kind=self.kind,
            base_url=self.base_url,
            region=self.region,
            secret_arn=self.secret,
            models=frozenset(self.models),
            parameters=frozenset(self.parameters),
            own=own,
        )

    def described(self) -> dict[str, object]:
        """Return what the audit trail says of it: nothing of its key."""
        return {
            "name": self.name,
            "kind": self.kind.value,
            "base_url": self.base_url,
            "region": self.region,
            "models": list(self.models),
            "parameters": list(self.parameters),
            "enabled": self.enabled,
            "rotated_at": None if self.rotated_at is None else self.rotated_at.isoformat(),
        }


def check_address(base_url: str, *, private: bool) -> None:
    """Raise `ProviderAddressRefused` unless a key may be sent there; what a name leads to, connecting will tell."""
    if not is_plain(base_url) or "?" in base_url:
        raise ProviderAddressRefused(
            f"base_url: a plain URL of at most {LONGEST_URL} characters, such as https://api.example.com/v1.",
            param="base_url",
        )
    if not has_allowed_scheme(base_url, private=private) or names_forbidden_address(base_url, private=private):
        raise ProviderAddressRefused("base_url: https at a public address.", param="base_url")


def check_complete(
    kind: ProviderKind, *, base_url: str, region: str, api_key: str | None, by_operator: bool, private: bool
) -> None:
    """Raise `InvalidRequest` unless a provider of this kind can be asked with this, and needs all of it."""
    if kind is ProviderKind.BEDROCK:
        if not by_operator:
            raise InvalidRequest(
                "kind: Bedrock is asked under the platform's own role, so only the operator sets it up.", param="kind"
            )
        if base_url or api_key:
            raise InvalidRequest(
                "Bedrock takes no base_url and no api_key.", param="base_url" if base_url else "api_key"
            )
        if not region:
            raise InvalidRequest("region: Bedrock needs one, such as us-east-1.", param="region")
        return
    if region:
        raise InvalidRequest("region: for Bedrock alone.", param="region")
    if kind is ProviderKind.ANTHROPIC and not api_key:
        raise InvalidRequest("api_key: Anthropic takes nothing without one.", param="api_key")
    if kind is ProviderKind.OPENAI or base_url:
        check_address(base_url, private=private)


def hint_of(api_key: str) -> str:
    """Return what of a key is shown, so that its owner knows which one it is."""
    return api_key[-_HINT:] if len(api_key) >= _SHORTEST_HINTED else ""


def secret_of(prefix: str, org_id: UUID, provider_id: UUID) -> str:
    """Return the name of the secret that holds a provider's key: known before there is one, so that none is lost."""
    return f"{prefix}/{ids.show('org', org_id)}/{ids.show('prv', provider_id)}"
