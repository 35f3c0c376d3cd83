"""JSON pointers (RFC 6901): how places in what a client has sent are named."""

__all__ = ["escaped"]


def escaped(name: str) -> str:
    """Return a name as the step of a pointer that stands behind a slash."""
    return name.replace("~", "~0").replace("/", "~1")
