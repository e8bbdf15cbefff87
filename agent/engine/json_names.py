"""Names of tables in the platform's JSON: the plan's names, two of them in another form."""

from __future__ import annotations

from collections.abc import Mapping

from agent.tables.catalogue import Catalogue, TableRule, plan_name


def file_key(table: str, catalogue: Catalogue) -> str:
    """The key of a table in businessData and deviceData. The plan's few snake_case names stand in camelCase there."""
    rule = catalogue.rules.get(table)
    return plan_name(rule.name if rule else table)


def tables_by_key(rules: Mapping[str, TableRule]) -> dict[str, str]:
    """SQL names by every key that may mean them: the file's own, else the plan's, else the SQL name."""
    found: dict[str, str] = {}
    for name in (
        lambda rule: plan_name(rule.name),
        lambda rule: rule.name,
        lambda rule: rule.table,
    ):
        for rule in rules.values():
            found.setdefault(name(rule), rule.table)
    return found
