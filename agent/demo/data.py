"""Fills a database of the platform's shape with a shop to try. The same arguments give the same rows."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from agent.demo.device import add_device_state, add_passing_rows
from agent.demo.fleet import add_vehicle
from agent.demo.money import add_money
from agent.demo.payroll import add_payroll
from agent.demo.people import add_people
from agent.demo.premises import add_premises
from agent.demo.reference import add_reference_data
from agent.demo.rows import Rows
from agent.demo.staff import add_employees
from agent.demo.stock import add_stock
from agent.demo.trade import add_trade, checked_at_the_end

DEFAULT_SCALE = 400
_FEW_PRODUCTS, _MANY_PRODUCTS = 40, 1000
_LARGE = 5000  # orders of a business from which foreign keys are checked all at once


async def fill(
    connection: Any,
    *,
    seed: int = 1,
    scale: int = DEFAULT_SCALE,
    mostly: str | None = None,
    device_name: str,
    node_id: str,
    peers: tuple[str, ...] = (),
) -> None:
    """Fill the empty platform tables behind ``connection`` (asyncpg) with the whole shop, in one transaction.

    ``scale`` is the number of orders of each business (an order brings about seven rows); the demo business has a
    tenth of it. With ``mostly`` that is so of the business of this name, and the others have one order each.
    ``node_id`` and ``device_name`` are this laptop's in its own sync tables, ``peers`` the node IDs of others that it
    has met.
    """
    rows = Rows(seed)
    add_reference_data(rows)
    shop = add_people(rows)
    add_employees(shop)
    for business in shop.businesses:
        add_payroll(shop, business)
        add_vehicle(shop, business)
    phone = add_device_state(rows, device_name, node_id, peers)
    add_stock(shop, min(_MANY_PRODUCTS, max(_FEW_PRODUCTS, scale // 10)))
    add_money(shop)
    add_premises(shop, node_id, phone)
    add_passing_rows(shop)
    async with connection.transaction():
        await rows.write(connection)
        async with checked_at_the_end(connection) if scale >= _LARGE else nullcontext():
            for business in shop.businesses:
                orders = scale // 10 if business.row["isDemo"] else scale
                few = mostly is not None and business.row["name"] != mostly
                await add_trade(connection, shop, business, 1 if few else max(1, orders), seed)


async def fill_device_state(
    connection: Any, *, seed: int = 1, device_name: str, node_id: str, peers: tuple[str, ...] = ()
) -> None:
    """Fill the device tables alone, as on a laptop that has no business yet."""
    rows = Rows(seed, node_id)
    add_device_state(rows, device_name, node_id, peers)
    async with connection.transaction():
        await rows.write(connection)


async def fill_reference_data(connection: Any, *, seed: int = 1, node_id: str) -> None:
    """Fill the reference tables alone: the same things that ``fill`` seeds, under ids of this laptop's own."""
    rows = Rows(seed, node_id)
    add_reference_data(rows)
    async with connection.transaction():
        await rows.write(connection)
