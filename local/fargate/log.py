"""One JSON object per line on stderr, with the sandbox it is about. Environments and bodies are never logged."""

import json
import logging
import sys
from datetime import UTC, datetime


class JsonLines(logging.Formatter):
    """Renders a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        sandbox = getattr(record, "sandbox", None)
        if sandbox:
            line["sandbox"] = sandbox
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up() -> None:
    """Send everything from INFO up to stderr; of the HTTP client, which names URLs, warnings only."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("httpx", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
