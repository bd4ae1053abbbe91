"""Use cases of sharing an agent with a team or a person of its org."""

from typing import Any
from uuid import UUID

from shared.agents import sharing_store as store
from shared.agents.model import Access, Agent, Grant, SharingRefused
from shared.audit import service as audit
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice


def share(tx: Tx, caller: Caller, agent: Agent, *, team_id: UUID | None, user_id: UUID | None, access: Access) -> Grant:
    """Share the agent with one team or one person; again: what it is shared for changes.

    Raises `SharingRefused`, and `NotFound` for a team or person that is not of this org.
    """
    check_may_share(caller, agent)
    before = store.find_of(tx, agent.id, team_id=team_id, user_id=user_id)
    after = store.put(tx, agent.id, team_id=team_id, user_id=user_id, access=access, created_by=caller.actor_id)
    _record(tx, caller, "agent.share", after, old=None if before is None else _facts(before), new=_facts(after))
    return after


def list_grants(tx: Tx, caller: Caller, agent: Agent, asked: Slice) -> list[Grant]:
    """Return up to `limit + 1` grants, newest first; raise `SharingRefused`."""
    check_may_share(caller, agent)
    return store.list_grants(tx, agent.id, asked)


def unshare(tx: Tx, caller: Caller, agent: Agent, grant_id: UUID) -> None:
    """Take a grant back: effective with the next request. Raises `SharingRefused`, `NotFound`."""
    check_may_share(caller, agent)
    grant = store.find(tx, agent.id, grant_id)
    if grant is None:
        raise NotFound.of("grant", ids.show("grant", grant_id))
    store.delete(tx, grant_id)
    _record(tx, caller, "agent.unshare", grant, old=_facts(grant), new=None)


def check_may_share(caller: Caller, agent: Agent) -> None:
    """Raise `SharingRefused` for a member who did not make the agent: a grant to write is none to hand on."""
    if caller.only_own is not None and agent.created_by_user != caller.only_own:
        raise SharingRefused(f"You did not make the agent {ids.show('agent', agent.id)}; an admin can share it.")


def _facts(grant: Grant) -> dict[str, Any]:
    facts = {"grant_id": ids.show("grant", grant.id), "access": grant.access.value}
    if grant.team_id is not None:
        facts["team_id"] = ids.show("team", grant.team_id)
    if grant.user_id is not None:
        facts["user_id"] = ids.show("user", grant.user_id)
    return facts


def _record(
    tx: Tx, caller: Caller, action: str, grant: Grant, *, old: dict[str, Any] | None, new: dict[str, Any] | None
) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="agent",
        resource_id=ids.show("agent", grant.agent_id),
        old=old,
        new=new,
    )
