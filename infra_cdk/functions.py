"""The catalogue of Lambda functions: one row each, saying which code it runs and what it needs.

From `needs` follow both the function's permissions (constructs/permissions.py) and its environment
(constructs/environment.py): it can reach what its row says, and nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto


class Need(Enum):
    """Something outside a function that it uses. A test compares the rows below with the calls in the code."""

    DATABASE = auto()
    # On top of the database: where long looks back are read.
    READ_REPLICA = auto()
    CACHE = auto()
    PUBLIC_URL = auto()
    MODEL_PROVIDER = auto()
    DEFAULT_MODELS = auto()
    READ_PROVIDER_KEYS = auto()
    WRITE_PROVIDER_KEYS = auto()
    PUBLISH_EVENTS = auto()
    START_RUNS = auto()
    OBSERVE_RUNS = auto()
    STOP_RUNS = auto()
    ANSWER_TASK_TOKENS = auto()
    START_SANDBOXES = auto()
    STOP_SANDBOXES = auto()
    WRAP_SECRETS = auto()
    REQUEST_LETTERS = auto()
    SEND_MAIL = auto()
    RECORD_USAGE = auto()
    SIGN_IN_ELSEWHERE = auto()
    OWN_SCHEMA = auto()
    MIGRATE = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One Lambda function. API Gateway waits 30 s for an answer, hence the API functions' time-out."""

    handler: str
    needs: frozenset[Need]
    layers: tuple[str, ...] = ("core",)
    timeout_s: int
    memory_mb: int = 512
    at_most_one: bool = False
    # When the scheduler calls it, in its own words.
    schedule: str = ""
    # The script that starts a web server, with which the handler (an ASGI app) answers through the AWS Lambda Web
    # Adapter. Only AWS has that.
    server: str = ""
    title: str = ""

    @property
    def name(self) -> str:
        """Return `api-agents` for `functions.api.agents.handler`; a second handler of a file adds its own name."""
        if self.title:
            return self.title
        *path, attribute = self.handler.split(".")[1:]
        second = [] if attribute == "handler" else [attribute.removesuffix("_handler")]
        return "-".join([*path, *second]).replace("_", "-")

    @property
    def module(self) -> str:
        return self.handler.rpartition(".")[0]

    @property
    def file(self) -> str:
        return self.module.replace(".", "/") + ".py"


def _api(area: str, *needs: Need, layers: tuple[str, ...] = (), limited: bool = True) -> Function:
    # The cache holds the rate limits of callers.
    common = {Need.DATABASE, Need.PUBLIC_URL} | ({Need.CACHE} if limited else set())
    return Function(
        handler=f"functions.api.{area}.handler",
        needs=frozenset({*common, *needs}),
        layers=("core", "web", *layers),
        timeout_s=29,
        memory_mb=1024,
    )


def _step(state: str, *needs: Need, layers: tuple[str, ...] = (), timeout_s: int = 30) -> Function:
    return Function(
        handler=f"functions.steps.{state}.handler",
        needs=frozenset({Need.DATABASE, *needs}),
        layers=("core", *layers),
        timeout_s=timeout_s,
    )


# Ending a sandbox stops its task and tells the run that may be waiting for it.
_END_SANDBOXES = (Need.STOP_SANDBOXES, Need.ANSWER_TASK_TOKENS)

# To ask a model, the platform's provider or an org's own, and which one where none is named.
_MODELS = (Need.MODEL_PROVIDER, Need.READ_PROVIDER_KEYS, Need.DEFAULT_MODELS)

_SIGN_IN = (Need.WRAP_SECRETS, Need.REQUEST_LETTERS)

API = {
    "identity": _api("identity"),
    # Whoever signs in is no caller yet: attempts are counted in the database.
    "auth": _api("auth", *_SIGN_IN, layers=("tokens", "identity"), limited=False),
    "account": _api("account", *_SIGN_IN, layers=("tokens", "identity")),
    "logins": _api("logins", Need.WRAP_SECRETS, Need.SIGN_IN_ELSEWHERE, layers=("tokens", "identity")),
    "orgs": _api("orgs"),
    "members": _api("members", Need.REQUEST_LETTERS),
    "quotas": _api("quotas"),
    "subscriptions": _api("subscriptions"),
    "teams": _api("teams"),
    "api_keys": _api("api_keys"),
    "agents": _api("agents"),
    "runs": _api("runs", Need.DEFAULT_MODELS, Need.START_RUNS, Need.STOP_RUNS, *_END_SANDBOXES),
    "sandboxes": _api("sandboxes", Need.START_SANDBOXES, *_END_SANDBOXES),
    "commands": _api("commands"),
    "memory": _api("memory", *_MODELS, layers=("inference",)),
    "inference": _api("inference", *_MODELS, layers=("inference", "gateway")),
    "inference_setup": _api("inference_setup", Need.DEFAULT_MODELS),
    "providers": _api("providers", *_MODELS, Need.WRITE_PROVIDER_KEYS, layers=("inference",)),
    "budgets": _api("budgets"),
    "org_prices": _api("org_prices"),
    "estimates": _api("estimates", Need.DEFAULT_MODELS, Need.READ_REPLICA),
    "billing": _api("billing"),
    "prices": _api("prices", limited=False),
    "advice": _api("advice", Need.READ_REPLICA),
    "usage": _api("usage", Need.READ_REPLICA),
    "metering": _api("metering", Need.RECORD_USAGE),
    "audit": _api("audit"),
}

# The same program with answers that stream, which API Gateway's HTTP API and Python's runtime don't do. A call holds
# one instance for as long as it streams. One virtual CPU.
GATEWAY = replace(
    API["inference"],
    handler="functions.api.inference.app",
    title="gateway",
    server="functions/api/run.sh",
    timeout_s=900,
    memory_mb=1769,
)

AUTHORIZER = Function(
    handler="functions.authorizer.handler",
    needs=frozenset({Need.DATABASE, Need.PUBLIC_URL}),
    layers=("core", "tokens"),
    timeout_s=10,
    memory_mb=1024,
)
WEBSOCKET_AUTHORIZER = replace(AUTHORIZER, handler="functions.authorizer.websocket_handler", memory_mb=512)

SOCKETS = {
    route: Function(handler=f"functions.sockets.{route}.handler", needs=frozenset(), timeout_s=10)
    for route in ("connect", "disconnect", "default")
}

STEPS = {
    "Prepare": _step("prepare", Need.CACHE),
    "LaunchSandbox": _step("launch_sandbox", Need.START_SANDBOXES, *_END_SANDBOXES),
    "Think": _step("think", Need.CACHE, *_MODELS, layers=("inference",), timeout_s=300),
    "Act": _step("act", Need.CACHE, *_MODELS, layers=("inference",), timeout_s=300),
    "Finish": _step("finish", Need.PUBLISH_EVENTS, *_END_SANDBOXES),
    "Recover": _step("recover"),
    "Fail": _step("fail", Need.PUBLISH_EVENTS, *_END_SANDBOXES),
}

# The states of AggregateUsage.
AGGREGATION = {
    "ListOrgs": _step("list_orgs"),
    "AggregateOrg": _step("aggregate_org", timeout_s=900),
    "ConcludeAggregation": replace(_step("conclude_aggregation"), needs=frozenset()),
}


def _schedule(name: str, schedule: str, *needs: Need, layers: tuple[str, ...] = (), timeout_s: int = 50) -> Function:
    """Schedules look for work themselves: a second one at the same time would only look in vain."""
    return Function(
        handler=f"functions.schedules.{name}.handler",
        needs=frozenset({Need.DATABASE, *needs}),
        layers=("core", *layers),
        timeout_s=timeout_s,
        at_most_one=True,
        schedule=schedule,
    )


_EACH_MINUTE = "rate(1 minute)"
SCHEDULES = {
    "relay_outbox": _schedule("relay_outbox", _EACH_MINUTE, Need.PUBLISH_EVENTS),
    "reap": _schedule("reap", _EACH_MINUTE, Need.START_RUNS, Need.OBSERVE_RUNS, Need.REQUEST_LETTERS, *_END_SANDBOXES),
    # No more than its turns are apart.
    "flush_usage": _schedule("flush_usage", "rate(5 minutes)", Need.CACHE, timeout_s=290),
    "meter_storage": _schedule("meter_storage", "cron(5 * * * ? *)", timeout_s=900),
    "rotate_keys": _schedule("rotate_keys", "rate(1 day)", Need.WRAP_SECRETS, layers=("tokens",)),
    "tidy": _schedule("tidy", "cron(10 2 * * ? *)", timeout_s=600),
    # As the schema's owner, not as the application.
    "partition": replace(_schedule("partition", "rate(1 day)"), needs=frozenset({Need.OWN_SCHEMA})),
    "retain": _schedule("retain", "cron(40 2 * * ? *)", timeout_s=900),
    "renew_subscriptions": _schedule("renew_subscriptions", "cron(15 * * * ? *)", timeout_s=600),
    "reconcile_quotas": _schedule("reconcile_quotas", "cron(30 2 * * ? *)", timeout_s=900),
    "verify_audit": _schedule("verify_audit", "cron(0 3 * * ? *)", timeout_s=900),
    "verify_ledger": _schedule("verify_ledger", "cron(20 3 * * ? *)", timeout_s=900),
}

QUEUES = {
    "send_letters": Function(
        handler="functions.queues.send_letters.handler",
        needs=frozenset({Need.DATABASE, Need.PUBLIC_URL, Need.SEND_MAIL}),
        timeout_s=30,
    ),
    "start_runs": Function(
        handler="functions.queues.start_runs.handler", needs=frozenset({Need.START_RUNS}), timeout_s=30
    ),
    "record_usage": Function(
        handler="functions.queues.record_usage.handler", needs=frozenset({Need.DATABASE}), timeout_s=30
    ),
    "sandbox_stopped": Function(
        handler="functions.queues.sandbox_stopped.handler",
        needs=frozenset({Need.DATABASE, *_END_SANDBOXES}),
        timeout_s=30,
    ),
}

MIGRATE = Function(
    handler="functions.deploy.migrate.handler",
    needs=frozenset({Need.OWN_SCHEMA, Need.MIGRATE, Need.DATABASE}),
    layers=("core", "migrations"),
    timeout_s=600,
    at_most_one=True,
)

ALL: Mapping[str, Function] = {
    function.name: function
    for function in (
        *API.values(),
        GATEWAY,
        AUTHORIZER,
        WEBSOCKET_AUTHORIZER,
        *SOCKETS.values(),
        *STEPS.values(),
        *AGGREGATION.values(),
        *SCHEDULES.values(),
        *QUEUES.values(),
        MIGRATE,
    )
}
