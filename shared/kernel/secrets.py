"""Secrets Manager: values read when needed, kept five minutes in memory, never logged."""

import logging
import time
from typing import TYPE_CHECKING

from shared.kernel import aws

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# At level DEBUG this logger writes every answer's body, and with it the secret.
logging.getLogger("botocore.parsers").setLevel(logging.INFO)

_KEPT_S = 300
_kept: dict[str, tuple[float, str]] = {}


def _client() -> "SecretsManagerClient":
    client: SecretsManagerClient = aws.client("secretsmanager")
    return client


def read(arn: str) -> str:
    """Return the secret's text; at most five minutes old."""
    now = time.monotonic()
    if arn in _kept and _kept[arn][0] > now:
        return _kept[arn][1]
    value = _client().get_secret_value(SecretId=arn)["SecretString"]
    _kept[arn] = (now + _KEPT_S, value)
    return value


def write(arn: str, value: str) -> None:
    """Store a new value as the secret's current version; nothing happens when it is the current one."""
    if read(arn) == value:
        return
    _client().put_secret_value(SecretId=arn, SecretString=value)
    _kept.pop(arn, None)
