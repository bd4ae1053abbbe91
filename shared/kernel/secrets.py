"""Secrets Manager: values read when needed, kept five minutes in memory, never logged."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from shared.kernel import aws
from shared.kernel.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# At level DEBUG these loggers write every request's and every answer's body, and with it the secret.
for _name in ("endpoint", "parsers"):
    logging.getLogger(f"botocore.{_name}").setLevel(logging.INFO)

_KEPT_S = 300
_kept: dict[str, tuple[float, str]] = {}


def _client() -> "SecretsManagerClient":
    client: SecretsManagerClient = aws.client("secretsmanager")
    return client


def prepare() -> None:
    """Load what reading takes, so that the first one to read doesn't wait for it."""
    _client()


def read(arn: str) -> str:
    """Return the secret's text; at most five minutes old."""
    value = kept(arn)
    if value is None:
        value = _client().get_secret_value(SecretId=arn)["SecretString"]
        _kept[arn] = (time.monotonic() + _KEPT_S, value)
    return value


def kept(arn: str) -> str | None:
    """Return the text if it is in memory and good still: without a round trip."""
    until, value = _kept.get(arn, (0.0, ""))
    return value if until > time.monotonic() else None


def forget(arn: str) -> None:
    """Have the secret read anew when it is asked for next: its value turned out to be an old one."""
    _kept.pop(arn, None)


def write(arn: str, value: str) -> None:
    """Store a new value as the secret's current version; nothing happens when it is the current one."""
    if read(arn) == value:
        return
    _client().put_secret_value(SecretId=arn, SecretString=value)
    _kept.pop(arn, None)


def keep(name: str, value: str, *, encryption_key_arn: str) -> None:
    """Store a secret under this name, made if there is none; raise `Unavailable` when that can't be done now."""
    client = _client()
    with _failing():
        try:
            client.put_secret_value(SecretId=name, SecretString=value)
        except client.exceptions.ResourceNotFoundException:
            client.create_secret(Name=name, SecretString=value, KmsKeyId=encryption_key_arn)
    _kept.pop(name, None)


def delete(name: str) -> None:
    """Delete a secret at once and for good, if there is one; raise `Unavailable` when that can't be done now."""
    client = _client()
    with _failing(), suppress(client.exceptions.ResourceNotFoundException):
        client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
    _kept.pop(name, None)


@contextmanager
def _failing() -> Iterator[None]:
    # Here, like boto3 itself: not every invocation needs it.
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError):
        # From None: what botocore raises may hold the request.
        raise Unavailable("Secrets can't be stored just now; try again shortly.", retry_after_s=1) from None
