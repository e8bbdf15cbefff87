"""What can be wrong with the classification of tables."""

from __future__ import annotations


class TablesError(Exception):
    """Root of this package's errors. ``str(error)`` says what is wrong with what, ``hint`` what to do next."""

    code = "tables"
    hint = "See `backroom tables --help` for how tables are classified."


class BadCatalogue(TablesError):
    code = "tables-file"
    hint = (
        "Mend tables.toml in the data folder; `backroom tables` shows what it changes. Delete it to use the defaults."
    )


class NoBusinesses(TablesError):
    code = "no-businesses-table"
    hint = "Check that the address in config.toml names the platform's database and schema."
