"""The platform's own backup file, version 3.0: reading and writing it, without any I/O (PLATFORM_JSON.md)."""
