"""Sales of the demo shop, made by the database itself: orders, lines, takings, stock, receipts, audit entries.

Everything follows from the order's number and the seed by plain arithmetic, so that the same call gives the same rows;
a million rows take seconds. Totals are the sums of their lines, balances run on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agent.demo.parts import Business, Shop
from agent.demo.rows import NOW
from agent.demo.schema import constraint_name, constraint_sql, demo_schema

_UUID = "md5($1::text || ':{0}:' || $2::text || ':' || {1})::uuid::text"

_LINES = """
CREATE TEMPORARY TABLE demo_lines ON COMMIT DROP AS
SELECT number, line, {order_id} AS order_id, {line_id} AS line_id, {movement_id} AS movement_id,
       variant.id AS variant, variant."productId" AS product, variant.price,
       1 + (number * 3 + line * 5) % 4 AS quantity,
       $4::timestamp - make_interval(secs => ((($3::bigint - number) * 34560000) / $3)::int) AS at
FROM generate_series(1, $3::bigint) AS orders(number)
CROSS JOIN LATERAL generate_series(1, 1 + ((number * 7919 + $5::bigint) % 4)) AS lines(line)
JOIN (SELECT v.id, v."productId", v.price, row_number() OVER (ORDER BY v.sku) - 1 AS place
      FROM product_variants v JOIN business_products p ON p.id = v."productId" WHERE p."businessId" = $2) variant
  ON variant.place = (number * 104729 + line * 1299709 + $5::bigint) % $6::bigint
"""

_ORDERS = """
INSERT INTO business_orders (id, "businessId", "orderNumber", "customerId", "employeeId", "orderType", status, subtotal,
                             "taxAmount", "totalAmount", "paymentMethod", "paymentStatus", "businessType", attributes,
                             notes, "processedAt", "createdAt", "updatedAt")
SELECT order_id, $1, $2 || '-' || lpad(number::text, greatest(6, length(number::text)), '0'),
       CASE WHEN number % 3 = 0 THEN ($3::text[]) [1 + number / 3 % cardinality($3::text[])] END,
       ($4::text[]) [1 + number % cardinality($4::text[])],
       (CASE WHEN number % 19 = 0 THEN 'RETURN' ELSE 'SALE' END)::"OrderType",
       (CASE number % 23 WHEN 0 THEN 'CANCELLED' WHEN 1 THEN 'PENDING' ELSE 'COMPLETED' END)::"OrderStatus",
       total, round(total * 0.15, 2), total + round(total * 0.15, 2),
       (ARRAY['CASH', 'CARD', 'MOBILE_MONEY'])[1 + number % 3]::"PaymentMethod",
       (CASE number % 23 WHEN 0 THEN 'REFUNDED' WHEN 1 THEN 'PENDING' ELSE 'PAID' END)::"PaymentStatus", $5,
       CASE WHEN number % 5 = 0 THEN jsonb_build_object('table', number % 12, 'guests', ARRAY[1, 2]) END,
       CASE WHEN number % 11 = 0 THEN E'No onions,\\tplease\\nTable by the window \\\\N' END,
       at, at, at + interval '3 minutes'
FROM (SELECT number, order_id, min(at) AS at, sum(price * quantity) AS total FROM demo_lines GROUP BY 1, 2) orders
"""

_ITEMS = """
INSERT INTO business_order_items (id, "orderId", "productVariantId", quantity, "unitPrice", "totalPrice", "createdAt")
SELECT line_id, order_id, variant, quantity, price, price * quantity, at FROM demo_lines
"""

_MOVEMENTS = """
INSERT INTO business_stock_movements (id, "businessId", "productVariantId", "movementType", quantity, "unitCost",
                                      reference, "employeeId", "businessType", "createdAt", "businessProductId")
SELECT movement_id, $1, variant, 'SALE', -quantity, price,
       $2 || '-' || lpad(number::text, greatest(6, length(number::text)), '0'),
       ($3::text[]) [1 + number % cardinality($3::text[])], $4, at, product
FROM demo_lines
"""

_TAKINGS = """
INSERT INTO business_transactions (id, "businessId", amount, type, description, "referenceId", "referenceType",
                                   "balanceAfter", "createdAt", "createdBy")
SELECT {transaction_id}, $2, "totalAmount", 'credit', 'Sale ' || "orderNumber", id, 'order',
       mod(sum("totalAmount") OVER (ORDER BY "orderNumber"), 9999999999), "createdAt",
       ($3::text[]) [1 + place % cardinality($3::text[])]
FROM (SELECT *, row_number() OVER (ORDER BY "orderNumber") AS place FROM business_orders
      WHERE "businessId" = $2 AND status = 'COMPLETED') paid
"""

_RECEIPTS = """
INSERT INTO receipt_sequences ("businessId", date, "lastSequence", "createdAt", "updatedAt")
SELECT $1, to_char("createdAt", 'YYYY-MM-DD'), count(*), min("createdAt"), max("createdAt")
FROM business_orders WHERE "businessId" = $1 GROUP BY 2
"""

_REPRINTS = """
INSERT INTO reprint_logs (id, "orderId", "businessId", "userId", "receiptNumber", "reprintedAt")
SELECT {reprint_id}, id, $2, $3, "orderNumber", "updatedAt"
FROM business_orders WHERE "businessId" = $2 AND right("orderNumber", 6)::int % 40 = 7
"""

_AUDIT = """
INSERT INTO audit_logs (id, "userId", action, "entityType", "entityId", timestamp, "newValues", "tableName", "recordId")
SELECT {audit_id}, $3, 'UPDATE', 'BusinessOrder', id, "updatedAt",
       jsonb_build_object('status', status, 'total', "totalAmount"), 'business_orders', id
FROM business_orders WHERE "businessId" = $2 AND right("orderNumber", 6)::int % 10 = 3
"""


_GROWING = (
    "business_orders",
    "business_order_items",
    "business_stock_movements",
    "business_transactions",
    "reprint_logs",
    "audit_logs",
)


def _with_ids(sql: str, **names: str) -> str:
    """Fill in expressions that make an id of seed ($1), business ($2) and a part of the row."""
    return sql.format(**{f"{name}_id": _UUID.format(name, part) for name, part in names.items()})


@asynccontextmanager
async def checked_at_the_end(connection: Any) -> AsyncIterator[None]:
    """Leave the foreign keys of the growing tables out while rows come in, and add them again, checked, afterwards.

    Checking a million rows at once takes a fraction of checking each. Needs the schema of ``agent.demo.schema``, the
    tables' owner and an open transaction.
    """
    tables = demo_schema().tables
    for name in _GROWING:
        dropped = ", ".join(f'DROP CONSTRAINT "{constraint_name(name, each)}"' for each in tables[name].references)
        await connection.execute(f'ALTER TABLE "{name}" {dropped}')
    yield
    for name in _GROWING:
        added = ", ".join(f"ADD {constraint_sql(name, each)}" for each in tables[name].references)
        await connection.execute(f'ALTER TABLE "{name}" {added}')


async def add_trade(connection: Any, shop: Shop, business: Business, orders: int, seed: int) -> None:
    """``orders`` orders of ``business`` over the last 400 days, with everything that follows from them.

    The products, customers and staff must be in the database. Runs in the caller's transaction, or in one of its own.
    """
    customers = [row["id"] for row in shop.rows.of("business_customers") if row["businessId"] == business.id]
    short, kind, staff, tills = business.short, business.kind, business.employees, business.users[2:]
    origin = str(seed)
    products = {row["id"] for row in shop.rows.of("business_products") if row["businessId"] == business.id}
    variants = sum(row["productId"] in products for row in shop.rows.of("product_variants"))
    async with connection.transaction():
        lines = _with_ids(_LINES, order="number", line="number || ':' || line", movement="number || ':' || line")
        await connection.execute(lines, origin, business.id, orders, NOW, seed % 1_000_003, variants)
        await connection.execute(_ORDERS, business.id, short, customers, staff, kind)
        await connection.execute(_ITEMS)
        await connection.execute(_MOVEMENTS, business.id, short, staff, kind)
        await connection.execute(_with_ids(_TAKINGS, transaction="id"), origin, business.id, tills)
        await connection.execute(_RECEIPTS, business.id)
        await connection.execute(_with_ids(_REPRINTS, reprint="id"), origin, business.id, tills[0])
        await connection.execute(_with_ids(_AUDIT, audit="id"), origin, business.id, tills[0])
        await connection.execute("DROP TABLE demo_lines")
