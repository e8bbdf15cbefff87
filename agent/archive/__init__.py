"""What a laptop keeps: the folder of bundles, the spool of those on their way in, and the history of all that was done.

``history`` imports SQLAlchemy and is left to be imported where it is used.
"""
