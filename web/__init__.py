"""The search page, its API, and the same as tools for language models."""
