"""A template's format, found out by rendering sentinels and reading what stands between them."""
