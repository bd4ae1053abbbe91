"""What may go wrong with the home, said so that its owner can act on it."""


class HomeError(Exception):
    """Something is wrong with the home: what, and in `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
