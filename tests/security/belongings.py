"""One thing of every kind that belongs to a tenant, made over the API or by the use case behind it."""

from collections.abc import Callable
from typing import Any

from shared.agents import service as agents
from shared.agents.schemas import Config
from shared.billing import service as billing
from shared.identity.policy import Role
from shared.kernel import db, ids
from shared.kernel.caller import Caller
from shared.memory import service as memories
from shared.runs import service as runs
from shared.sandboxes import service as sandboxes
from shared.sandboxes import store as sandbox_store
from tests.api_gateway import Answer
from tests.people import joined
from tests.security.requests import routes

type Call = Callable[..., Answer]

# Found nowhere but in what belongs to the tenant: whoever reads it has read the tenant's data.
MARK = "canary-7f3a"


def belongings_of(call: Call, owner: Caller, *, nickname: str) -> dict[str, str]:
    """Return the ids of one thing of every kind, by the id's prefix. All texts hold `MARK` and the nickname."""
    name = f"{MARK} {nickname}"

    def made(method: str, path: str, body: dict[str, Any]) -> str:
        handler = next(each.handler() for each in routes() if each.method == method and _fits(each.path, path))
        answer = call(handler, method, path, owner, json=body)
        assert answer.status in (200, 201, 202), (path, answer.text)
        return str(answer.json["id"])

    org = ids.show("org", owner.org_id)
    with db.tenant(owner) as tx:
        billing.grant(tx, owner, amount_microusd=10_000_000, source_id="test", reason="to test with")
        agent = agents.create_agent(tx, owner, name=name, config=Config().to_model(), metadata={})
        run = runs.create_run(
            tx, owner, agent_id=agent.id, text=name, budget_microusd=None, timeout_s=None, metadata={}
        )
        sandbox = sandboxes.create(tx, owner, ttl_s=60, metadata={"name": name})
        command = sandbox_store.insert_command(
            tx, command_id=ids.new(), sandbox_id=sandbox.id, source_id="s", command={"shell": name}
        )
        assert command is not None
    memory = memories.save(owner, content=name, subject="s", source_id="m", max_cost_microusd=1_000_000)
    member = joined(owner, Role.VIEWER, name=name)
    agent_id, member_id = ids.show("agent", agent.id), ids.show("user", member.person_id or ids.new())
    assert owner.session_id is not None
    found = {
        "org": org,
        "agent": agent_id,
        "run": ids.show("run", run.id),
        "sbx": ids.show("sbx", sandbox.id),
        "cmd": ids.show("cmd", command.id),
        "mem": ids.show("mem", memory.id),
        "user": member_id,
        "ses": ids.show("ses", owner.session_id),
        "team": made("POST", f"/v1/orgs/{org}/teams", {"name": name}),
        "inv": made("POST", f"/v1/orgs/{org}/invitations", {"email": f"{nickname}@people.test", "role": "viewer"}),
        "svc": made("POST", "/v1/service-accounts", {"name": name, "scopes": ["runs:read"]}),
        "key": made("POST", "/v1/api-keys", {"name": name}),
        "grant": made("POST", f"/v1/agents/{agent_id}/grants", {"user_id": member_id, "access": "read"}),
        "idn": _identity(owner, nickname),
        "rte": made(
            "POST", "/v1/inference/routes", {"name": f"{MARK}-{nickname}", "candidates": [{"model": "gpt-5-mini"}]}
        ),
        "prv": made(
            "POST",
            "/v1/inference/providers",
            {"name": f"{MARK}-{nickname}", "kind": "openai", "base_url": f"https://{MARK}-{nickname}.test/v1"},
        ),
        "bud": made("POST", "/v1/budgets", {"scope": "key", "period": "day", "limit_microusd": 5}),
    }
    with db.tenant(owner) as tx:
        row = tx.execute("SELECT id FROM audit_events ORDER BY id LIMIT 1").fetchone()
        assert row is not None
        found["audit"] = ids.show("audit", row["id"])
        row = tx.execute("SELECT id FROM credit_entries ORDER BY id LIMIT 1").fetchone()
        assert row is not None
        found["entry"] = ids.show("entry", row["id"])
        row = tx.execute("SELECT id FROM credit_lots ORDER BY id LIMIT 1").fetchone()
        assert row is not None
        found["lot"] = ids.show("lot", row["id"])
        row = tx.execute("SELECT id FROM inference_calls ORDER BY id LIMIT 1").fetchone()
        assert row is not None
        found["call"] = ids.show("call", row["id"])
        agreed = billing.set_org_price(tx, owner, owner.org_id, model="gpt-5-mini", effective_from=None, price=None)
        found["price"] = ids.show("price", agreed.id)
        row = tx.execute("SELECT id FROM usage_events ORDER BY id LIMIT 1").fetchone()
        found["usage"] = ids.show("usage", row["id"] if row else ids.new())
    return found


def _fits(template: str, path: str) -> bool:
    wanted, given = template.split("/"), path.split("/")
    return len(wanted) == len(given) and all(
        part.startswith("{") or part == value for part, value in zip(wanted, given, strict=True)
    )


def _identity(owner: Caller, nickname: str) -> str:
    identity_id = ids.new()
    assert owner.person_id is not None
    with db.person(owner.person_id) as tx:
        tx.execute(
            "INSERT INTO identities (id, user_id, issuer, subject, email)"
            " VALUES (%s, %s, 'https://issuer.test', %s, %s)",
            (identity_id, owner.person_id, nickname, f"{MARK}-{nickname}@people.test"),
        )
    return ids.show("idn", identity_id)
