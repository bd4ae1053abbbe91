"""A worker of the usage queue to be killed: hands itself the batches of a file, one after the other, for ever."""

import itertools
import json
import sys
from pathlib import Path

from functions.queues import record_usage
from tests.api_gateway import Context

batches = json.loads(Path(sys.argv[1]).read_text())
for batch in itertools.cycle(batches):
    answer = record_usage.handler({"Records": batch}, Context())
    print(json.dumps(answer), file=sys.stderr, flush=True)
