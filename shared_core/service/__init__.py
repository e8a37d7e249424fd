"""The service: an OpenAI-compatible proxy with the cache in it, and an API to the cache."""
