"""What every mutating route of the API leaves in the audit trail, and how each is called so that it succeeds.

`AUDITED` holds one line for each route: the action that the trail must name, and a request that works. `EXEMPT` holds
those that leave nothing there, with the reason.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

import pyotp
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route as HttpRoute

from shared.agents import service as agents
from shared.agents.schemas import Config
from shared.billing import service as billing
from shared.identity.policy import Role
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from shared.memory import service as memories
from shared.quotas import service as quotas
from shared.quotas.plans import Resource
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from shared.sandboxes.model import Registration
from tests.api_gateway import Answer
from tests.emulator import Emulator
from tests.http_server import listening
from tests.integration.people.somebody import OTHER_PASSWORD, PASSWORD, Somebody
from tests.people import joined
from tests.security.requests import routes

_TTL_S = 60
_ROUTE = {"name": "r", "candidates": [{"model": "gpt-5-mini"}]}
PROVIDER_KEY = "sk-canary-5d8e1f27"
_PROVIDER = {"name": "p", "kind": "openai", "base_url": "https://p.test/v1", "api_key": PROVIDER_KEY}
_PRICE = {"model": "gpt-5-mini", "price": None}


@dataclass
class World:
    """A tenant with everything in it that a route may be tried on, made when it is asked for."""

    call: Callable[..., Answer]
    org: Caller
    operator: Caller
    emulator: Emulator
    # What answers as the program inside a sandbox, as ECS, as Step Functions and as an OpenID Connect issuer.
    elsewhere: str

    def ask(self, route: str, caller: Caller | None = None, *, json: Any = None, **values: str) -> Answer:
        """Call a route by its name in the OpenAPI document; the org's id goes in by itself."""
        found = next(each for each in routes() if str(each) == route)
        caller = caller or self.owner
        values |= {"org_id": ids.show("org", self.org.org_id)}
        return self.call(found.handler(), found.method, found.url(values), caller if found.scope else None, json=json)

    @cached_property
    def owner(self) -> Caller:
        limits = {Resource.MEMBERS: 10}
        with db.tenant(self.org) as tx:
            quotas.set_limits(tx, self.operator, self.org.org_id, quotas=limits)
        return joined(self.org, Role.OWNER)

    @cached_property
    def member(self) -> str:
        return ids.show("user", joined(self.org, Role.MEMBER).person_id or ids.new())

    @cached_property
    def ada(self) -> Somebody:
        """Somebody who registered with a password, in an org of their own."""
        return Somebody(self.call, self.emulator, "ada@example.org").registered()

    @cached_property
    def totp(self) -> pyotp.TOTP:
        """Ada's second factor, begun but not on."""
        return pyotp.TOTP(self.ada.me("POST", "/totp").json["secret"])

    @cached_property
    def guarded(self) -> pyotp.TOTP:
        """Ada's second factor, on since a step ago."""
        assert self.ada.me("POST", "/totp/confirm", code=self.code(steps=-1)).status == 200
        return self.totp

    def code(self, *, steps: int = 0) -> str:
        return str(self.totp.at(clock.now().timestamp() + 30 * steps))

    def made(self, route: str, json: Any, **values: str) -> str:
        answer = self.ask(route, None, json=json, **values)
        assert answer.status in (200, 201), answer.text
        return str(answer.json["id"])

    @cached_property
    def credits(self) -> None:
        with db.tenant(self.org) as tx:
            billing.grant(tx, self.org, amount_microusd=10_000_000, source_id="test", reason="to test with")

    @cached_property
    def agent(self) -> str:
        with db.tenant(self.owner) as tx:
            made = agents.create_agent(tx, self.owner, name="A", config=Config().to_model(), metadata={})
        return ids.show("agent", made.id)

    @cached_property
    def run(self) -> str:
        self.credits  # noqa: B018 - a run must be paid for
        agent_id = ids.read("agent", self.agent)
        with db.tenant(self.owner) as tx:
            made = runs.create_run(
                tx, self.owner, agent_id=agent_id, text="t", budget_microusd=None, timeout_s=None, metadata={}
            )
        return ids.show("run", made.id)

    @cached_property
    def starting_sandbox(self) -> UUID:
        self.credits  # noqa: B018 - a sandbox must be paid for
        with db.tenant(self.owner) as tx:
            return sandboxes.create(tx, self.owner, ttl_s=_TTL_S, metadata={}).id

    @cached_property
    def sandbox(self) -> str:
        """A sandbox whose program can be reached."""
        with db.tenant(self.owner) as tx:
            starting = sandbox_store.find(tx, self.starting_sandbox, lock=True)
            assert starting is not None
            registered = starting.registered(address=self.elsewhere, access_token="t" * 32)
            sandbox_store.save(tx, registered.ready(clock.now()))
        return ids.show("sbx", self.starting_sandbox)

    @cached_property
    def registration(self) -> dict[str, str]:
        """What the program inside a starting sandbox sends."""
        token = Registration.generate()
        with db.tenant(self.owner) as tx:
            sandbox_store.set_registration(tx, self.starting_sandbox, token.sha256)
        return {
            "sandbox_id": ids.show("sbx", self.starting_sandbox),
            "registration_token": token.token,
            "address": self.elsewhere,
            "access_token": "t" * 32,
        }

    @cached_property
    def memory(self) -> str:
        saved = memories.save(self.owner, content="c", subject="s", source_id="m", max_cost_microusd=1_000_000)
        return ids.show("mem", saved.id)

    @cached_property
    def grant(self) -> str:
        return self.made(
            "POST /v1/agents/{agent_id}/grants", {"user_id": self.member, "access": "read"}, agent_id=self.agent
        )

    @cached_property
    def key(self) -> str:
        return self.made("POST /v1/api-keys", {"name": "K"})

    @cached_property
    def service_account(self) -> str:
        return self.made("POST /v1/service-accounts", {"name": "S"})

    @cached_property
    def team(self) -> str:
        return self.made("POST /v1/orgs/{org_id}/teams", {"name": "T"})

    @cached_property
    def invitation(self) -> str:
        return self.made("POST /v1/orgs/{org_id}/invitations", {"email": self.ada.email, "role": "viewer"})

    @cached_property
    def invitation_token(self) -> str:
        self.invitation  # noqa: B018 - its letter is on its way then
        return self.ada.link("invitation")

    @cached_property
    def identity(self) -> str:
        identity_id, person = ids.new(), self.owner.person_id
        assert person is not None
        for each in (identity_id, ids.new()):
            with db.person(person) as tx:
                tx.execute(
                    "INSERT INTO identities (id, user_id, issuer, subject, email) VALUES (%s, %s, %s, 's', 'a@b.test')",
                    (each, person, f"https://{each}.test"),
                )
        return ids.show("idn", identity_id)

    @cached_property
    def route(self) -> str:
        return self.made("POST /v1/inference/routes", _ROUTE)

    @cached_property
    def provider(self) -> str:
        return self.made("POST /v1/inference/providers", _PROVIDER)

    @cached_property
    def budget(self) -> str:
        return self.made("POST /v1/budgets", {"scope": "org", "period": "day", "limit_microusd": 5})

    @cached_property
    def price(self) -> str:
        answer = self.ask("POST /v1/orgs/{org_id}/prices", self.operator, json=_PRICE)
        assert answer.status == 201, answer.text
        return str(answer.json["id"])

    def put_sso(self) -> Answer:
        body = {"issuer": self.elsewhere, "client_id": "c", "client_secret": "top", "default_role": "viewer"}
        return self.ask("PUT /v1/orgs/{org_id}/sso", json=body)

    def in_team(self, route: str) -> Answer:
        return self.ask(route, team_id=self.team, user_id=self.member)


type Request_ = Callable[[World], Answer]


@dataclass(frozen=True, slots=True)
class Audited:
    """The action that a route leaves in the trail, and a request of it that succeeds."""

    action: str
    request: Request_


def _plain(route: str, action: str, json: Any = None, **names: str) -> tuple[str, Audited]:
    """A request with this body; `agent_id="agent"` puts the id of the world's agent into the path."""

    def request(world: World) -> Answer:
        values = {name: str(getattr(world, attribute)) for name, attribute in names.items()}
        return world.ask(route, None, json=json, **values)

    return route, Audited(action, request)


def _special(route: str, action: str, request: Callable[[World, str], Answer]) -> tuple[str, Audited]:
    """A request that is given its own route's name."""
    return route, Audited(action, lambda world: request(world, route))


def _with_credits(world: World, route: str, json: Any, **values: str) -> Answer:
    world.credits  # noqa: B018 - nothing starts without
    return world.ask(route, None, json=json, **values)


def _sign_in_again(world: World) -> str:
    """Open a second session of Ada's and return the first one's id; the newest one is theirs from now on."""
    first = str(world.ada.tokens["session_id"])
    assert world.ada.sign_in().status == 200
    return first


def _confirm_email(world: World, _: str) -> Answer:
    bob = Somebody(world.call, world.emulator, "bob@example.org")
    assert bob.register().status == 202
    return bob.auth("confirm-email", token=bob.link("confirm-email"), password=PASSWORD)


def _reset_password(world: World, _: str) -> Answer:
    assert world.ada.auth("forgot-password", email=world.ada.email).status == 202
    return world.ada.auth("reset-password", token=world.ada.link("reset-password"), password=OTHER_PASSWORD)


def _switch_org(world: World, _: str) -> Answer:
    joined(world.org, Role.MEMBER, user_id=ids.read("user", world.ada.tokens["user_id"]))
    return world.ada.refresh(org_id=ids.show("org", world.org.org_id))


def _end_one(world: World, _: str) -> Answer:
    return world.ada.me("DELETE", f"/sessions/{_sign_in_again(world)}")


def _end_others(world: World, _: str) -> Answer:
    _sign_in_again(world)
    return world.ada.me("DELETE", "/sessions")


def _new_codes(world: World, _: str) -> Answer:
    world.guarded  # noqa: B018 - there are codes only beside a second factor
    return world.ada.me("POST", "/recovery-codes", code=world.code())


def _no_second_factor(world: World, _: str) -> Answer:
    world.guarded  # noqa: B018 - or there is nothing to remove
    return world.ada.me("DELETE", "/totp", current_password=PASSWORD)


def _create_org(world: World, route: str) -> Answer:
    return world.ask(route, world.operator, json={"name": "New"})


def _grant_credits(world: World, route: str) -> Answer:
    body = {"org_id": ids.show("org", world.org.org_id), "amount_microusd": 5, "reason": "to test with"}
    return world.ask(route, world.operator, json=body)


def _refund_credits(world: World, route: str) -> Answer:
    world.credits  # noqa: B018 - nothing is spent without
    with db.tenant(world.org) as tx:
        billing.charge(tx, world.org, amount_microusd=5, source_id="test", reason="to test with")
    return _grant_credits(world, route)


def _record_usage(world: World, route: str) -> Answer:
    event = {"kind": "api_calls", "quantity": 1, "source_id": "s"}
    return world.ask(route, world.operator, json={"org_id": ids.show("org", world.org.org_id), "events": [event]})


def _set_plan(world: World, route: str) -> Answer:
    return world.ask(route, world.operator, json={"plan": "pro"})


def _change_plan(world: World, route: str) -> Answer:
    assert _set_plan(world, f"PUT {_ORG}/subscription").status == 200
    return world.ask(route, json={"plan": "free"})


def _delete_sso(world: World, route: str) -> Answer:
    assert world.put_sso().status == 200
    return world.ask(route)


def _remove_from_team(world: World, route: str) -> Answer:
    assert world.in_team("PUT /v1/orgs/{org_id}/teams/{team_id}/members/{user_id}").status == 200
    return world.in_team(route)


def _delete_price(world: World, route: str) -> Answer:
    price = world.price
    return world.ask(route, world.operator, price_id=price)


def _accept(world: World, route: str) -> Answer:
    return world.ask(route, world.ada.caller(), json={"token": world.invitation_token})


_AGENT, _KEY, _ACCOUNT = "/v1/agents/{agent_id}", "/v1/api-keys", "/v1/service-accounts"
_ORG, _SANDBOX = "/v1/orgs/{org_id}", "/v1/sandboxes/{sandbox_id}"
_ROUTES, _PROVIDERS = "/v1/inference/routes", "/v1/inference/providers"
_INVITATION, _TEAM = f"{_ORG}/invitations/{{invitation_id}}", f"{_ORG}/teams/{{team_id}}"
_MEMBER, _IN_TEAM = f"{_ORG}/members/{{user_id}}", f"{_TEAM}/members/{{user_id}}"

AUDITED: Mapping[str, Audited] = dict(
    (
        _plain("POST /v1/agents", "agent.create", {"name": "A"}),
        _plain(f"PATCH {_AGENT}", "agent.update", {"name": "B"}, agent_id="agent"),
        _special(
            f"POST {_AGENT}/grants",
            "agent.share",
            lambda w, r: w.ask(r, json={"user_id": w.member, "access": "read"}, agent_id=w.agent),
        ),
        _plain(f"DELETE {_AGENT}/grants/{{grant_id}}", "agent.unshare", agent_id="agent", grant_id="grant"),
        _special(
            f"POST {_AGENT}/runs",
            "run.create",
            lambda w, r: _with_credits(w, r, {"input": "Say done."}, agent_id=w.agent),
        ),
        _plain("POST /v1/runs/{run_id}/cancel", "run.cancelled", run_id="run"),
        _plain(f"POST {_KEY}", "api_key.create", {"name": "K"}),
        _plain(f"POST {_KEY}/{{key_id}}/rotate", "api_key.rotate", {"overlap_s": 0}, key_id="key"),
        _plain(f"DELETE {_KEY}/{{key_id}}", "api_key.revoke", key_id="key"),
        _plain(f"POST {_ACCOUNT}", "service_account.create", {"name": "S"}),
        _plain(
            f"PATCH {_ACCOUNT}/{{service_account_id}}",
            "service_account.update",
            {"name": "T"},
            service_account_id="service_account",
        ),
        _plain(
            f"DELETE {_ACCOUNT}/{{service_account_id}}",
            "service_account.disable",
            service_account_id="service_account",
        ),
        _special("POST /v1/auth/confirm-email", "user.create", _confirm_email),
        _special("POST /v1/auth/login", "session.create", lambda w, _: w.ada.sign_in()),
        _special("POST /v1/auth/refresh", "session.switch_org", _switch_org),
        _special(
            "POST /v1/auth/logout",
            "session.end",
            lambda w, _: w.ada.auth("logout", refresh_token=w.ada.tokens["refresh_token"]),
        ),
        _special("POST /v1/auth/reset-password", "user.reset_password", _reset_password),
        _special("PATCH /v1/me", "user.update", lambda w, _: w.ada.me("PATCH", name="Ada B.")),
        _special(
            "POST /v1/me/password",
            "user.change_password",
            lambda w, _: w.ada.me("POST", "/password", current_password=PASSWORD, new_password=OTHER_PASSWORD),
        ),
        _special("DELETE /v1/me/sessions", "session.end", _end_others),
        _special("DELETE /v1/me/sessions/{session_id}", "session.end", _end_one),
        _special("POST /v1/me/totp", "second_factor.begin", lambda w, _: w.ada.me("POST", "/totp")),
        _special(
            "POST /v1/me/totp/confirm",
            "second_factor.create",
            lambda w, _: w.ada.me("POST", "/totp/confirm", code=w.code()),
        ),
        _special("DELETE /v1/me/totp", "second_factor.delete", _no_second_factor),
        _special("POST /v1/me/recovery-codes", "recovery_codes.create", _new_codes),
        _plain("DELETE /v1/me/identities/{identity_id}", "identity.delete", identity_id="identity"),
        _special("POST /v1/invitations/accept", "invitation.accept", _accept),
        _special("POST /v1/orgs", "org.create", _create_org),
        _plain(f"PATCH {_ORG}", "org.update", {"name": "Renamed"}),
        _plain(f"PUT {_ORG}/settings", "org.update_settings", {"allowed_email_domains": ["example.org"]}),
        _special(
            f"PUT {_ORG}/quota",
            "quota.update",
            lambda w, r: w.ask(r, w.operator, json={"quotas": {"members": 7}}),
        ),
        _special(f"PUT {_ORG}/sso", "sso.create", lambda w, _: w.put_sso()),
        _special(f"DELETE {_ORG}/sso", "sso.delete", _delete_sso),
        _plain(f"POST {_ORG}/invitations", "invitation.create", {"email": "carol@example.org", "role": "viewer"}),
        _plain(f"POST {_INVITATION}/resend", "invitation.resend", invitation_id="invitation"),
        _plain(f"DELETE {_INVITATION}", "invitation.revoke", invitation_id="invitation"),
        _plain(f"PATCH {_MEMBER}", "member.update", {"role": "viewer"}, user_id="member"),
        _plain(f"DELETE {_MEMBER}", "member.remove", user_id="member"),
        _plain(f"POST {_ORG}/teams", "team.create", {"name": "T"}),
        _plain(f"PATCH {_TEAM}", "team.update", {"name": "U"}, team_id="team"),
        _plain(f"DELETE {_TEAM}", "team.delete", team_id="team"),
        _special(f"PUT {_IN_TEAM}", "team.add_member", lambda w, r: w.in_team(r)),
        _special(f"DELETE {_IN_TEAM}", "team.remove_member", _remove_from_team),
        _special(
            "POST /v1/memories",
            "memory.create",
            lambda w, r: _with_credits(w, r, {"content": "c", "subject": "s"}),
        ),
        _plain("DELETE /v1/memories/{memory_id}", "memory.delete", memory_id="memory"),
        _plain(f"POST {_ROUTES}", "route.create", _ROUTE),
        _plain(f"PUT {_ROUTES}/{{route_id}}", "route.update", _ROUTE, route_id="route"),
        _plain(f"DELETE {_ROUTES}/{{route_id}}", "route.delete", route_id="route"),
        _plain(f"POST {_PROVIDERS}", "provider.create", _PROVIDER),
        _plain(f"PATCH {_PROVIDERS}/{{provider_id}}", "provider.update", {"enabled": False}, provider_id="provider"),
        _plain(
            f"POST {_PROVIDERS}/{{provider_id}}/rotate",
            "provider.rotate",
            {"api_key": PROVIDER_KEY},
            provider_id="provider",
        ),
        _plain(f"DELETE {_PROVIDERS}/{{provider_id}}", "provider.delete", provider_id="provider"),
        _plain("PUT /v1/inference/settings", "inference.update_settings", {"cache_ttl_s": 0}),
        _plain("POST /v1/budgets", "budget.create", {"scope": "key", "period": "day", "limit_microusd": 5}),
        _plain("PATCH /v1/budgets/{budget_id}", "budget.update", {"limit_microusd": 6}, budget_id="budget"),
        _plain("DELETE /v1/budgets/{budget_id}", "budget.delete", budget_id="budget"),
        _special(f"POST {_ORG}/prices", "price.create", lambda w, r: w.ask(r, w.operator, json=_PRICE)),
        _special(f"DELETE {_ORG}/prices/{{price_id}}", "price.delete", _delete_price),
        _special("POST /v1/credits/grants", "credits.grant", _grant_credits),
        _special("POST /v1/credits/adjustments", "credits.adjust_up", _grant_credits),
        _special("POST /v1/credits/refunds", "credits.refund", _refund_credits),
        _special("PUT /v1/subscription", "subscription.change", _change_plan),
        _special(f"PUT {_ORG}/subscription", "subscription.change", _set_plan),
        _special("POST /v1/usage/events", "usage.record", _record_usage),
        _special("POST /v1/sandboxes", "sandbox.create", lambda w, r: _with_credits(w, r, {"ttl_s": _TTL_S})),
        _special("POST /v1/sandboxes/register", "sandbox.ready", lambda w, r: w.ask(r, json=w.registration)),
        _plain(f"POST {_SANDBOX}/commands", "command.create", {"shell": "true"}, sandbox_id="sandbox"),
        _special(f"PUT {_SANDBOX}/files/{{path}}", "file.write", lambda w, r: w.ask(r, sandbox_id=w.sandbox, path="f")),
        _plain(f"POST {_SANDBOX}/stop", "sandbox.end", sandbox_id="sandbox"),
    )
)

_LEDGER = "creates nothing; what it used and cost is in the usage ledger, which is append-only too"
_NOTHING_YET = "changes nothing of anybody's yet; the step that follows its letter is written down"
EXEMPT: Mapping[str, str] = {
    "POST /v1/chat/completions": _LEDGER,
    "POST /v1/subscription/preview": "tells what a change would mean and makes none",
    "POST /v1/embeddings": _LEDGER,
    "POST /v1/responses": _LEDGER,
    f"POST {_PROVIDERS}/{{provider_id}}/check": "only asks the provider whether it takes the key",
    "POST /v1/memories/search": _LEDGER,
    "POST /v1/estimates": "only tells what something would cost",
    "POST /v1/auth/register": _NOTHING_YET,
    "POST /v1/auth/forgot-password": _NOTHING_YET,
    "POST /v1/me/identities/{provider}/start": "changes nothing yet; the identity is written down when it is added",
}


@contextmanager
def elsewhere() -> Iterator[str]:
    """Serve what routes reach beyond the database: a sandbox's program, ECS, Step Functions, an issuer."""

    async def run(request: Request) -> JSONResponse:
        asked = await request.json()
        return JSONResponse(
            {"id": asked["id"], "status": "exited", "exit_code": 0, "stdout": "", "stderr": "", "duration_ms": 1}
        )

    async def write(request: Request) -> JSONResponse:
        content = await request.body()
        return JSONResponse({"name": "f", "path": "/workspace/f", "size_bytes": len(content), "size": len(content)})

    async def aws(_: Request) -> JSONResponse:
        task = {"taskArn": "arn:aws:ecs:us-east-1:000000000000:task/t"}
        execution = {
            "executionArn": "arn:aws:states:us-east-1:000000000000:execution:m:e",
            "startDate": 0,
            "stopDate": 0,
        }
        return JSONResponse({"tasks": [task], "failures": []} | execution)

    async def discovery(request: Request) -> JSONResponse:
        base = str(request.base_url).rstrip("/")
        names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
        return JSONResponse({"issuer": base} | {name: f"{base}/{name}" for name in names})

    app = Starlette(
        routes=[
            HttpRoute("/commands", run, methods=["POST"]),
            HttpRoute("/files/{path:path}", write, methods=["PUT"]),
            HttpRoute("/.well-known/openid-configuration", discovery),
            HttpRoute("/", aws, methods=["POST"]),
        ]
    )
    with listening(app) as url:
        yield url
