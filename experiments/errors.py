"""What can go wrong and is said in a line, without a traceback."""


class Trouble(RuntimeError):
    """A command cannot go on; the message says why, and what helps."""
