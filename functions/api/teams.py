"""HTTP API of an org's teams and who is in them."""

from typing import Annotated

from fastapi import Depends

from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.kernel.fields import Page, TeamId, UserId
from shared.kernel.http import lambda_handler, once, require_in_org
from shared.kernel.idempotency import Once
from shared.kernel.pagination import Slice, cut, slice_of
from shared.kernel.routing import Router
from shared.orgs import service
from shared.orgs.schemas import CreateTeam, TeamMemberOut, TeamOut, UpdateTeam

router = Router(prefix="/v1/orgs/{org_id}/teams", tags=["teams"])
Reader = Annotated[Caller, Depends(require_in_org("teams:read"))]
Writer = Annotated[Caller, Depends(require_in_org("teams:write"))]


@router.post("", status_code=201)
def create_team(body: CreateTeam, caller: Writer, once: Annotated[Once, Depends(once)]) -> TeamOut:
    def create() -> TeamOut:
        return TeamOut.of(service.create_team(tx, caller, name=body.name, metadata=body.metadata))

    with db.tenant(caller) as tx:
        return once(tx, create)


@router.get("")
def list_teams(asked: Annotated[Slice, slice_of("team")], caller: Reader) -> Page[TeamOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_teams(tx, asked), asked)
    cursor = ids.show("team", found[-1].id) if more else None
    return Page(data=[TeamOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.get("/{team_id}")
def get_team(team_id: TeamId, caller: Reader) -> TeamOut:
    with db.tenant(caller) as tx:
        return TeamOut.of(service.get_team(tx, team_id))


@router.patch("/{team_id}")
def update_team(team_id: TeamId, body: UpdateTeam, caller: Writer) -> TeamOut:
    with db.tenant(caller) as tx:
        return TeamOut.of(
            service.update_team(tx, caller, team_id=team_id, name=body.name, metadata=body.metadata),
        )


@router.delete("/{team_id}", status_code=204)
def delete_team(team_id: TeamId, caller: Writer) -> None:
    """Delete a team; its members stay in the org, and lose what was shared with the team alone."""
    with db.tenant(caller) as tx:
        service.delete_team(tx, caller, team_id=team_id)


@router.get("/{team_id}/members")
def list_team_members(
    team_id: TeamId, asked: Annotated[Slice, slice_of("user")], caller: Reader
) -> Page[TeamMemberOut]:
    with db.tenant(caller) as tx:
        found, more = cut(service.list_team_members(tx, team_id, asked), asked)
    cursor = ids.show("user", found[-1].user_id) if more else None
    return Page(data=[TeamMemberOut.of(each) for each in found], has_more=more, next_cursor=cursor)


@router.put("/{team_id}/members/{user_id}")
def add_to_team(team_id: TeamId, user_id: UserId, caller: Writer) -> TeamMemberOut:
    """Put a member of the org into the team; doing it again changes nothing."""
    with db.tenant(caller) as tx:
        return TeamMemberOut.of(service.add_to_team(tx, caller, team_id=team_id, user_id=user_id))


@router.delete("/{team_id}/members/{user_id}", status_code=204)
def remove_from_team(team_id: TeamId, user_id: UserId, caller: Writer) -> None:
    with db.tenant(caller) as tx:
        service.remove_from_team(tx, caller, team_id=team_id, user_id=user_id)


handler = lambda_handler(router)
