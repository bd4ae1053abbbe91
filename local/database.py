"""A home's database for commands that look into it as the application does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import ProgrammingError

from local.errors import HomeError
from shared.kernel import db
from shared.kernel.errors import Unavailable


@contextmanager
def home_database(url: str) -> Iterator[None]:
    """Let `shared.kernel.db` reach this database within the block; what fails is a `HomeError` with its remedy."""
    os.environ |= {"RUNYARD_DATABASE_URL": url, "RUNYARD_DATABASE_IAM_AUTH": "0"}
    try:
        yield
    except Unavailable as error:
        raise HomeError("The home's database does not answer.", hint="`make up` starts it.") from error
    except ProgrammingError as error:
        raise HomeError(
            "The home's schema is older than this code.", hint="`make deploy` brings it up to date."
        ) from error
    finally:
        db.close()
