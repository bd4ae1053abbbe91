"""People in tests: somebody at the door of the API, with a mailbox that the emulator's SES fills."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from functions import authorizer
from functions.api.account import handler as account
from functions.api.auth import handler as auth
from functions.queues.send_letters import handler as send_letters
from shared.kernel.caller import Caller
from tests.api_gateway import Answer, Context
from tests.emulator import Emulator

PASSWORD = "seven lamps over the harbour"
OTHER_PASSWORD = "a kettle sings in the rain"
_LINK = re.compile(r"(https?://\S+?/account)#([a-z-]+)=(\S+)")


@dataclass
class Somebody:
    """A person with an address and a password; `tokens` are those of their newest answer."""

    call: Callable[..., Answer]
    emulator: Emulator
    email: str
    name: str = "Ada"
    password: str = PASSWORD
    tokens: dict[str, Any] = field(default_factory=dict)

    def register(self) -> Answer:
        return self.auth("register", email=self.email, name=self.name, password=self.password)

    def registered(self) -> "Somebody":
        """Register and confirm by the letter's link."""
        assert self.register().status == 202
        answer = self.auth("confirm-email", token=self.link("confirm-email"), password=self.password)
        assert answer.status == 201, answer.text
        self.tokens = answer.json
        return self

    def sign_in(self, **more: str) -> Answer:
        answer = self.auth("login", email=self.email, password=self.password, **more)
        if answer.status == 200:
            self.tokens = answer.json
        return answer

    def refresh(self, token: str | None = None, **more: str) -> Answer:
        return self.auth("refresh", refresh_token=token or self.tokens["refresh_token"], **more)

    def auth(self, what: str, **body: str) -> Answer:
        return self.call(auth, "POST", f"/v1/auth/{what}", json=body)

    def me(self, method: str, path: str = "", **body: Any) -> Answer:
        """Call `/v1/me…` as the bearer of the newest access token."""
        return self.call(account, method, f"/v1/me{path}", self.caller(), json=body or None)

    def caller(self, access_token: str | None = None) -> Caller:
        """Whom the authorizer takes the bearer of the access token for; raises what it refuses with."""
        header = {"authorization": f"Bearer {access_token or self.tokens['access_token']}"}
        return replace(Caller.from_context(authorizer.handler({"headers": header}, Context())["context"]), rates="")

    def mail(self) -> list[dict[str, Any]]:
        """Have what was asked for sent, and return all that came to this address."""
        records = self.emulator.letters_asked_for()
        if records:
            assert send_letters({"Records": records}, Context()) == {"batchItemFailures": []}
        return self.emulator.sent_mail(self.email)

    def link(self, purpose: str) -> str:
        """The token in the link of the newest letter."""
        found = _LINK.search(self.mail()[-1]["BodyText"])
        assert found is not None
        assert (found[1], found[2]) == ("https://runyard.test/account", purpose)
        return found[3]
