"""Not written yet."""


def command() -> None:
    """To come."""
