"""Bundles as files, and what makes them (scripts/make_vectors.py)."""
