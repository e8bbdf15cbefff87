"""Who works in the demo shop: businesses, users with accounts and permissions, employees, contracts, payroll."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from agent.demo.reference import PERMISSIONS
from agent.demo.rows import NOW, Row, Rows, cycle

_FIRST = (
    "Tendai",
    "Rudo",
    "Farai",
    "Chipo",
    "Blessing",
    "Tatenda",
    "Nyasha",
    "Kuda",
    "Grace",
    "Simba",
    "Ruth",
    "Joseph",
)
_LAST = ("Moyo", "Ncube", "Sibanda", "Dube", "Chikomo", "Mutasa", "Zulu", "Banda", "Phiri", "Marufu", "Khumalo")


@dataclass(frozen=True, slots=True)
class Business:
    """A business of the demo with its staff: ids of its employees and of the users who work in it."""

    row: Row
    kind: str
    short: str
    users: list[str] = field(default_factory=list)
    employees: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        id_: str = self.row["id"]
        return id_


@dataclass(slots=True)
class Shop:
    """What the parts of the demo's data share. ``businesses`` trade; the umbrella business only holds them."""

    rows: Rows
    umbrella: Row
    owner: str
    accountant: str
    businesses: list[Business]


def add_people(rows: Rows) -> Shop:
    """Five businesses (three real, one demo, their umbrella) and everyone in them."""
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
    _add_employees(shop)
    for each in shop.businesses:
        _add_payroll(shop, each)
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
            name = f"{_FIRST[(number * 3 + index) % 12]} {_LAST[(number + index) % 11]}"
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


def _add_employees(shop: Shop) -> None:
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
            first, last = _FIRST[number * 5 % 12], _LAST[number * 3 % 11]
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


def _add_payroll(shop: Shop, business: Business) -> None:
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
