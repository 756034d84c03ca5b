"""What a message says of a package that is missing: the extra of this one that brings it."""


def to_install(extra: str) -> str:
    """Return the command that installs an extra, where the package is published and where not.

    Args:
        extra: One of pyproject.toml's optional dependencies.
    """
    return f"pip install 'memories-async[{extra}]' (in a folder of its source: '.[{extra}]')"
