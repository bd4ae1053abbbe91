"""KMS: wraps small secrets (under 4 KB), so that what the database holds is of no use without the key.

The context binds a wrapped secret to what it is for: unwrapping it for anything else fails.
"""

from typing import TYPE_CHECKING

from shared.kernel import aws, settings
from shared.kernel.errors import InternalError, Unavailable

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient


# With these KMS says that it never will. A throttled or forbidden call says nothing about the secret.
_FOR_GOOD = frozenset(
    {
        "DisabledException",
        "IncorrectKeyException",
        "InvalidCiphertextException",
        "KMSInvalidStateException",
        "NotFoundException",
    }
)


# Stands before every secret. KMS proves what it decrypts; the emulator gives back anything, and this tells.
_MARK = b"runyard:"


class Unwrappable(InternalError):
    """A stored secret can't be unwrapped: its key is gone, or it was stored for something else."""

    code = "secret_unusable"


def _client() -> "KMSClient":
    client: KMSClient = aws.client("kms")
    return client


def wrap(secret: bytes, *, context: dict[str, str]) -> bytes:
    """Return the secret encrypted under the identity key, e.g. for `context={"purpose": "totp", "user": "user_…"}`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = _client().encrypt(
            KeyId=settings.identity_key_arn(), Plaintext=_MARK + secret, EncryptionContext=context
        )
    except (ClientError, BotoCoreError) as error:
        raise Unavailable("A secret can't be stored just now; try again shortly.") from error
    return answer["CiphertextBlob"]


def unwrap(wrapped: bytes, *, context: dict[str, str]) -> bytes:
    """Return the secret; raise `Unwrappable` when it is lost, e.g. since its key was deleted, else `Unavailable`."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = _client().decrypt(KeyId=settings.identity_key_arn(), CiphertextBlob=wrapped, EncryptionContext=context)
    except (ClientError, BotoCoreError) as error:
        if isinstance(error, ClientError) and error.response["Error"]["Code"] in _FOR_GOOD:
            raise Unwrappable("A stored secret can't be unwrapped; its key may be gone.") from error
        raise Unavailable("A stored secret can't be unwrapped just now; try again shortly.") from error
    if not answer["Plaintext"].startswith(_MARK):
        raise Unwrappable("A stored secret can't be unwrapped; its key may be gone.")
    return answer["Plaintext"].removeprefix(_MARK)
