"""A person at the deployed platform: registers, reads the mail that comes, signs in, works in an org."""

import re
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.e2e.deployed import Deployed
from tests.e2e.tenant import success
from tests.waiting import until

_LINK = re.compile(r"(https?://\S+?/account)#([a-z-]+)=(\S+)")


@dataclass(slots=True)
class Person:
    """Somebody with an address and a password; `http` carries their newest access token."""

    home: Deployed
    email: str
    password: str
    http: httpx.Client
    signed_in: dict[str, Any]

    @classmethod
    def register(cls, home: Deployed, name: str) -> "Person":
        """Register and confirm by the link in the letter."""
        email, password = f"{name.lower()}-{uuid4().hex[:8]}@people.test", f"{uuid4()}"
        http = home.client()
        body = {"email": email, "password": password, "name": name}
        assert http.post("/v1/auth/register", json=body).status_code == 202
        purpose, token = letter_to(home, email)
        assert purpose == "confirm-email"
        person = cls(home, email, password, http, {})
        person.take(success(http.post("/v1/auth/confirm-email", json={"token": token, "password": password})))
        return person

    def take(self, answer: httpx.Response) -> dict[str, Any]:
        """Go on with the tokens of this answer."""
        self.signed_in = answer.json()
        self.http.headers["Authorization"] = f"Bearer {self.signed_in['access_token']}"
        return self.signed_in

    def sign_in(self, **more: str) -> httpx.Response:
        return self.home.client().post("/v1/auth/login", json={"email": self.email, "password": self.password, **more})

    def work_in(self, org_id: str) -> None:
        """Switch to another org of theirs."""
        body = {"refresh_token": self.signed_in["refresh_token"], "org_id": org_id}
        self.take(success(self.http.post("/v1/auth/refresh", json=body)))

    def get(self, path: str, **parameters: Any) -> Any:
        return success(self.http.get(path, params=parameters)).json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return success(self.http.post(path, json=body or {})).json()


def letter_to(home: Deployed, email: str, *, after: int = 0) -> tuple[str, str]:
    """Return purpose and token of the link in the newest letter to this address, beyond the first `after`."""

    def look() -> str | None:
        letters = [letter["BodyText"] for letter in home.letters() if email in letter["To"]]
        return letters[-1] if len(letters) > after else None

    found = _LINK.search(until(look, f"a letter to {email}"))
    assert found is not None
    assert found[1] == f"{home.home.public_url}/account"
    return found[2], found[3]
