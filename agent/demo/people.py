"""The businesses of the demo shop and their users, with accounts, memberships and permissions."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.demo.parts import FIRST_NAMES, LAST_NAMES, Business, Shop
from agent.demo.reference import PERMISSIONS
from agent.demo.rows import NOW, Rows


def add_people(rows: Rows) -> Shop:
    """Five businesses (three real, one demo, their umbrella) and their users."""
    at = NOW - timedelta(days=700)
    owner = _user(rows, "owner", "Ruth Marufu", "admin", at)
    accountant = _user(rows, "accountant", "Joseph Banda", "user", at)
    umbrella = rows.add(
        "businesses",
        at,
        name="Marufu Holdings",
        type="umbrella",
        shortName="Holdings",
        isUmbrellaBusiness=True,
        umbrellaBusinessName="Marufu Holdings",
        umbrellaBusinessEmail="office@marufu.example",
        createdBy=owner,
    )
    shop = Shop(rows, umbrella, owner, accountant, [])
    for name, short, kind, demo in (
        ("Restaurant ABC", "ABC", "restaurant", False),
        ("Green Valley Grocery", "GVG", "grocery", False),
        ("Corner Hardware", "CHW", "hardware", False),
        ("Demo Restaurant", "DEMO", "restaurant", True),
    ):
        business = rows.add(
            "businesses",
            at,
            name=name,
            type=kind,
            shortName=short,
            isDemo=demo,
            umbrellaBusinessId=None if demo else umbrella["id"],
            umbrellaBusinessName="Marufu Holdings",
            settings={"currency": "USD", "receipt": {"footer": "Thank you", "copies": 2}},
            createdBy=owner,
            taxRate=15,
            taxLabel="VAT",
            wifiIntegrationEnabled=True,
            address=f"{rows.random.randrange(1, 200)} Samora Machel Avenue, Harare",
            phone=f"+263 77 {rows.random.randrange(10**6):06}",
            sku_prefix=short,
        )
        shop.businesses.append(Business(business, kind, short))
    _add_users(shop)
    return shop


def _user(rows: Rows, username: str, name: str, role: str, at: datetime) -> str:
    user = rows.add(
        "users",
        at,
        email=f"{username}@shop.example",
        username=username,
        name=name,
        role=role,
        passwordHash=f"$2b$12$demo.{rows.random.getrandbits(96):024x}",
        permissions={"all": role == "admin"},
    )
    rows.add("accounts", userId=user["id"], type="credentials", provider="password", providerAccountId=username)
    id_: str = user["id"]
    return id_


def _add_users(shop: Shop) -> None:
    """Owner and accountant work everywhere; each business has three of its own; one cashier works in two."""
    rows = shop.rows
    template = rows.add(
        "permission_templates",
        name="Cashier",
        businessType="universal",
        permissions={"sales": True},
        createdBy=shop.owner,
    )
    granted = {row["name"]: row["id"] for row in rows.of("permissions")}
    for number, business in enumerate(shop.businesses):
        business.users.extend((shop.owner, shop.accountant))
        for role, index in (("manager", 0), ("cashier", 4), ("cashier2", 8)):
            name = f"{FIRST_NAMES[(number * 3 + index) % 12]} {LAST_NAMES[(number + index) % 11]}"
            at = NOW - timedelta(days=600 - number)
            business.users.append(_user(rows, f"{business.short.lower()}-{role}", name, "user", at))
    shop.businesses[1].users.append(shop.businesses[0].users[3])
    for business in shop.businesses:
        for place, user in enumerate(business.users):
            role = ("owner", "accountant", "manager")[place] if place < 3 else "employee"
            rows.add(
                "business_memberships",
                userId=user,
                businessId=business.id,
                role=role,
                permissions={"level": place},
                invitedBy=shop.owner,
                templateId=template["id"] if place >= 3 else None,
            )
        rows.add("business_accounts", businessId=business.id, balance=rows.money(500, 9000), createdBy=shop.owner)
    for place, row in enumerate(rows.of("users")):
        for name in PERMISSIONS if place < 2 else PERMISSIONS[: 3 + place % 3]:
            rows.add("user_permissions", userId=row["id"], permissionId=granted[name], grantedBy=shop.owner)
    first = rows.of("users")
    first[-1]["isActive"] = False
    first[-1]["deactivatedBy"] = shop.owner
    for row in first:
        row["lastAccessedBusinessId"] = shop.businesses[0].id
