"""Brings the schema up to date on deploy and makes sure that the operator has a key."""

from pathlib import Path
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.identity import service as identity
from shared.kernel import migrating, secrets, settings
from shared.kernel.telemetry import invoked

SCRIPTS = Path(__file__).resolve().parents[2] / "migrations"


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, str]:
    revision = migrating.upgrade(settings.schema_owner(), SCRIPTS)
    # A new secret holds no key yet: one is made here, and kept over later deploys. Stored before it is registered, so
    # that a crash in between leaves a key that the next deploy registers.
    arn = settings.operator_secret_arn()
    key = identity.operator_key(secrets.read(arn))
    secrets.write(arn, key.text)
    identity.register_operator(key)
    return {"revision": revision}
