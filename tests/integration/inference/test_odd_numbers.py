"""Numbers that are none in JSON: they reach no provider, and no row."""

from typing import Any

import httpx
import pytest

from shared.identity import service as identity
from shared.inference import configuring, gateway, org_settings
from shared.inference.config import Settings
from shared.inference.edge.app import create
from shared.kernel.caller import Caller
from tests.http_server import listening
from tests.integration.inference.test_complete import books
from tests.integration.inference.test_complete import funded as funded
from tests.model_provider import Provider


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999", "-1E+0400", "9" * 400 + ".0"])
@pytest.mark.parametrize(
    "field",
    ['"temperature": {}', '"logit_bias": {{"5": {}}}', '"tools": [{{"x": [{}]}}]', '"top_k": {}'],
    ids=["temperature", "logit_bias", "tools", "top_k"],
)
def test_a_number_that_is_none_is_refused(
    funded: Caller, provider: Provider, field: str, number: str, streamed: bool
) -> None:
    with configuring.changing(funded) as tx:
        _, secret = identity.create_key(tx, funded, name="r", scopes=None, expires_at=None, metadata={})
        org_settings.set_settings(tx, funded, Settings(record_content=True))
    stream = "true" if streamed else "false"
    body = f'{{"messages": [{{"role": "user", "content": "hello"}}], "stream": {stream}, {field.format(number)}}}'
    with listening(create(gateway)) as url:
        answer = httpx.post(
            f"{url}/v1/chat/completions", content=body, headers={"authorization": f"Bearer {secret.text}"}, timeout=20
        )
    told: dict[str, Any] = answer.json()["error"]
    assert (answer.status_code, told["code"]) == (400, "invalid_request")
    assert provider.asked == []
    assert books(funded) == (0, 0, 0)
