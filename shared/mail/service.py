"""Use cases of mail: ask for a letter after the commit that made it necessary, send one."""

from uuid import UUID

from shared.kernel.telemetry import logger
from shared.mail import queue, ses

send = ses.send


def ask_for(kind: str, *, owner: UUID, letter_id: UUID) -> None:
    """Ask for a letter now rather than within the minute; what can't be asked for now, the reaper asks for."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        queue.put(kind, owner=owner, letter_id=letter_id)
    except (BotoCoreError, ClientError) as error:
        logger.warning("letter postponed", extra={"kind": kind, "error": type(error).__name__})
