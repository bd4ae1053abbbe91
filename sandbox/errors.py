"""The one kind of error that reaches a client: a status, a stable code and a sentence."""


class SandboxError(Exception):
    """Becomes `{"error": {"code", "message"}}`."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
