"""What a laptop keeps: the folder of bundles, the spool of those on their way in, and the history of all that was done.

Only a history in another database than SQLite, and migrations, import SQLAlchemy.
"""
