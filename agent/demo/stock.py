"""What the demo shop sells: shared categories and suppliers, and each business's brands, places, products and menus."""

from __future__ import annotations

from decimal import Decimal

from agent.demo.parts import Business, Shop
from agent.demo.rows import NOW, Row, Rows

_GOODS = {
    "restaurant": (
        ("Meals", "🍲", ("Sadza and beef", "Grilled chicken", "Fish and chips", "Vegetable stew", "Goat curry")),
        ("Drinks", "🥤", ("Mazoe orange", "Ginger beer", "Rooibos tea", "Filter coffee", "Sparkling water")),
    ),
    "grocery": (
        ("Dry goods", "🌾", ("Maize meal", "Rice", "Sugar beans", "Brown sugar", "Wheat flour")),
        ("Fresh produce", "🥬", ("Tomatoes", "Onions", "Covo", "Butternut", "Avocado")),
    ),
    "hardware": (
        ("Tools", "🔨", ("Claw hammer", "Hand saw", "Spirit level", "Tape measure", "Cordless drill")),
        ("Building", "🧱", ("Cement", "River sand", "Roof sheet", "Timber pole", "Window frame")),
    ),
}
_SIZES = ("small", "medium", "large", "family", "bulk")


def add_stock(shop: Shop, products: int) -> None:
    """``products`` products for each business, on categories and suppliers that all of them share."""
    rows = shop.rows
    domains = {row["name"]: row["id"] for row in rows.of("inventory_domains")}
    creators = {business.kind: business for business in reversed(shop.businesses)}
    categories: dict[str, list[Row]] = {}
    for kind, groups in _GOODS.items():
        creator = creators[kind]
        parent = _category(shop, "All " + kind, "📦", kind, creator, None, None)
        for name, emoji, _ in groups:
            row = _category(shop, name, emoji, kind, creator, parent["id"], domains.get(name))
            rows.add("inventory_subcategories", categoryId=row["id"], name="Everyday", createdBy=shop.owner)
            rows.add("inventory_subcategories", categoryId=row["id"], name="Specials", createdBy=shop.owner)
            categories.setdefault(kind, []).append(row)
    household = _category(shop, "Household", "🧹", "universal", shop.businesses[0], None, domains["Household"])
    suppliers = [
        _supplier(rows, "SUP-001", "National Wholesale", "universal", None),
        _supplier(rows, "SUP-002", "Mbare Fresh Market", "universal", shop.businesses[1]),
        _supplier(rows, "SUP-003", "Steel and Timber", "hardware", shop.businesses[2]),
    ]
    for business in shop.businesses:
        _add_products(shop, business, products, [*categories[business.kind], household], suppliers)


def _category(
    shop: Shop, name: str, emoji: str, kind: str, creator: Business, parent: str | None, domain: str | None
) -> Row:
    return shop.rows.add(
        "business_categories",
        businessId=creator.id,
        name=name,
        emoji=emoji,
        businessType=kind,
        parentId=parent,
        domainId=domain,
        createdBy=shop.owner,
        attributes={"shared": True},
    )


def _supplier(rows: Rows, number: str, name: str, kind: str, creator: Business | None) -> Row:
    return rows.add(
        "business_suppliers",
        businessId=creator.id if creator else None,
        supplierNumber=number,
        name=name,
        businessType=kind,
        email=f"{number.lower()}@supply.example",
        paymentTerms="30 days",
        creditLimit=2500,
    )


def _add_products(shop: Shop, business: Business, products: int, categories: list[Row], suppliers: list[Row]) -> None:
    rows, short = shop.rows, business.short
    brands = [
        rows.add("business_brands", businessId=business.id, name=name, businessType=business.kind)["id"]
        for name in ("House", "Premium")
    ]
    shop_floor = rows.add("business_locations", businessId=business.id, locationCode="A", name="Shop floor", emoji="🏪")
    shelf = rows.add(
        "business_locations",
        businessId=business.id,
        locationCode="A1",
        name="Shelf 1",
        parentLocationId=shop_floor["id"],
    )
    subcategories = {row["categoryId"]: row["id"] for row in rows.of("inventory_subcategories")}
    names = [name for _, _, goods in _GOODS[business.kind] for name in goods]
    made: list[tuple[Row, Row]] = []
    for number in range(products):
        category = categories[number % len(categories)]
        price = rows.money(1, 60)
        product = rows.add(
            "business_products",
            businessId=business.id,
            name=f"{names[number % len(names)]} {_SIZES[number // len(names) % len(_SIZES)]}",
            sku=f"{short}-{number + 1:05}",
            categoryId=category["id"],
            subcategoryId=subcategories.get(category["id"]),
            brandId=brands[number % 2],
            supplierId=suppliers[number % len(suppliers)]["id"],
            locationId=shelf["id"],
            basePrice=price,
            costPrice=(price * Decimal("0.7")).quantize(Decimal("0.01")),
            businessType=business.kind,
            dietaryRestrictions=["halal", "no nuts"] if business.kind == "restaurant" else None,
            allergens=[] if number % 4 else ["egg", "milk, skimmed"],
            attributes={"origin": "local", "lots": [number, number + 1]},
        )
        variants = [
            rows.add(
                "product_variants",
                productId=product["id"],
                name=label,
                sku=f"{short}-{number + 1:05}-{label[0].upper()}",
                price=price + extra,
                stockQuantity=rows.random.randrange(5, 400),
                reorderLevel=5,
            )
            for label, extra in (("standard", 0), ("double", 3))[: 1 + number % 2]
        ]
        made.append((product, variants[0]))
        rows.add(
            "product_barcodes",
            productId=product["id"],
            variantId=variants[0]["id"],
            businessId=business.id,
            code=f"60{rows.random.randrange(10**11):011}",
            type="EAN_13",
            isPrimary=True,
        )
        rows.add("product_attributes", productId=product["id"], key="unit", value="each")
        if number % 3 == 0:
            rows.add(
                "product_images",
                productId=product["id"],
                imageUrl=f"/images/{product['sku']}.jpg",
                businessType=business.kind,
                isPrimary=True,
            )
        if number % 2 == 0:
            rows.add(
                "supplier_products",
                supplierId=suppliers[number % len(suppliers)]["id"],
                productId=product["id"],
                supplierPrice=product["costPrice"],
            )
        if number % 5 == 0:
            rows.add(
                "product_price_changes",
                productId=product["id"],
                variantId=variants[0]["id"],
                oldPrice=price - Decimal("0.50"),
                newPrice=price,
                changedBy=business.users[2],
            )
    rows.add("sku_sequences", businessId=business.id, prefix=short, currentSequence=products)
    _add_menus(rows, business, made)


def _add_menus(rows: Rows, business: Business, made: list[tuple[Row, Row]]) -> None:
    """A combination of two products, a promotion, and customers."""
    (first, variant), (second, _) = made[0], made[1]
    combo = rows.add(
        "menu_combos",
        businessId=business.id,
        name="Deal of the day",
        totalPrice=first["basePrice"] + second["basePrice"] - Decimal("0.75"),
        originalTotalPrice=first["basePrice"] + second["basePrice"],
    )
    rows.add("menu_combo_items", comboId=combo["id"], productId=first["id"], variantId=variant["id"])
    rows.add("menu_combo_items", comboId=combo["id"], productId=second["id"], sortOrder=1)
    rows.add(
        "menu_promotions",
        businessId=business.id,
        name="Friday ten percent",
        type="PERCENTAGE",
        value=10,
        startDate=NOW,
        daysOfWeek=["FRIDAY"],
        applicableProducts=[first["id"], second["id"]],
    )
    for number in range(1, 26):
        rows.add(
            "business_customers",
            businessId=business.id,
            customerNumber=f"C-{number:04}",
            name=f"Customer {number} of {business.short}",
            email=f"customer{number}@{business.short.lower()}.example",
            businessType=business.kind,
            customerType=("INDIVIDUAL", "BUSINESS", "VIP")[number % 3],
            attributes={"tags": ["regular"] if number % 2 else []},
        )
