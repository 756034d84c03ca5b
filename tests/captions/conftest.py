"""The fixtures of every room that makes calls."""

from tests.service import beside, client, clock, folder, recorder

__all__ = ["beside", "client", "clock", "folder", "recorder"]
