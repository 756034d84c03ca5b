"""The whole product on a simulated world with one seed: see README.md."""
