"""The policy: which role may do what to which resource. A scope is `resource:action`; nothing is allowed elsewhere.

A person's scopes follow from their role in the org. An API key has its own, at most those marked `keys`. `own` means:
what the member made, what runs on it, and what was shared with them or their team.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from shared.kernel.errors import Forbidden, InvalidRequest


class Role(StrEnum):
    """A person's role in an org, from most to least."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    VIEWER = "viewer"


class Reach(StrEnum):
    """How far a permission goes."""

    ALL = "all"
    OWN = "own"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy: what each role may do, and whether a tenant's API key can be given the scope."""

    resource: str
    action: str
    owner: Reach
    admin: Reach
    member: Reach
    viewer: Reach
    keys: bool
    meaning: str

    @property
    def scope(self) -> str:
        return f"{self.resource}:{self.action}"

    def reach(self, role: Role) -> Reach:
        reach: Reach = getattr(self, role.value)
        return reach


_ALL, _OWN, _NO = Reach.ALL, Reach.OWN, Reach.NONE

POLICY: tuple[Rule, ...] = (
    #    resource            action    owner admin member viewer keys   meaning
    Rule("account",          "read",   _OWN, _OWN, _OWN, _OWN, False, "one's own profile, sessions and sign-ins"),
    Rule("account",          "write",  _OWN, _OWN, _OWN, _OWN, False, "change them; second factor, password"),
    Rule("agents",           "read",   _ALL, _ALL, _OWN, _ALL, True,  "agents and their versions"),
    Rule("agents",           "write",  _ALL, _ALL, _OWN, _NO,  True,  "create, change, archive and share agents"),
    Rule("audit",            "read",   _ALL, _ALL, _NO,  _NO,  True,  "list and export the audit trail"),
    Rule("billing",          "admin",  _ALL, _NO,  _NO,  _NO,  True,  "move the org to another plan; set budgets"),
    Rule("billing",          "read",   _ALL, _ALL, _NO,  _ALL, True,  "the subscription, budgets and agreed prices"),
    Rule("credits",          "read",   _ALL, _ALL, _NO,  _ALL, True,  "balance and ledger"),
    Rule("inference",        "admin",  _ALL, _ALL, _NO,  _NO,  True,  "set up routes, providers, caching, recording"),
    Rule("inference",        "read",   _ALL, _ALL, _ALL, _ALL, True,  "models, routes, providers without keys, health"),
    Rule("inference",        "write",  _ALL, _ALL, _ALL, _NO,  True,  "chat completions and embeddings"),
    Rule("keys",             "read",   _ALL, _ALL, _NO,  _NO,  True,  "list API keys (never their secrets)"),
    Rule("keys",             "write",  _ALL, _ALL, _NO,  _NO,  True,  "create, rotate and revoke API keys"),
    Rule("members",          "read",   _ALL, _ALL, _ALL, _ALL, True,  "members and open invitations"),
    Rule("members",          "write",  _ALL, _ALL, _NO,  _NO,  True,  "invite, change roles, remove"),
    Rule("memories",         "read",   _ALL, _ALL, _OWN, _ALL, True,  "search and list memories"),
    Rule("memories",         "write",  _ALL, _ALL, _OWN, _NO,  True,  "store and delete memories"),
    Rule("orgs",             "create", _ALL, _ALL, _ALL, _ALL, False, "create a further org, as its owner"),
    Rule("orgs",             "read",   _ALL, _ALL, _ALL, _ALL, True,  "name, plan, settings, quota"),
    Rule("orgs",             "write",  _ALL, _ALL, _NO,  _NO,  True,  "change name, slug and settings"),
    Rule("runs",             "read",   _ALL, _ALL, _OWN, _ALL, True,  "runs, their events and results"),
    Rule("runs",             "write",  _ALL, _ALL, _OWN, _NO,  True,  "start and cancel runs"),
    Rule("sandboxes",        "read",   _ALL, _ALL, _OWN, _ALL, True,  "sandboxes, their commands and files"),
    Rule("sandboxes",        "write",  _ALL, _ALL, _OWN, _NO,  True,  "start and end sandboxes, run commands"),
    Rule("service-accounts", "read",   _ALL, _ALL, _NO,  _NO,  True,  "list service accounts"),
    Rule("service-accounts", "write",  _ALL, _ALL, _NO,  _NO,  True,  "create, change and disable service accounts"),
    Rule("sso",              "read",   _ALL, _ALL, _NO,  _NO,  False, "the org's own sign-in, without its secret"),
    Rule("sso",              "write",  _ALL, _NO,  _NO,  _NO,  False, "set up and remove the org's own sign-in"),
    Rule("teams",            "read",   _ALL, _ALL, _ALL, _ALL, True,  "teams and who is in them"),
    Rule("teams",            "write",  _ALL, _ALL, _NO,  _NO,  True,  "create, change and delete teams"),
    Rule("usage",            "read",   _ALL, _ALL, _NO,  _ALL, True,  "usage and its cost; recorded model calls"),
)  # fmt: skip

# What only the platform's operator may do, across tenants.
OPERATOR_RULES: Mapping[str, str] = {
    "orgs:create": "create a tenant, with a first key that holds every scope of a key",
    "credits:adjust": "correct a tenant's balance, up or down",
    "credits:grant": "grant credits to a tenant, and refund what it spent",
    "prices:write": "set what a tenant pays for a model instead of the price book's price",
    "usage:write": "meter what a tenant used outside of the API",
    "quotas:write": "set a tenant's plan, quotas and rate limits apart from those of its plan",
}

SCOPES = frozenset(rule.scope for rule in POLICY)
# All that a tenant's API key can hold.
KEY_SCOPES = frozenset(rule.scope for rule in POLICY if rule.keys)
OPERATOR_SCOPES = KEY_SCOPES | OPERATOR_RULES.keys()


def scopes_of(role: Role) -> frozenset[str]:
    """Return all that a person with this role may do, own or all."""
    return frozenset(rule.scope for rule in POLICY if rule.reach(role) is not Reach.NONE)


def allows(role: Role, resource: str, action: str) -> Reach:
    """Return how far a role reaches; `Reach.NONE` for what the policy does not know."""
    return next((rule.reach(role) for rule in POLICY if (rule.resource, rule.action) == (resource, action)), Reach.NONE)


def grantable(asked: frozenset[str] | None, holder: frozenset[str]) -> frozenset[str]:
    """Return the scopes of a new key: those asked for, by default all a key can hold; never more than its maker's.

    Raises `InvalidRequest` for scopes that do not exist for keys, or that the maker lacks.
    """
    allowed = holder & KEY_SCOPES
    if asked is None:
        return allowed
    if unknown := sorted(asked - KEY_SCOPES):
        raise InvalidRequest(f"Unknown scopes: {', '.join(unknown)}.", param="scopes")
    if beyond := sorted(asked - allowed):
        raise InvalidRequest(f"You can't grant what you lack: {', '.join(beyond)}.", param="scopes")
    return asked


def check_may_give(role: Role, *, giver_role: str, giver_scopes: frozenset[str]) -> None:
    """Raise `Forbidden` unless the giver may make somebody `role`: nobody hands out more than they have.

    Only an owner makes owners; a key gives roles whose scopes, as far as keys can hold them, it has itself.
    """
    if giver_role == Role.OWNER:
        return
    beyond = (scopes_of(role) & KEY_SCOPES) - giver_scopes
    if role is Role.OWNER or beyond:
        raise Forbidden(f"Only who may do all that the role {role} may can give or take it.")


def table() -> Iterator[tuple[Rule, Mapping[Role, Reach]]]:
    """Yield each rule with its reach by role: for the documents and the exhaustive test."""
    return ((rule, {role: rule.reach(role) for role in Role}) for rule in POLICY)
