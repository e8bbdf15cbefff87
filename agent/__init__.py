"""Backroom's agent: one per laptop, beside the shop's business platform."""
