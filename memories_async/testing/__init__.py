"""The pytest plugin: an emulator for each session, fresh for each test, and clients that reach it.

Installed with the package, and found by pytest by itself. See ``plugin`` for the fixtures.

May import sync, emulator and below.
"""
