"""State ListOrgs: the next tenants whose days are to be added up, once what became of those before is counted."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext

from shared.kernel import db
from shared.kernel.telemetry import invoked
from shared.usage import aggregation
from shared.usage.aggregation import Job


@invoked
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    job = Job.read(event)
    with db.anonymous() as tx:
        return aggregation.following(tx, job).written()
