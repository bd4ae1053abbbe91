"""HTTP API of budgets: for whom they can be, and what is told of how they stand."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.api import budgets as api
from shared.agents import service as agents
from shared.agents.schemas import Config
from shared.identity import service as identity
from shared.identity.policy import Role
from shared.inference import budget_setup
from shared.kernel import clock, db, ids
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.people import joined

type Call = Callable[..., Answer]
PATH = "/v1/budgets"
BODY = {"scope": "org", "period": "month", "limit_microusd": 5_000_000}


@pytest.fixture
def ask(call: Call, org: Caller) -> Call:
    def asked(method: str, path: str = "", caller: Caller = org, **given: Any) -> Answer:
        return call(api.handler, method, PATH + path, caller, **given)

    return asked


def subjects(caller: Caller) -> dict[str, str]:
    """The id of a key, a person and an agent of the org, by scope."""
    with db.tenant(caller) as tx:
        key, _ = identity.create_key(tx, caller, name="k", scopes=None, expires_at=None, metadata={})
        agent = agents.create_agent(tx, caller, name="a", config=Config().to_model(), metadata={})
    person = joined(caller, Role.VIEWER).person_id
    assert person is not None
    return {"key": ids.show("key", key.id), "person": ids.show("user", person), "agent": ids.show("agent", agent.id)}


def spent(caller: Caller, shown_id: str, subject: str, start: str, *, spent: int, held: int) -> None:
    with db.tenant(caller) as tx:
        tx.execute(
            "INSERT INTO inference_budget_spending (org_id, budget_id, subject, period_start, spent_microusd,"
            " held_microusd) VALUES (%s, %s, %s, %s, %s, %s)",
            (caller.org_id, ids.read("bud", shown_id), subject, start, spent, held),
        )


@pytest.fixture
def moment(monkeypatch: pytest.MonkeyPatch) -> datetime:
    held = datetime(2026, 12, 31, 23, 30, tzinfo=UTC)
    monkeypatch.setattr(clock, "now", lambda: held)
    return held


def test_a_budget_is_kept_as_it_was_set(ask: Call, org: Caller, moment: datetime) -> None:
    made = ask("POST", json=BODY)
    assert made.status == 201, made.text
    assert made.json["id"].startswith("bud_")
    assert made.json == made.json | BODY | {
        "object": "budget",
        "subject": "",
        "spent_microusd": 0,
        "held_microusd": 0,
        "subjects": [],
        "resets_at": "2027-01-01T00:00:00Z",
        "created_by": org.actor_id,
    }
    assert ask("GET", f"/{made.json['id']}").json == made.json
    assert ask("GET").json["data"] == [made.json]


@pytest.mark.parametrize(
    ("period", "start", "before", "resets_at"),
    [
        ("day", "2026-12-31", "2026-12-30", "2027-01-01T00:00:00Z"),
        ("month", "2026-12-01", "2026-11-01", "2027-01-01T00:00:00Z"),
        ("total", "1970-01-01", None, None),
    ],
)
def test_it_tells_what_is_spent_and_held_in_the_present_period(
    ask: Call, org: Caller, moment: datetime, period: str, start: str, before: str | None, resets_at: str | None
) -> None:
    made = ask("POST", json=BODY | {"period": period}).json
    spent(org, made["id"], "", start, spent=7, held=2)
    if before is not None:
        spent(org, made["id"], "", before, spent=100, held=50)
    (listed,) = ask("GET").json["data"]
    assert (listed["spent_microusd"], listed["held_microusd"], listed["resets_at"]) == (7, 2, resets_at)
    assert listed["subjects"] == []


def test_of_a_budget_that_each_has_it_tells_who_uses_the_most(ask: Call, org: Caller, moment: datetime) -> None:
    made = ask("POST", json=BODY | {"scope": "key"}).json
    for number in range(25):
        spent(org, made["id"], f"key_{number:02}", "2026-12-01", spent=number, held=1)
    found = ask("GET", f"/{made['id']}").json
    assert (found["spent_microusd"], found["held_microusd"]) == (sum(range(25)), 25)
    assert [each["subject"] for each in found["subjects"]] == [f"key_{number:02}" for number in range(24, 4, -1)]
    assert found["subjects"][0] == {"subject": "key_24", "spent_microusd": 24, "held_microusd": 1}


def test_what_one_budget_has_spent_is_no_others(ask: Call, org: Caller, moment: datetime) -> None:
    orgs, keys = (ask("POST", json=BODY | {"scope": scope}).json["id"] for scope in ("org", "key"))
    spent(org, orgs, "", "2026-12-01", spent=7, held=2)
    assert ask("GET", f"/{keys}").json["spent_microusd"] == 0
    assert ask("GET", f"/{orgs}").json["spent_microusd"] == 7


@pytest.mark.parametrize("scope", ["key", "person", "agent"])
def test_a_subject_is_one_of_the_orgs_own(ask: Call, org: Caller, rival: Caller, scope: str) -> None:
    own, theirs = subjects(org), subjects(rival)
    made = ask("POST", json=BODY | {"scope": scope, "subject": own[scope]})
    assert made.status == 201, made.text
    assert made.json["subject"] == own[scope]
    assert ask("POST", json=BODY | {"scope": scope, "subject": theirs[scope]}).status == 404
    other = own["agent" if scope == "key" else "key"]
    assert ask("POST", json=BODY | {"scope": scope, "subject": other}).status == 400, "of another kind"
    assert ask("POST", json=BODY | {"scope": scope, "subject": "nonsense"}).status == 400


def test_a_run_that_is_not_there_has_no_budget(ask: Call) -> None:
    assert ask("POST", json=BODY | {"scope": "run", "subject": ids.show("run", ids.new())}).status == 404
    assert ask("POST", json=BODY | {"scope": "run"}).status == 201, "each run by itself"


def test_an_orgs_budget_has_no_subject(ask: Call, org: Caller) -> None:
    assert ask("POST", json=BODY | {"subject": ids.show("org", org.org_id)}).status == 400


@pytest.mark.parametrize(
    "given",
    [
        {"limit_microusd": -1},
        {"limit_microusd": 10**16},
        {"limit_microusd": 1.5},
        {"period": "week"},
        {"scope": "team"},
    ],
    ids=["negative", "too much", "a part", "period", "scope"],
)
def test_what_is_no_budget_is_refused(ask: Call, given: dict[str, Any]) -> None:
    assert ask("POST", json=BODY | given).status == 400


def test_there_is_one_budget_for_a_subject_and_period(ask: Call, rival: Caller) -> None:
    assert ask("POST", json=BODY).status == 201
    again = ask("POST", json=BODY | {"limit_microusd": 1})
    assert (again.status, again.error) == (409, "budget_exists")
    assert ask("POST", json=BODY | {"period": "day"}).status == 201
    assert ask("POST", json=BODY | {"scope": "key"}).status == 201
    assert ask("POST", caller=rival, json=BODY).status == 201


def test_a_limit_can_be_changed_and_nothing_else(ask: Call, org: Caller, moment: datetime) -> None:
    made = ask("POST", json=BODY).json
    spent(org, made["id"], "", "2026-12-01", spent=7, held=2)
    changed = ask("PATCH", f"/{made['id']}", json={"limit_microusd": 0})
    assert changed.status == 200, changed.text
    assert (changed.json["limit_microusd"], changed.json["spent_microusd"]) == (0, 7)
    assert ask("GET", f"/{made['id']}").json == changed.json
    assert ask("PATCH", f"/{made['id']}", json={"limit_microusd": 1, "period": "day"}).status == 400


def test_a_deleted_budget_is_gone_with_what_was_spent_of_it(ask: Call, org: Caller, moment: datetime) -> None:
    made = ask("POST", json=BODY).json
    spent(org, made["id"], "", "2026-12-01", spent=7, held=2)
    assert ask("DELETE", f"/{made['id']}").status == 204
    for method, given in (("GET", None), ("PATCH", {"limit_microusd": 1}), ("DELETE", None)):
        assert ask(method, f"/{made['id']}", json=given).status == 404
    assert ask("POST", json=BODY).json["spent_microusd"] == 0


def test_budgets_are_listed_in_pages(ask: Call) -> None:
    made = [ask("POST", json=BODY | {"period": period}).json["id"] for period in ("day", "month", "total")]
    page = ask("GET", "?limit=2").json
    assert [each["id"] for each in page["data"]] == [made[2], made[1]]
    rest = ask("GET", f"?limit=2&cursor={page['next_cursor']}").json
    assert ([each["id"] for each in rest["data"]], rest["has_more"]) == ([made[0]], False)


def test_a_rivals_budget_does_not_exist(ask: Call, rival: Caller) -> None:
    made = ask("POST", json=BODY).json
    for method, given in (("GET", None), ("PATCH", {"limit_microusd": 1}), ("DELETE", None)):
        assert ask(method, f"/{made['id']}", caller=rival, json=given).status == 404
    assert ask("GET", caller=rival).json["data"] == []
    assert ask("GET", f"/{made['id']}").json == made


def test_only_who_may_administrate_billing_sets_budgets(ask: Call, org: Caller) -> None:
    reader = replace(org, scopes=org.scopes - {"billing:admin"})
    assert ask("POST", caller=reader, json=BODY).status == 403
    assert ask("GET", caller=reader).status == 200


def test_the_same_request_sent_again_makes_one_budget(ask: Call) -> None:
    first, again = (ask("POST", json=BODY, headers={"idempotency-key": "k"}) for _ in range(2))
    assert first.json == again.json
    assert len(ask("GET").json["data"]) == 1


def test_there_is_an_end_to_how_many_there_can_be(ask: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget_setup, "MOST_BUDGETS", 1)
    assert ask("POST", json=BODY).status == 201
    assert ask("POST", json=BODY | {"period": "day"}).error == "setup_limit_reached"
