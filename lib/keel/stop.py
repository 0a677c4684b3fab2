"""How a room ends a command: one exception with a message, an exit code and a hint."""

NO, USAGE, DATA, NOTHING, UNAVAILABLE, BUG, BUSY, CONFIG = 1, 2, 65, 66, 69, 70, 75, 78
READER_LEFT = 141  # what a shell reports for SIGPIPE; not our failure to report twice, so there is no message


class Stop(Exception):
    """End the command: `message` names the object and then the reason; `hint` is what to type next."""

    def __init__(self, message: str, code: int = NO, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
