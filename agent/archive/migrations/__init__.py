"""Migrations of the history database, run by ``agent.archive.storage``."""
