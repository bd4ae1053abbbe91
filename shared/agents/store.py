"""SQL of agents and their versions."""

from typing import LiteralString
from uuid import UUID

from psycopg.types.json import Jsonb

from shared.agents.model import Agent, AgentConfig, AgentVersion
from shared.kernel.db import Row, Tx
from shared.kernel.pagination import Slice

INSERT_AGENT: LiteralString = """
    INSERT INTO agents (id, org_id, created_by_user, name, live_version, metadata)
    VALUES (%(id)s, current_setting('app.current_org_id')::uuid, %(created_by_user)s, %(name)s, 1, %(metadata)s)
"""
INSERT_VERSION: LiteralString = """
    INSERT INTO agent_versions (org_id, agent_id, version, config, created_by)
    VALUES (current_setting('app.current_org_id')::uuid, %(agent_id)s, %(version)s, %(config)s, %(created_by)s)
"""
LIVE: LiteralString = """
    SELECT agent.id, agent.created_by_user, agent.name, agent.live_version AS version, live.config, agent.metadata,
           agent.created_at, agent.updated_at
      FROM agents agent JOIN agent_versions live ON live.agent_id = agent.id AND live.version = agent.live_version
"""
FIND: LiteralString = LIVE + " WHERE agent.id = %(id)s"
READABLE: LiteralString = """
    AND agent.id IN (SELECT reach.id FROM agents_within_reach(%(only_own)s, 'read') AS reach (id))
"""
FIND_READABLE: LiteralString = FIND + READABLE
LOCK: LiteralString = " FOR UPDATE OF agent"
LISTED: LiteralString = LIVE + " WHERE (%(before)s::uuid IS NULL OR agent.id < %(before)s)"
NEWEST_FIRST: LiteralString = " ORDER BY agent.id DESC LIMIT %(limit)s"
LIST: LiteralString = LISTED + NEWEST_FIRST
LIST_READABLE: LiteralString = LISTED + READABLE + NEWEST_FIRST
MAY_WRITE: LiteralString = """
    SELECT FROM agents_within_reach(%(user_id)s, 'write') AS reach (id) WHERE reach.id = %(id)s
"""
UPDATE: LiteralString = """
    UPDATE agents SET name = %(name)s, live_version = %(version)s, metadata = %(metadata)s, updated_at = now()
     WHERE id = %(id)s
"""
LIST_VERSIONS: LiteralString = """
    SELECT agent_id, version, config, created_by, created_at FROM agent_versions
     WHERE agent_id = %(agent_id)s AND (%(before)s::int IS NULL OR version < %(before)s)
     ORDER BY version DESC LIMIT %(limit)s
"""
FIND_VERSION: LiteralString = """
    SELECT agent_id, version, config, created_by, created_at FROM agent_versions
     WHERE agent_id = %(agent_id)s AND version = %(version)s
"""


def insert_agent(tx: Tx, *, agent_id: UUID, created_by_user: UUID | None, name: str, metadata: dict[str, str]) -> None:
    values = {"id": agent_id, "created_by_user": created_by_user, "name": name, "metadata": Jsonb(metadata)}
    tx.execute(INSERT_AGENT, values)


def insert_version(tx: Tx, *, agent_id: UUID, version: int, config: AgentConfig, created_by: str) -> None:
    values = {"agent_id": agent_id, "version": version, "created_by": created_by, "config": Jsonb(config.to_json())}
    tx.execute(INSERT_VERSION, values)


def find(tx: Tx, agent_id: UUID, *, only_own: UUID | None, lock: bool = False) -> Agent | None:
    """Return the agent if this person may read it; with no person, whosever it is."""
    query = FIND if only_own is None else FIND_READABLE
    row = tx.execute(query + LOCK if lock else query, {"id": agent_id, "only_own": only_own}).fetchone()
    return None if row is None else _agent(row)


def list_agents(tx: Tx, asked: Slice, *, only_own: UUID | None) -> list[Agent]:
    values = {"before": asked.before, "limit": asked.limit + 1, "only_own": only_own}
    return [_agent(row) for row in tx.execute(LIST if only_own is None else LIST_READABLE, values)]


def may_write(tx: Tx, agent_id: UUID, *, user_id: UUID) -> bool:
    """Tell whether the agent is this person's own or shared with them for writing."""
    return tx.execute(MAY_WRITE, {"id": agent_id, "user_id": user_id}).fetchone() is not None


def update(tx: Tx, agent_id: UUID, *, name: str, version: int, metadata: dict[str, str]) -> None:
    tx.execute(UPDATE, {"id": agent_id, "name": name, "version": version, "metadata": Jsonb(metadata)})


def list_versions(tx: Tx, agent_id: UUID, *, before: int | None, limit: int) -> list[AgentVersion]:
    rows = tx.execute(LIST_VERSIONS, {"agent_id": agent_id, "before": before, "limit": limit})
    return [_version(row) for row in rows]


def find_version(tx: Tx, agent_id: UUID, version: int) -> AgentVersion | None:
    row = tx.execute(FIND_VERSION, {"agent_id": agent_id, "version": version}).fetchone()
    return None if row is None else _version(row)


def _agent(row: Row) -> Agent:
    return Agent(**(row | {"config": AgentConfig.from_json(row["config"])}))


def _version(row: Row) -> AgentVersion:
    return AgentVersion(**(row | {"config": AgentConfig.from_json(row["config"])}))
