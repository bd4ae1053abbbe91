"""A process that adds up one tenant's days, for tests that kill it: `python -m tests.integration.usage.aggregating`."""

import json
import sys

from functions.steps.aggregate_org import handler
from tests.api_gateway import Context

if __name__ == "__main__":
    handler(json.loads(sys.argv[1]), Context())
