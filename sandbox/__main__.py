"""`python -m sandbox`: read the configuration, protect it, listen, register, serve until told to stop."""

import asyncio
import logging
import os
import sys

from sandbox import log, process_protection
from sandbox.config import Config, ConfigError
from sandbox.server import serve

logger = logging.getLogger("sandbox")


def main() -> int:
    """Return the exit status: 0 after SIGTERM, 1 when refused by the platform, 2 for a broken configuration."""
    log.set_up()
    try:
        config = Config.from_environment(os.environ)
    except ConfigError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says it all
        return 2
    process_protection.apply(secrets=("SANDBOX_REGISTRATION_TOKEN",), max_processes=config.max_processes)
    return asyncio.run(serve(config))


if __name__ == "__main__":
    sys.exit(main())
