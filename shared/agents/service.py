"""Use cases of agents: create, change (which makes a version), read."""

import json
from uuid import UUID

from shared.agents import sharing, store
from shared.agents.model import Access, Agent, AgentConfig, AgentVersion, Grant, SharedToRead
from shared.audit import service as audit
from shared.kernel import cache, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice

# A version never changes: an hour keeps what is used and forgets the rest.
_CONFIG_KEPT_S = 3600


def create_agent(tx: Tx, caller: Caller, *, name: str, config: AgentConfig, metadata: dict[str, str]) -> Agent:
    """Create an agent with version 1 live."""
    agent_id = ids.new()
    store.insert_agent(tx, agent_id=agent_id, created_by_user=caller.person_id, name=name, metadata=metadata)
    store.insert_version(tx, agent_id=agent_id, version=1, config=config.checked(), created_by=caller.actor_id)
    agent = get_agent(tx, caller, agent_id)
    _record(tx, caller, "agent.create", agent, old=None)
    return agent


def update_agent(
    tx: Tx,
    caller: Caller,
    *,
    agent_id: UUID,
    name: str | None,
    config: AgentConfig | None,
    metadata: dict[str, str] | None,
) -> Agent:
    """Change what is given; a changed config becomes the next version and is live at once.

    Raises `NotFound`, and `SharedToRead` for a member with whom it is shared no further.
    """
    before = get_agent(tx, caller, agent_id, lock=True)
    check_may_write(tx, caller, agent_id)
    version = before.version
    if config is not None and config.checked() != before.config:
        newest = store.list_versions(tx, agent_id, before=None, limit=1)
        version = newest[0].version + 1
        store.insert_version(tx, agent_id=agent_id, version=version, config=config, created_by=caller.actor_id)
    store.update(
        tx,
        agent_id,
        name=before.name if name is None else name,
        version=version,
        metadata=before.metadata if metadata is None else metadata,
    )
    after = get_agent(tx, caller, agent_id)
    _record(tx, caller, "agent.update", after, old={"name": before.name, "version": before.version})
    return after


def get_agent(tx: Tx, caller: Caller, agent_id: UUID, *, lock: bool = False) -> Agent:
    """Return an agent that the caller may read, a member their own and those shared with them; raise `NotFound`."""
    agent = store.find(tx, agent_id, only_own=caller.only_own, lock=lock)
    if agent is None:
        raise NotFound.of("agent", ids.show("agent", agent_id))
    return agent


def check_may_write(tx: Tx, caller: Caller, agent_id: UUID) -> None:
    """Raise `SharedToRead` unless the caller may change this agent, which they may read."""
    if caller.only_own is not None and not store.may_write(tx, agent_id, user_id=caller.only_own):
        raise SharedToRead(f"The agent {ids.show('agent', agent_id)} was shared with you to read and run only.")


def check_may_teach(tx: Tx, caller: Caller, subject: str) -> None:
    """Raise `NotFound` for a member who saves a memory for the runs of an agent that they may not read.

    Those find what is kept under `agent:<uuid>`; any other subject is nobody's.
    """
    kind, _, named = subject.partition(":")
    if caller.only_own is None or kind != "agent":
        return
    try:
        agent_id = UUID(named)
    except ValueError:
        return
    get_agent(tx, caller, agent_id)


def list_agents(tx: Tx, caller: Caller, asked: Slice) -> list[Agent]:
    """Return up to `limit + 1` agents that the caller may read, newest first."""
    return store.list_agents(tx, asked, only_own=caller.only_own)


def list_versions(tx: Tx, caller: Caller, agent_id: UUID, *, before: int | None, limit: int) -> list[AgentVersion]:
    """Return up to `limit + 1` versions, newest first."""
    get_agent(tx, caller, agent_id)
    return store.list_versions(tx, agent_id, before=before, limit=limit + 1)


def share_agent(
    tx: Tx, caller: Caller, agent_id: UUID, *, team_id: UUID | None, user_id: UUID | None, access: Access
) -> Grant:
    """Share an agent with one team or one person; again: what it is shared for changes."""
    agent = get_agent(tx, caller, agent_id, lock=True)
    return sharing.share(tx, caller, agent, team_id=team_id, user_id=user_id, access=access)


def list_grants(tx: Tx, caller: Caller, agent_id: UUID, asked: Slice) -> list[Grant]:
    """Return up to `limit + 1` grants of an agent, newest first."""
    return sharing.list_grants(tx, caller, get_agent(tx, caller, agent_id), asked)


def unshare_agent(tx: Tx, caller: Caller, agent_id: UUID, grant_id: UUID) -> None:
    """Take back what was shared."""
    sharing.unshare(tx, caller, get_agent(tx, caller, agent_id, lock=True), grant_id)


def get_config(tx: Tx, caller: Caller, agent_id: UUID, version: int) -> AgentConfig:
    """Return what a version fixes, from the cache where it is there: a version never changes, so it can't be stale."""
    key = f"{caller.org_id}:agent:{agent_id}:{version}"
    cached = cache.get(key)
    if cached is not None:
        return AgentConfig.from_json(json.loads(cached))
    config = get_version(tx, agent_id, version).config
    cache.put(key, json.dumps(config.to_json()).encode(), ttl_s=_CONFIG_KEPT_S)
    return config


def get_version(tx: Tx, agent_id: UUID, version: int) -> AgentVersion:
    found = store.find_version(tx, agent_id, version)
    if found is None:
        raise NotFound(f"The agent {ids.show('agent', agent_id)} has no version {version}.", param="version")
    return found


def _record(tx: Tx, caller: Caller, action: str, agent: Agent, *, old: dict[str, object] | None) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="agent",
        resource_id=ids.show("agent", agent.id),
        old=old,
        new={"name": agent.name, "version": agent.version},
    )
