"""Money that is not a sale: expense accounts, the loan between businesses, laybys, persons, projects."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from agent.demo.parts import Business, Shop
from agent.demo.rows import Row


def add_money(shop: Shop) -> None:
    """Expense accounts and laybys of each business, and what ties them together."""
    rows = shop.rows
    persons = [
        rows.add(
            "persons", fullName=name, phone=f"+263 73 {number:06}", nationalId=f"48-{number:07}X", createdBy=shop.owner
        )
        for number, name in enumerate(("Peter Builder", "Mary Plumber", "Isaac Lender"), start=7654321)
    ]
    for business in shop.businesses:
        _add_expenses(shop, business, persons[0])
        _add_laybys(shop, business)
    _add_loans(shop, persons[2])
    spent = _add_personal_finance(shop)
    for business, expense in zip(shop.businesses, spent, strict=True):
        _add_project(shop, business, persons, expense)
    _add_history(shop)


def _add_expenses(shop: Shop, business: Business, payee: Row) -> None:
    rows = shop.rows
    account = rows.add(
        "expense_accounts",
        accountNumber=f"EXP-{business.short}",
        accountName=f"{business.row['name']} expenses",
        balance=rows.money(100, 2000),
        createdBy=shop.accountant,
    )
    rows.add(
        "expense_account_deposits",
        expenseAccountId=account["id"],
        sourceType="BUSINESS",
        sourceBusinessId=business.id,
        amount=500,
        createdBy=shop.accountant,
    )
    category = rows.of("expense_categories")[0]["id"]
    payees: tuple[dict[str, Any], ...] = (
        {"payeeType": "EMPLOYEE", "payeeEmployeeId": business.employees[0]},
        {"payeeType": "PERSON", "payeePersonId": payee["id"]},
        {"payeeType": "USER", "payeeUserId": business.users[2]},
    )
    for paid_to in payees:
        rows.add(
            "expense_account_payments",
            expenseAccountId=account["id"],
            categoryId=category,
            subcategoryId=rows.of("expense_subcategories")[0]["id"],
            amount=rows.money(5, 80),
            createdBy=shop.accountant,
            submittedBy=business.users[2],
            **paid_to,
        )


def _add_laybys(shop: Shop, business: Business) -> None:
    rows = shop.rows
    customers = [row["id"] for row in rows.of("business_customers") if row["businessId"] == business.id]
    for number in range(1, 4):
        total = rows.money(80, 300)
        layby = rows.add(
            "customer_laybys",
            laybyNumber=f"LAY-{business.short}-{number:03}",
            businessId=business.id,
            customerId=customers[number],
            totalAmount=total,
            depositAmount=30,
            depositPercent=Decimal("12.5"),
            balanceRemaining=total - 30,
            items=[{"name": "Item", "quantity": number}],
            installmentFrequency="MONTHLY",
            createdBy=business.users[3],
        )
        paid = rows.add(
            "customer_layby_payments",
            laybyId=layby["id"],
            receiptNumber=f"LP-{business.short}-{number:03}",
            amount=30,
            paymentMethod="CASH",
            processedBy=business.users[3],
        )
        if number == 3:
            rows.add(
                "customer_layby_payments",
                laybyId=layby["id"],
                receiptNumber=f"LP-{business.short}-{number:03}-R",
                amount=-10,
                paymentMethod="CASH",
                processedBy=business.users[2],
                isRefund=True,
                refundedPaymentId=paid["id"],
            )


def _add_loans(shop: Shop, lender: Row) -> None:
    """The second business lent to the first; a person lent to the third."""
    rows = shop.rows
    first, second, third = shop.businesses[:3]
    sides: tuple[dict[str, Any], ...] = (
        {"lenderType": "business", "lenderBusinessId": second.id, "borrowerBusinessId": first.id},
        {"lenderType": "person", "lender_person_id": lender["id"], "borrowerBusinessId": third.id},
    )
    for number, parties in enumerate(sides, start=1):
        loan = rows.add(
            "inter_business_loans",
            loanNumber=f"LOAN-{number:03}",
            principalAmount=1000,
            totalAmount=1100,
            remainingBalance=850,
            interestRate=10,
            borrowerType="business",
            createdBy=shop.owner,
            **parties,
        )
        for paid in range(1, 3):
            rows.add(
                "loan_transactions",
                loanId=loan["id"],
                transactionType="repayment",
                amount=125,
                balanceAfter=1100 - 125 * paid,
                createdBy=shop.accountant,
            )


def _add_personal_finance(shop: Shop) -> list[Row]:
    """The owner's own money, and one expense for each business's project."""
    rows = shop.rows
    rows.add("fund_sources", name="Savings", userId=shop.owner)
    rows.add("personal_budgets", amount=400, type="monthly", description="Household", userId=shop.owner)
    return [
        rows.add(
            "personal_expenses",
            category="Project",
            description=f"Deposit for {business.row['name']}",
            amount=120,
            userId=shop.owner,
            categoryId=rows.of("expense_categories")[-1]["id"],
        )
        for business in shop.businesses
    ]


def _add_project(shop: Shop, business: Business, persons: list[Row], expense: Row) -> None:
    rows = shop.rows
    kind = rows.of("project_types")[0]["id"]
    building = rows.add(
        "construction_projects",
        name=f"Extension of {business.short}",
        budget=8000,
        projectTypeId=kind,
        createdBy=shop.owner,
    )
    rows.add("construction_expenses", category="Cement", description="Fifty bags", amount=600, projectId=building["id"])
    project = rows.add(
        "projects",
        name=f"Refit {business.short}",
        projectTypeId=kind,
        businessType=business.kind,
        businessId=business.id,
        budget=2500,
        createdBy=business.users[2],
    )
    stage = rows.add(
        "project_stages",
        projectId=project["id"],
        name="Walls",
        estimatedAmount=900,
        constructionProjectId=building["id"],
    )
    contractor = rows.add("project_contractors", projectId=project["id"], personId=persons[0]["id"], hourlyRate=6)
    rows.add("project_contractors", projectId=project["id"], personId=persons[1]["id"], role="plumber")
    assignment = rows.add(
        "stage_contractor_assignments",
        stageId=stage["id"],
        projectContractorId=contractor["id"],
        predeterminedAmount=450,
    )
    rows.add(
        "project_transactions",
        projectId=project["id"],
        personalExpenseId=expense["id"],
        stageId=stage["id"],
        stageAssignmentId=assignment["id"],
        projectContractorId=contractor["id"],
        recipientPersonId=persons[0]["id"],
        amount=120,
        transactionType="deposit",
        createdBy=shop.owner,
    )


def _add_history(shop: Shop) -> None:
    """The old table service (menu items, orders without a business), templates and snapshots."""
    rows = shop.rows
    dishes = [rows.add("menu_items", name=name, price=4, category="Meals") for name in ("Soup", "Roast", "Salad")]
    for number, dish in enumerate(dishes, start=1):
        order = rows.add("orders", orderNumber=f"T-{number:04}", total=8, tableNumber=str(number), createdBy=shop.owner)
        rows.add("order_items", orderId=order["id"], menuItemId=dish["id"], quantity=2, price=4)
    rows.add(
        "seed_data_templates",
        name="Restaurant starter",
        businessType="restaurant",
        version="1.0",
        templateData={"categories": ["Meals", "Drinks"]},
        sourceBusinessId=shop.businesses[0].id,
        createdBy=shop.owner,
    )
    rows.add(
        "data_snapshots",
        tableName="businesses",
        recordId=shop.businesses[0].id,
        snapshotData=shop.businesses[0].row["settings"],
    )
    rows.add(
        "conflict_resolutions",
        conflictType="UPDATE_UPDATE",
        resolutionStrategy="LATEST_TIMESTAMP",
        resolvedData={"winner": "local"},
        eventIds=["event-1", "event-2"],
        resolvedBy=shop.owner,
    )
