"""The platform's own backup file, version 3.0: reading and writing it, without any I/O (see PLATFORM_JSON.md)."""
