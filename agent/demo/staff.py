"""The staff of the demo shop: employees with contracts, attendance, leave, loans and a warning now and then."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from agent.demo.parts import FIRST_NAMES, LAST_NAMES, Business, Shop
from agent.demo.rows import NOW, Row


def add_employees(shop: Shop) -> None:
    """Five employees for each business; the last of one helps out in the next."""
    rows = shop.rows
    titles = {row["title"]: row["id"] for row in rows.of("job_titles")}
    pay = [row["id"] for row in rows.of("compensation_types")]
    benefits = rows.of("benefit_types")
    number = 0
    for business in shop.businesses:
        lead: Row | None = None
        jobs = (
            "Branch Manager",
            "Cashier",
            "Cashier",
            "Cook" if business.kind == "restaurant" else "Storekeeper",
            "Driver",
        )
        for place, job in enumerate(jobs):
            number += 1
            first, last = FIRST_NAMES[number * 5 % 12], LAST_NAMES[number * 3 % 11]
            hired = NOW - timedelta(days=200 + 13 * number)
            employee = rows.add(
                "employees",
                hired,
                employeeNumber=f"EMP-{number:04}",
                nationalId=f"63-{1234567 + number * 7919}K{number:02}",
                email=f"{first}.{last}.{number}@shop.example".lower(),
                phone=f"+263 71 {number:06}",
                firstName=first,
                lastName=last,
                fullName=f"{first} {last}",
                hireDate=hired,
                jobTitleId=titles[job],
                compensationTypeId=pay[place % len(pay)],
                primaryBusinessId=business.id,
                supervisorId=lead["id"] if lead else None,
                userId=business.users[2 + place] if place < 3 else None,
                idFormatTemplateId=rows.of("id_format_templates")[0]["id"],
                createdBy=shop.owner,
            )
            lead = lead or employee
            business.employees.append(employee["id"])
            contract = rows.add(
                "employee_contracts",
                hired,
                contractNumber=f"CON-{number:04}-1",
                employeeId=employee["id"],
                jobTitleId=titles[job],
                compensationTypeId=pay[place % len(pay)],
                primaryBusinessId=business.id,
                umbrellaBusinessId=shop.umbrella["id"],
                supervisorId=employee["supervisorId"],
                baseSalary=rows.money(250, 900),
                startDate=hired,
                approvedBy=shop.owner,
                createdBy=shop.owner,
                additionalBusinesses=[],
                businessAssignments={"primary": business.short},
            )
            benefit = benefits[place % len(benefits)]
            rows.add("contract_benefits", contractId=contract["id"], benefitTypeId=benefit["id"], amount=40)
            rows.add(
                "employee_benefits",
                employeeId=employee["id"],
                benefitTypeId=benefit["id"],
                amount=40,
                effectiveDate=hired,
            )
            _add_working_life(shop, business, employee, contract, number)
    for business, other in zip(shop.businesses, shop.businesses[1:3], strict=False):
        # An employee of one business helps in another: the row that ties two businesses together by a person.
        rows.add(
            "employee_business_assignments",
            employeeId=business.employees[-1],
            businessId=other.id,
            role="relief",
            assignedBy=shop.owner,
        )


def _add_working_life(shop: Shop, business: Business, employee: Row, contract: Row, number: int) -> None:
    """Assignments, attendance, leave, loans, deductions and a warning now and then."""
    rows = shop.rows
    who, boss = employee["id"], employee["supervisorId"]
    rows.add("employee_business_assignments", employeeId=who, businessId=business.id, isPrimary=True, role="staff")
    for day in range(1, 15):
        date = datetime(2026, 6, day)  # noqa: DTZ001
        start = date + timedelta(hours=8, minutes=rows.random.randrange(20))
        rows.add("employee_attendance", start, employeeId=who, date=date, checkIn=start, hoursWorked=Decimal("8.25"))
    for month in (4, 5):
        rows.add("employee_time_tracking", employeeId=who, year=2026, month=month, workDays=22, totalHours=176)
    rows.add(
        "employee_leave_balance", employeeId=who, year=2026, annualLeaveDays=22, remainingAnnual=17, usedAnnualDays=5
    )
    away = rows.moment(100)
    rows.add(
        "employee_leave_requests",
        employeeId=who,
        leaveType="annual",
        startDate=away,
        endDate=away + timedelta(days=5),
        daysRequested=5,
        status="approved",
        approvedBy=boss,
    )
    rows.add("employee_allowances", employeeId=who, type="transport", amount=25, payrollMonth=5, payrollYear=2026)
    if number % 2:
        rows.add("employee_bonuses", employeeId=who, type="performance", amount=rows.money(20, 90), approvedBy=boss)
        loan = rows.add(
            "employee_loans",
            employeeId=who,
            loanAmount=300,
            monthlyDeduction=50,
            remainingBalance=200,
            remainingMonths=4,
            totalMonths=6,
            status="active",
            approvedBy=boss,
        )
        for month in (4, 5):
            paid = datetime(2026, month, 28)  # noqa: DTZ001
            rows.add("employee_loan_payments", paid, loanId=loan["id"], amount=50, paymentDate=paid, processedBy=boss)
    if number % 3 == 0:
        deduction = rows.add("employee_deductions", employeeId=who, type="till shortage", amount=12, approvedBy=boss)
        rows.add(
            "employee_deduction_payments", deductionId=deduction["id"], amount=12, paymentDate=NOW, processedBy=boss
        )
        rows.add(
            "employee_salary_increases",
            employeeId=who,
            previousSalary=400,
            newSalary=440,
            increaseAmount=40,
            increasePercent=10,
            effectiveDate=rows.moment(90),
            approvedBy=boss,
        )
        renewed = rows.add(
            "employee_contracts",
            contractNumber=f"CON-{number:04}-2",
            employeeId=who,
            version=2,
            jobTitleId=contract["jobTitleId"],
            compensationTypeId=contract["compensationTypeId"],
            primaryBusinessId=contract["primaryBusinessId"],
            baseSalary=contract["baseSalary"] + 40,
            startDate=NOW,
            previousContractId=contract["id"],
            originalContractId=contract["id"],
            isRenewal=True,
            renewalCount=1,
        )
        rows.add(
            "contract_renewals",
            employeeId=who,
            originalContractId=contract["id"],
            newContractId=renewed["id"],
            renewalDueDate=NOW,
            status="completed",
            benefitChanges={"added": []},
        )
    if number % 7 == 0 and boss:
        rows.add(
            "disciplinary_actions",
            employeeId=who,
            createdBy=boss,
            actionType="warning",
            violationType="lateness",
            title="Late three times",
            description="Came late three times in a week",
            attachments=["warning-1.pdf"],
        )
