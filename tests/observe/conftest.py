"""The fault tests' stage."""

from tests.faults.conftest import film, stage

__all__ = ["film", "stage"]
