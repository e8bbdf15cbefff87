"""Reference data: seeded on every laptop alike, under ids of the laptop's own."""

from __future__ import annotations

from agent.demo.rows import Rows

PERMISSIONS = (
    "sales.create",
    "sales.refund",
    "stock.adjust",
    "stock.view",
    "payroll.run",
    "payroll.approve",
    "reports.view",
    "employees.manage",
    "settings.manage",
    "backup.run",
)
TYPES = ("restaurant", "grocery", "hardware", "clothing")


def add_reference_data(rows: Rows) -> None:
    """Permissions, job titles, pay and benefit types, templates, domains, emoji, settings."""
    for name in PERMISSIONS:
        area, _, action = name.partition(".")
        rows.add("permissions", name=name, category=area, description=f"May {action} in {area}")
    for title, department in (
        ("General Manager", "Management"),
        ("Branch Manager", "Management"),
        ("Accountant", "Finance"),
        ("Cashier", "Sales"),
        ("Cook", "Kitchen"),
        ("Waiter", "Service"),
        ("Storekeeper", "Stock"),
        ("Driver", "Transport"),
    ):
        duties = [f"Work of the {department.lower()} department", "Keep the shop's rules"]
        rows.add("job_titles", title=title, department=department, level="staff", responsibilities=duties)
    for name, kind, amount, share in (
        ("Monthly salary", "salary", 450, None),
        ("Salary and commission", "mixed", 300, 5),
        ("Hourly wage", "hourly", 3, None),
    ):
        rows.add("compensation_types", name=name, type=kind, baseAmount=amount, commissionPercentage=share)
    for name, kind, amount in (
        ("Transport allowance", "allowance", 40),
        ("Housing allowance", "allowance", 90),
        ("Medical aid", "insurance", 35),
        ("Meals on shift", "meal", 20),
    ):
        rows.add("benefit_types", name=name, type=kind, defaultAmount=amount)
    for country, pattern, example in (("ZW", "99-9999999A99", "63-1234567K42"), ("ZA", "9" * 13, "8001015009087")):
        rows.add(
            "id_format_templates", name=f"{country} identity", pattern=pattern, example=example, countryCode=country
        )
        licence = f"{country} driving licence"
        rows.add("driver_license_templates", name=licence, pattern="999999AA", example="123456AB", countryCode=country)
    for name in ("Renovation", "New building", "Refit", "Campaign"):
        rows.add("project_types", name=name, businessType="universal", isSystem=True)
    for name, emoji, kind in (
        ("Food", "🍲", "restaurant"),
        ("Drinks", "🥤", "restaurant"),
        ("Fresh produce", "🥬", "grocery"),
        ("Household", "🧹", "universal"),
        ("Tools", "🔨", "hardware"),
        ("Building", "🧱", "hardware"),
    ):
        rows.add("inventory_domains", name=name, emoji=emoji, businessType=kind, isSystemTemplate=True)
    for emoji, name in (("🍲", "pot of food"), ("🔨", "hammer"), ("🥬", "leafy green"), ("📦", "package")):
        rows.add("emoji_lookup", emoji=emoji, description=name, name=name, source="local")
    for name, emoji in (("Operations", "⚙️"), ("Staff", "👥"), ("Premises", "🏠")):
        domain = rows.add("expense_domains", name=name, emoji=emoji)
        for label in ("Supplies", "Services"):
            category = rows.add("expense_categories", name=label, emoji=emoji, color="#3B82F6", domainId=domain["id"])
            for detail in ("Regular", "One-off"):
                rows.add("expense_subcategories", name=f"{detail} {label.lower()}", categoryId=category["id"])
    template = rows.of("id_format_templates")[0]["id"]
    rows.add(
        "system_settings",
        defaultRegistrationPermissions={"sales": ["view"], "stock": []},
        defaultIdFormatTemplateId=template,
        maxPaymentWithoutId=100,
    )
    for name, minutes, price in (("1 hour", 60, 1), ("1 day", 1440, 3), ("1 week", 10080, 10)):
        rows.add(
            "token_configurations",
            name=name,
            durationMinutes=minutes,
            bandwidthDownMb=5,
            bandwidthUpMb=2,
            basePrice=price,
        )
