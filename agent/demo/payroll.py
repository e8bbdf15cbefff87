"""Two months of payroll for each business of the demo shop."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from agent.demo.parts import Business, Shop
from agent.demo.rows import cycle


def add_payroll(shop: Shop, business: Business) -> None:
    """The payroll account, and April and May 2026 for everyone whose first business this is."""
    rows = shop.rows
    names = {row["id"]: row for row in rows.of("employees")}
    contracts = {
        row["employeeId"]: row for row in rows.of("employee_contracts") if row["contractNumber"].endswith("-1")
    }
    account = rows.add(
        "payroll_accounts",
        businessId=business.id,
        accountNumber=f"PAY-{business.short}",
        balance=5000,
        createdBy=shop.owner,
    )
    benefits = cycle(rows.of("benefit_types"), len(business.employees))
    for month in (4, 5):
        end = datetime(2026, month, 28)  # noqa: DTZ001
        period = rows.add(
            "payroll_periods",
            end,
            businessId=business.id,
            year=2026,
            month=month,
            periodStart=datetime(2026, month, 1),  # noqa: DTZ001
            periodEnd=end,
            status="approved",
            totalEmployees=len(business.employees),
            createdBy=shop.accountant,
            approvedBy=shop.owner,
        )
        total = Decimal(0)
        for who, benefit in zip(business.employees, benefits, strict=True):
            salary = contracts[who]["baseSalary"]
            total += salary
            entry = rows.add(
                "payroll_entries",
                end,
                payrollPeriodId=period["id"],
                employeeId=who,
                employeeNumber=names[who]["employeeNumber"],
                employeeName=names[who]["fullName"],
                nationalId=names[who]["nationalId"],
                contractId=contracts[who]["id"],
                contractNumber=contracts[who]["contractNumber"],
                baseSalary=salary,
                grossPay=salary + 40,
                netPay=salary + 40,
                benefitsTotal=40,
                benefitsBreakdown=[{"name": benefit["name"], "amount": "40.00"}],
                workDays=22,
                processedBy=shop.accountant,
            )
            rows.add(
                "payroll_entry_benefits",
                payrollEntryId=entry["id"],
                benefitTypeId=benefit["id"],
                benefitName=benefit["name"],
                amount=40,
            )
            rows.add(
                "payroll_account_payments",
                end,
                payrollAccountId=account["id"],
                employeeId=who,
                amount=salary + 40,
                paymentType="salary",
                status="paid",
                createdBy=shop.accountant,
            )
        rows.add(
            "payroll_adjustments", payrollEntryId=entry["id"], amount=-5, reason="Rounding", createdBy=shop.accountant
        )
        rows.add(
            "payroll_account_deposits",
            end,
            payrollAccountId=account["id"],
            businessId=business.id,
            amount=total,
            transactionType="transfer",
            createdBy=shop.accountant,
        )
        rows.add(
            "payroll_exports",
            payrollPeriodId=period["id"],
            businessId=business.id,
            year=2026,
            month=month,
            fileName=f"payroll-{business.short}-2026-{month:02}.xlsx",
            fileSize=20480,
            includesMonths=[month - 1, month],
            employeeCount=len(business.employees),
            totalGrossPay=total,
            totalNetPay=total,
            exportedBy=shop.accountant,
            generationType="manual",
        )
