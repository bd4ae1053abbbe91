"""The keys that sign access tokens: made, published, rotated, replaced, on a real KMS and a real database."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from joserfc import jwt as jose
from joserfc.jwk import KeySet, KeySetSerialization

from functions.schedules import rotate_keys
from shared.kernel import aws, clock, db, ids, settings
from shared.kernel.errors import TokenKeyUnknown, Unavailable
from shared.tokens import service as tokens
from shared.tokens.model import MADE_AHEAD, SIGNS_FOR, VERIFIES_AFTER_LAST
from tests.api_gateway import Context
from tests.emulator import Emulator

ROOT = Path(__file__).resolve().parents[3]
ISSUE = """
from shared.kernel import ids
from shared.tokens import service
print(service.issue(user_id=ids.new(), session_id=ids.new(), org_id=ids.new()).text)
"""


def issue() -> str:
    return tokens.issue(user_id=ids.new(), session_id=ids.new(), org_id=ids.new()).text


def key_set() -> KeySet:
    """What others verify with."""
    return KeySet.import_key_set(cast("KeySetSerialization", tokens.jwks()))


def signed_with(text: str) -> str:
    """The kid of a token, as anybody can read it."""
    return str(jose.decode(text, key_set(), algorithms=["ES256"]).header["kid"])


def published() -> list[str]:
    """The kids in the key set, as a process sees them that has just begun."""
    tokens.forget()
    return [key["kid"] for key in tokens.jwks()["keys"]]


def rotated() -> dict[str, int]:
    event = json.loads((ROOT / "events" / "schedules" / "rotate_keys.json").read_text())
    answer: dict[str, int] = rotate_keys.handler(event, Context())
    return answer


def pass_time(by: timedelta) -> None:
    """Let all keys grow older, and this process forget what it knew."""
    with db.anonymous() as tx:
        tx.execute(
            """UPDATE signing_keys SET signs_from = signs_from - %(by)s, signs_until = signs_until - %(by)s,
                                       verifies_until = verifies_until - %(by)s""",
            {"by": by},
        )
    tokens.forget()


def test_the_first_token_makes_the_first_key_and_the_token_verifies(emulator: Emulator) -> None:
    user_id, session_id, org_id = ids.new(), ids.new(), ids.new()
    made = tokens.issue(user_id=user_id, session_id=session_id, org_id=org_id)
    claims = tokens.verify(made.text)
    assert (claims.user_id, claims.session_id, claims.org_id) == (user_id, session_id, org_id)
    assert made.expires_in_s == 900
    assert timedelta(minutes=14) < claims.expires_at - clock.now() <= timedelta(minutes=15)
    assert len(published()) == 1


def test_the_key_set_verifies_a_token_for_others_and_holds_no_private_half(emulator: Emulator) -> None:
    text = issue()
    found = jose.decode(text, key_set(), algorithms=["ES256"])
    assert found.header["typ"] == "at+jwt"
    assert found.claims["iss"] == tokens.discovery()["issuer"] == settings.public_url()
    assert tokens.discovery()["jwks_uri"].startswith(settings.public_url())
    assert [set(key) for key in tokens.jwks()["keys"]] == [{"kty", "crv", "x", "y", "kid", "use", "alg"}]


def test_what_the_database_holds_is_of_no_use_without_kms(emulator: Emulator) -> None:
    issue()
    with db.anonymous() as tx:
        row = tx.execute("SELECT * FROM signing_keys").fetchone()
    assert row is not None
    assert "d" not in row["public_jwk"]
    assert b'"d"' not in bytes(row["private_wrapped"])


def test_kms_and_the_database_are_asked_once_for_many_tokens(emulator: Emulator) -> None:
    assert tokens.verify(first := issue())
    db.close()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RUNYARD_DATABASE_URL", "postgresql://nobody@127.0.0.1:9/none")
        patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        assert tokens.verify(again := issue())
    assert again != first


def test_rotation_publishes_the_next_key_before_it_signs_and_both_are_good_in_the_overlap(emulator: Emulator) -> None:
    old_token = issue()
    old = signed_with(old_token)
    assert rotated() == {"keys": 0}
    pass_time(SIGNS_FOR - MADE_AHEAD + timedelta(minutes=1))
    assert rotated() == {"keys": 1}
    assert rotated() == {"keys": 0}
    assert len(both := published()) == 2
    assert signed_with(issue()) == old
    pass_time(MADE_AHEAD)
    new_token = issue()
    assert [signed_with(new_token)] == [kid for kid in both if kid != old]
    assert tokens.verify(old_token)
    assert tokens.verify(new_token)
    assert set(published()) == set(both)
    pass_time(VERIFIES_AFTER_LAST)
    with pytest.raises(TokenKeyUnknown):
        tokens.verify(old_token)
    assert tokens.verify(new_token)
    assert rotated() == {"keys": 1}
    assert published() == [signed_with(new_token)]


def test_without_rotation_for_months_a_token_is_signed_all_the_same(emulator: Emulator) -> None:
    old = signed_with(issue())
    pass_time(timedelta(days=90))
    text = issue()
    assert tokens.verify(text)
    assert signed_with(text) != old


def test_a_key_that_kms_no_longer_unwraps_is_replaced_at_once_and_still_verifies(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = issue()
    kms = emulator.client("kms")
    lost = kms.create_key()["KeyMetadata"]["Arn"]
    with db.anonymous() as tx:
        tx.execute("UPDATE signing_keys SET private_wrapped = %s", (_wrapped_under(kms, lost),))
    kms.schedule_key_deletion(KeyId=lost, PendingWindowInDays=7)
    tokens.forget()
    after = issue()
    assert tokens.verify(after)
    assert tokens.verify(before)
    assert signed_with(after) != signed_with(before)
    assert len(published()) == 2
    tokens.forget()
    assert signed_with(issue()) == signed_with(after)


@pytest.mark.parametrize("stored", [b"", b"not wrapped by anybody"])
def test_the_daily_rotation_replaces_keys_that_are_of_no_use(emulator: Emulator, stored: bytes) -> None:
    issue()
    pass_time(SIGNS_FOR - MADE_AHEAD + timedelta(minutes=1))
    assert rotated() == {"keys": 1}
    with db.anonymous() as tx:
        tx.execute("UPDATE signing_keys SET private_wrapped = %s", (stored,))
    assert rotated() == {"keys": 1}
    with db.anonymous() as tx:
        signing = tx.execute("SELECT kid FROM signing_keys WHERE signs_until > now()").fetchall()
    tokens.forget()
    assert [row["kid"] for row in signing] == [signed_with(issue())]


def test_with_kms_gone_a_key_is_neither_made_nor_replaced(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    kid = signed_with(issue())
    tokens.forget()
    with monkeypatch.context() as patched:
        patched.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        aws.client.cache_clear()
        with pytest.raises(Unavailable):
            issue()
    aws.client.cache_clear()
    assert published() == [kid]
    assert signed_with(issue()) == kid


def test_many_at_once_make_one_key(emulator: Emulator) -> None:
    with ThreadPoolExecutor(8) as at_once:
        made = list(at_once.map(lambda _: issue(), range(16)))
    assert len(published()) == 1
    assert all(tokens.verify(text) for text in made)


def test_processes_that_make_the_first_key_at_once_agree_on_one(emulator: Emulator, database: str) -> None:
    at_once = [
        subprocess.Popen([sys.executable, "-c", ISSUE], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    made = [process.communicate()[0].splitlines()[-1] for process in at_once]
    assert all(process.returncode == 0 for process in at_once)
    assert all(tokens.verify(text) for text in made)
    assert len(published()) == 1


def test_a_key_made_by_another_process_is_known_after_one_look(emulator: Emulator) -> None:
    assert tokens.jwks() == {"keys": []}
    text = issue()
    with pytest.MonkeyPatch.context() as patched:
        _let_seconds_pass(patched, 5)
        assert tokens.verify(text)


def test_a_deleted_key_is_forgotten_within_a_minute(emulator: Emulator) -> None:
    text = issue()
    assert tokens.verify(text)
    with db.anonymous() as tx:
        tx.execute("DELETE FROM signing_keys")
    assert tokens.verify(text)
    with pytest.MonkeyPatch.context() as patched:
        _let_seconds_pass(patched, 60)
        with pytest.raises(TokenKeyUnknown):
            tokens.verify(text)
        replaced = issue()
        _let_seconds_pass(patched, 5)
        assert tokens.verify(replaced)


def _let_seconds_pass(patched: pytest.MonkeyPatch, seconds: float) -> None:
    """Let the clock that never goes back stand further on."""
    import time

    real = time.monotonic
    patched.setattr(time, "monotonic", lambda: real() + seconds)


def _wrapped_under(kms: Any, key_arn: str) -> bytes:
    blob: bytes = kms.encrypt(KeyId=key_arn, Plaintext=b"{}")["CiphertextBlob"]
    return blob
