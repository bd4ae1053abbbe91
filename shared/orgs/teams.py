"""Use cases of teams: create, change, delete, who is in them."""

from uuid import UUID

from shared.audit import service as audit
from shared.kernel import ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice
from shared.orgs import teams_store as store
from shared.orgs.model import Team, TeamMember


def create_team(tx: Tx, caller: Caller, *, name: str, metadata: dict[str, str]) -> Team:
    """Create an empty team; raise `TeamNameTaken`."""
    team = store.insert(tx, team_id=ids.new(), name=name, metadata=metadata)
    _record(tx, caller, "team.create", team.id, new=_described(team))
    return team


def list_teams(tx: Tx, asked: Slice) -> list[Team]:
    """Return up to `limit + 1` teams, newest first."""
    return store.list_teams(tx, asked)


def get_team(tx: Tx, team_id: UUID, *, lock: bool = False) -> Team:
    team = store.find(tx, team_id, lock=lock)
    if team is None:
        raise NotFound.of("team", ids.show("team", team_id))
    return team


def update_team(tx: Tx, caller: Caller, *, team_id: UUID, name: str | None, metadata: dict[str, str] | None) -> Team:
    """Change what is given; raise `TeamNameTaken`."""
    before = get_team(tx, team_id, lock=True)
    after = store.update(
        tx,
        team_id,
        name=before.name if name is None else name,
        metadata=before.metadata if metadata is None else metadata,
    )
    _record(tx, caller, "team.update", team_id, old=_described(before), new=_described(after))
    return after


def delete_team(tx: Tx, caller: Caller, *, team_id: UUID) -> None:
    """Delete a team; what was shared with it is no longer."""
    before = get_team(tx, team_id, lock=True)
    store.delete(tx, team_id)
    _record(tx, caller, "team.delete", team_id, old=_described(before))


def list_team_members(tx: Tx, team_id: UUID, asked: Slice) -> list[TeamMember]:
    """Return up to `limit + 1` of the team's members."""
    get_team(tx, team_id)
    return store.list_members(tx, team_id, asked)


def add_to_team(tx: Tx, caller: Caller, *, team_id: UUID, user_id: UUID) -> TeamMember:
    """Put a member of the org into a team; again changes nothing."""
    get_team(tx, team_id)
    if store.add(tx, team_id=team_id, user_id=user_id):
        _record(tx, caller, "team.add_member", team_id, new={"user_id": ids.show("user", user_id)})
    member = store.find_member(tx, team_id=team_id, user_id=user_id)
    if member is None:
        raise NotFound.of("member", ids.show("user", user_id))
    return member


def remove_from_team(tx: Tx, caller: Caller, *, team_id: UUID, user_id: UUID) -> None:
    """Take a member out of a team; whoever is not in it is not found there."""
    get_team(tx, team_id)
    if not store.remove(tx, team_id=team_id, user_id=user_id):
        raise NotFound.of("team member", ids.show("user", user_id))
    _record(tx, caller, "team.remove_member", team_id, old={"user_id": ids.show("user", user_id)})


def _described(team: Team) -> dict[str, object]:
    return {"name": team.name, "metadata": team.metadata}


def _record(
    tx: Tx,
    caller: Caller,
    action: str,
    team_id: UUID,
    *,
    old: dict[str, object] | None = None,
    new: dict[str, object] | None = None,
) -> None:
    team = ids.show("team", team_id)
    audit.record(tx, caller, action=action, resource_type="team", resource_id=team, old=old, new=new)
