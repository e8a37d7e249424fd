"""Clients that the tests do not install, run by hand: ``make test-clients``, ``make test-npm``."""
