"""The catalogue: what is known about tables by name (DESIGN section 3). Data in ``platform.toml``, none in code."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from agent.tables.errors import BadCatalogue


class TableClass(StrEnum):
    """What kind of state a table holds, which decides where its rows may go."""

    BUSINESS = "business"
    DEVICE = "device"
    TRANSIENT = "transient"
    UNCLASSIFIED = "unclassified"


class Origin(StrEnum):
    """Where a table's class came from."""

    CATALOGUE = "catalogue"
    USER = "your file"
    INFERRED = "inferred"
    NONE = "unclassified"


@dataclass(frozen=True, slots=True)
class Pending:
    """How a row of a queue says which row it is about: the columns with that row's table (by SQL or plan name) and id,
    and the column that is true once it has been worked off."""

    table: str
    row: str
    done: str


@dataclass(frozen=True, slots=True)
class TableRule:
    """How one table travels. The fields are explained at the top of ``platform.toml``.

    ``why`` says in words how an inferred rule was found.
    """

    table: str
    name: str
    table_class: TableClass
    origin: Origin
    group: str = ""
    travels_with: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    whole: bool = False
    common: bool = False
    full_only: bool = False
    references: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    same_when: tuple[tuple[str, ...], ...] | None = None
    greatest: tuple[str, ...] = ()
    history: bool = False
    placeholder: Mapping[str, str | int | bool] | None = None
    pending: Pending | None = None
    why: str = ""

    @property
    def shared(self) -> bool:
        """Whether its rows belong to no one row and come where they are needed (users, printers)."""
        return not self.travels_with and not self.owners

    def describe(self) -> str:
        """How it travels, in one phrase for people."""
        if self.table_class is TableClass.DEVICE:
            return "stays on its laptop; full-device backups only"
        if self.table_class is TableClass.TRANSIENT:
            return "never"
        if self.table_class is TableClass.UNCLASSIFIED:
            return "full backups only; never to another laptop"
        if self.whole:
            return "whole, with every backup"
        if self.owners:
            return "with any of " + ", ".join(self.owners)
        if self.travels_with:
            return "with " + ", else ".join(self.travels_with) + (", and where needed" if self.common else "")
        return "with full backups, and where needed" if self.full_only else "where needed"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Rules by SQL name, and the names of the few columns that the code must know."""

    rules: Mapping[str, TableRule]
    businesses: str
    timestamps: tuple[str, ...]
    demo: str
    labels: tuple[str, ...]
    conflicts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    never: tuple[str, ...] = ()


def plan_name(sql_name: str) -> str:
    """The plan's name of a table: its SQL name in camelCase."""
    first, *rest = sql_name.split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


_TABLE_FIELDS = {
    "name": str,
    "travels_with": list,
    "owners": list,
    "whole": bool,
    "common": bool,
    "full_only": bool,
    "references": dict,
    "same_when": list,
    "greatest": list,
    "history": bool,
    "placeholder": dict,
    "pending": dict,
}
_IN_WORDS = {str: "a text", list: "a list", bool: "true or false", dict: "a table like { column = ... }"}
_TOP_FIELDS = {"businesses", "timestamps", "demo", "labels", "group", "conflicts", "never"}
_GROUP_FIELDS = {"title", "class", "tables", "history"}
_WINNERS = ("newer", "bundle", "local")


def _texts(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise BadCatalogue(f"{what} must be a list of column names.")
    return tuple(value)


def _rule(
    table: str, entry: Any, table_class: TableClass, group: str, history: bool, origin: Origin, where: str
) -> TableRule:
    if not isinstance(entry, dict):
        raise BadCatalogue(f"{where}: the entry of table {table} must be a table like {{ travels_with = [...] }}.")
    for key, value in entry.items():
        if key not in _TABLE_FIELDS:
            raise BadCatalogue(f"{where}: table {table} has the unknown setting {key!r}.")
        if not isinstance(value, _TABLE_FIELDS[key]):
            raise BadCatalogue(f"{where}: {key} of table {table} must be {_IN_WORDS[_TABLE_FIELDS[key]]}.")
    references = entry.get("references", {})
    if not all(isinstance(target, str) and target for target in references.values()):
        raise BadCatalogue(f"{where}: references of table {table} must name tables.")
    if not all(isinstance(value, str | int | bool) for value in entry.get("placeholder", {}).values()):
        raise BadCatalogue(f"{where}: the placeholder of table {table} may hold texts, whole numbers, true and false.")
    if entry.get("travels_with") and entry.get("owners"):
        raise BadCatalogue(f"{where}: table {table} has both travels_with and owners; choose one.")
    return TableRule(
        table=table,
        name=entry.get("name", plan_name(table)),
        table_class=table_class,
        origin=origin,
        group=group,
        travels_with=_texts(entry.get("travels_with", []), f"{where}: travels_with of table {table}"),
        owners=_texts(entry.get("owners", []), f"{where}: owners of table {table}"),
        whole=entry.get("whole", False),
        common=entry.get("common", False),
        full_only=entry.get("full_only", False),
        references=MappingProxyType(dict(references)),
        same_when=None
        if "same_when" not in entry
        else tuple(_texts(item, f"{where}: same_when of table {table}") for item in entry["same_when"]),
        greatest=_texts(entry.get("greatest", []), f"{where}: greatest of table {table}"),
        history=entry.get("history", history),
        placeholder=MappingProxyType(dict(entry["placeholder"])) if "placeholder" in entry else None,
        pending=_pending(entry["pending"], f"{where}: pending of table {table}") if "pending" in entry else None,
    )


def _pending(value: Mapping[str, Any], where: str) -> Pending:
    if set(value) != {"table", "row", "done"} or not all(isinstance(name, str) and name for name in value.values()):
        raise BadCatalogue(f'{where} must be like {{ table = "tableName", row = "recordId", done = "isProcessed" }}.')
    return Pending(**value)


def _rules(data: Mapping[str, Any], origin: Origin, where: str) -> Iterator[TableRule]:
    groups = data.get("group", [])
    if not isinstance(groups, list):
        raise BadCatalogue(f"{where}: write groups as [[group]].")
    for group in groups:
        unknown = sorted(set(group) - _GROUP_FIELDS) if isinstance(group, dict) else []
        if unknown:
            raise BadCatalogue(f"{where}: a [[group]] has the unknown setting {unknown[0]!r}.")
        try:
            table_class = TableClass(group["class"])
        except (KeyError, ValueError, TypeError) as error:
            raise BadCatalogue(f'{where}: each [[group]] needs class = "business", "device" or "transient".') from error
        if table_class is TableClass.UNCLASSIFIED:
            raise BadCatalogue(f"{where}: a table cannot be classified as unclassified; leave it out instead.")
        tables = group.get("tables", {})
        if not isinstance(tables, dict):
            raise BadCatalogue(f"{where}: write the tables of a group under [group.tables].")
        history = group.get("history", False)
        if not isinstance(history, bool):
            raise BadCatalogue(f"{where}: history of a [[group]] must be true or false.")
        for table, entry in tables.items():
            yield _rule(table, entry, table_class, str(group.get("title", "")), history, origin, where)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadCatalogue(f"{where} is not valid TOML: {error}.") from error
    unknown = sorted(set(data) - _TOP_FIELDS)
    if unknown:
        raise BadCatalogue(f"{where} has the unknown setting {unknown[0]!r}.")
    return data


def _rules_by_table(data: Mapping[str, Any], origin: Origin, where: str) -> dict[str, TableRule]:
    rules: dict[str, TableRule] = {}
    for rule in _rules(data, origin, where):
        if rule.table in rules:
            raise BadCatalogue(f"{where}: table {rule.table} is listed twice.")
        rules[rule.table] = rule
    return rules


def _name(data: Mapping[str, Any], key: str, ours: str, where: str) -> str:
    value = data.get(key, ours)
    if not isinstance(value, str) or not value:
        raise BadCatalogue(f"{where}: {key} must be a name.")
    return value


def _winners(data: Mapping[str, Any], where: str) -> Mapping[str, str]:
    """Which row wins, by table: the [conflicts] of a file."""
    found = data.get("conflicts", {})
    if not isinstance(found, dict) or not all(winner in _WINNERS for winner in found.values()):
        raise BadCatalogue(f'{where}: write [conflicts] with lines like table = "newer" (or "bundle", "local").')
    return MappingProxyType(dict(found))


@cache
def _platform() -> Catalogue:
    data = _parse(files("agent.tables").joinpath("platform.toml").read_text(encoding="utf-8"), "platform.toml")
    return Catalogue(
        rules=MappingProxyType(_rules_by_table(data, Origin.CATALOGUE, "platform.toml")),
        businesses=data["businesses"],
        timestamps=tuple(data["timestamps"]),
        demo=data["demo"],
        labels=tuple(data["labels"]),
        conflicts=_winners(data, "platform.toml"),
        never=_texts(data["never"], "platform.toml: never"),
    )


def load_catalogue(user_text: str | None = None) -> Catalogue:
    """Our catalogue, with the text of the user's ``tables.toml`` over it where there is one.

    Raises :class:`BadCatalogue` naming the table and setting that is wrong.
    """
    ours = _platform()
    if user_text is None:
        return ours
    where = "tables.toml"
    data = _parse(user_text, where)
    rules = dict(ours.rules)
    businesses = _name(data, "businesses", ours.businesses, where)
    for table, rule in _rules_by_table(data, Origin.USER, where).items():
        known = ours.rules.get(table)
        crosses = known and TableClass.BUSINESS in {known.table_class, rule.table_class}
        if known and crosses and known.table_class is not rule.table_class:
            raise BadCatalogue(
                f"{where}: {table} holds {known.table_class} state of the platform and cannot be made "
                f"{rule.table_class}."
            )
        if table == businesses and not rule.shared:
            raise BadCatalogue(f"{where}: {table} are what other rows travel with; they travel with nothing.")
        # The plan's irregular names stay: other programs know them.
        rules[table] = replace(rule, name=known.name) if known and rule.name == plan_name(table) else rule
    return Catalogue(
        rules=MappingProxyType(rules),
        businesses=businesses,
        timestamps=_texts(data["timestamps"], f"{where}: timestamps") if "timestamps" in data else ours.timestamps,
        demo=_name(data, "demo", ours.demo, where),
        labels=_texts(data["labels"], f"{where}: labels") if "labels" in data else ours.labels,
        conflicts=MappingProxyType({**ours.conflicts, **_winners(data, where)}),
        never=(*ours.never, *_texts(data.get("never", []), f"{where}: never")),
    )
