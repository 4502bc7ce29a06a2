"""What goes wrong in a benchmark without being its end."""


class ContestantError(Exception):
    """A contestant could not start, failed, or returned wrong bytes; the others go on."""
