"""What tests of providers share: a provider to set up, and where its key is."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.api import providers as api
from shared.inference import accounts, configuring
from shared.inference.accounts_model import Account, secret_of
from shared.inference.config import ProviderKind
from shared.kernel import aws, db, ids, secrets, settings
from shared.kernel.caller import Caller
from tests.api_gateway import Answer
from tests.emulator import Emulator

type Call = Callable[..., Answer]
PATH = "/v1/inference/providers"
KEY = "sk-canary-31f0c77a9be2"
BODY = {"name": "mine", "kind": "openai", "base_url": "https://api.example.com/v1/", "api_key": KEY, "models": ["m"]}


@pytest.fixture
def ask(call: Call, org: Caller, emulator: Emulator) -> Iterator[Call]:
    def asked(method: str, path: str = "", caller: Caller = org, **given: Any) -> Answer:
        return call(api.handler, method, PATH + path, caller, **given)

    secrets._kept.clear()
    configuring.forget()
    yield asked
    configuring.forget()


def stored(org: Caller, shown_id: str) -> str | None:
    """The key as Secrets Manager has it."""
    client = aws.client("secretsmanager")
    name = secret_of(settings.provider_secrets().prefix, org.org_id, ids.read("prv", shown_id))
    try:
        return str(client.get_secret_value(SecretId=name)["SecretString"])
    except client.exceptions.ResourceNotFoundException:
        return None


def secrets_of(org: Caller) -> list[str]:
    prefix = f"{settings.provider_secrets().prefix}/{ids.show('org', org.org_id)}/"
    listed = aws.client("secretsmanager").list_secrets(MaxResults=100)["SecretList"]
    return [each["Name"] for each in listed if each["Name"].startswith(prefix)]


def begun(org: Caller, **given: Any) -> Account:
    """A provider whose creation was cut short before its key was stored."""
    body = {**BODY, "kind": ProviderKind.OPENAI, "region": "", "models": (), "parameters": (), "enabled": True, **given}
    with db.tenant(org) as tx:
        return accounts.begin_account(tx, org, **body)
