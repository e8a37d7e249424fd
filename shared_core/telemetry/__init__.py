"""Hooks that tell others of every lookup: OpenTelemetry and Prometheus, one module each.

cache --LookupEvent--> hook --> spans and metrics; nothing holds a prompt or an answer
"""
