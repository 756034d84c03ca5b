"""The HTTP side of the emulator: routes, bodies, envelopes, keys, and its own requests."""
