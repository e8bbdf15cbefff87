"""The demo shop's vehicles: one for each business."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from agent.demo.parts import Business, Shop
from agent.demo.rows import NOW


def add_vehicle(shop: Shop, business: Business) -> None:
    """A vehicle of the business with its driver, a trip, its costs and its papers."""
    rows, manager = shop.rows, business.users[2]
    number = len(rows.of("vehicles")) + 1
    vehicle = rows.add(
        "vehicles",
        licensePlate=f"AFK {number:04}",
        vin=f"JN1DEMO{number:010}",
        make="Isuzu",
        model="KB 250",
        year=2015 + number,
        driveType="RIGHT_HAND",
        ownershipType="BUSINESS",
        currentMileage=98_000,
        businessId=business.id,
    )
    driver = rows.add("vehicle_drivers", fullName=f"Driver {number}", licenseNumber=f"DL-{number:05}", userId=manager)
    rows.add("driver_authorizations", driverId=driver["id"], vehicleId=vehicle["id"], authorizedBy=shop.owner)
    trip = rows.add(
        "vehicle_trips",
        vehicleId=vehicle["id"],
        driverId=driver["id"],
        businessId=business.id,
        startMileage=97_900,
        endMileage=98_000,
        tripMileage=100,
        tripPurpose="Collect stock",
        tripType="BUSINESS",
        gpsTrackingData={"points": [[-17.8292, 31.0522], [-17.9, 31.1]]},
    )
    rows.add(
        "vehicle_expenses",
        vehicleId=vehicle["id"],
        tripId=trip["id"],
        businessId=business.id,
        expenseType="FUEL",
        amount=45,
        fuelQuantity=Decimal("28.35"),
        createdBy=manager,
    )
    rows.add(
        "vehicle_licenses",
        vehicleId=vehicle["id"],
        licenseType="REGISTRATION",
        licenseNumber=f"REG-{number}",
        expiryDate=NOW + timedelta(days=120),
    )
    record = rows.add(
        "vehicle_maintenance_records",
        vehicleId=vehicle["id"],
        serviceType="OIL_CHANGE",
        serviceName="Oil and filters",
        mileageAtService=95_000,
        serviceCost=80,
        partsReplaced=["oil filter"],
        createdBy=manager,
    )
    service = rows.add(
        "vehicle_maintenance_services", maintenanceRecordId=record["id"], serviceName="Oil", serviceType="oil", cost=60
    )
    rows.add("vehicle_maintenance_service_expenses", serviceId=service["id"], expenseType="parts", amount=20)
    rows.add(
        "vehicle_reimbursements",
        userId=manager,
        vehicleId=vehicle["id"],
        businessId=business.id,
        reimbursementPeriod="2026-05",
        totalMileage=900,
        businessMileage=700,
        personalMileage=200,
        statutoryRate=Decimal("0.6550"),
        totalAmount=Decimal("458.50"),
        approvedBy=shop.owner,
    )
