"""The LlamaIndex adapter: not there yet."""
