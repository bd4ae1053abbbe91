"""Use cases of routes: create, read, replace, delete."""

from uuid import UUID

from shared.audit import service as audit
from shared.inference import config_store
from shared.inference import routes_store as store
from shared.inference.accounts_model import SetUpLimitReached
from shared.inference.policy import Route
from shared.inference.routes_model import MOST_ROUTES, Known, StoredRoute, check_route
from shared.kernel import clock, ids
from shared.kernel.caller import Caller
from shared.kernel.db import Tx
from shared.kernel.errors import NotFound
from shared.kernel.pagination import Slice


def create_route(tx: Tx, caller: Caller, route: Route) -> StoredRoute:
    """Store a route; raise `InvalidRequest` for a policy that can't work, `RouteNameTaken` and `SetUpLimitReached`."""
    check_route(route, _known(tx, caller))
    if store.count(tx) >= MOST_ROUTES:
        raise SetUpLimitReached(f"An org has at most {MOST_ROUTES} routes.")
    made = store.insert(tx, route_id=ids.new(), route=route, created_by=caller.actor_id)
    _record(tx, caller, "route.create", made.id, new=_described(made))
    return made


def list_routes(tx: Tx, asked: Slice) -> list[StoredRoute]:
    """Return up to `limit + 1` routes, the newest first."""
    return store.list_routes(tx, asked)


def get_route(tx: Tx, route_id: UUID, *, lock: bool = False) -> StoredRoute:
    route = store.find(tx, route_id, lock=lock)
    if route is None:
        raise NotFound.of("route", ids.show("rte", route_id))
    return route


def replace_route(tx: Tx, caller: Caller, *, route_id: UUID, route: Route) -> StoredRoute:
    """Replace a route by its next version; errors as in `create_route`."""
    before = get_route(tx, route_id, lock=True)
    check_route(route, _known(tx, caller))
    after = store.replace(tx, route_id=route_id, route=route)
    _record(tx, caller, "route.update", route_id, old=_described(before), new=_described(after))
    return after


def delete_route(tx: Tx, caller: Caller, *, route_id: UUID) -> None:
    before = get_route(tx, route_id, lock=True)
    store.delete(tx, route_id)
    _record(tx, caller, "route.delete", route_id, old=_described(before))


def _known(tx: Tx, caller: Caller) -> Known:
    return Known.of(config_store.load(tx, caller), at=clock.now())


def _described(stored: StoredRoute) -> dict[str, object]:
    return {"name": stored.route.name, "version": stored.version, "policy": config_store.policy_of(stored.route)}


def _record(
    tx: Tx,
    caller: Caller,
    action: str,
    route_id: UUID,
    *,
    old: dict[str, object] | None = None,
    new: dict[str, object] | None = None,
) -> None:
    audit.record(
        tx,
        caller,
        action=action,
        resource_type="route",
        resource_id=ids.show("rte", route_id),
        old=old,
        new=new,
    )
