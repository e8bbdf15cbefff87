"""Machines on the demo shop's premises: printers, barcodes, WiFi vouchers of both kinds, and their access lists."""

from __future__ import annotations

from datetime import timedelta

from agent.demo.parts import Business, Shop
from agent.demo.rows import NOW, Row


def add_premises(shop: Shop, node_id: str, tagged_device: str) -> None:
    """Two printers of this laptop (``node_id``) that all businesses use, and WiFi at each business.

    ``tagged_device`` is the ``device_registry`` row that an access list names.
    """
    rows = shop.rows
    printers = [
        rows.add(
            "network_printers",
            printerId=f"printer-{name.lower()}-001",
            printerName=f"{name} printer",
            printerType=kind,
            nodeId=node_id,
            ipAddress=f"192.168.1.{50 + number}",
            port=9100,
            capabilities=["receipt", "label"][: number + 1],
        )
        for number, (name, kind) in enumerate((("Counter", "receipt"), ("Label", "label")))
    ]
    antenna = rows.add(
        "r710_device_registry",
        ipAddress="192.168.1.5",
        adminUsername="admin",
        encryptedAdminPassword="v1:" + "0" * 32,
        firmwareVersion="200.7",
        connectionStatus="CONNECTED",
        createdBy=shop.owner,
    )
    for business in shop.businesses:
        _add_labels(shop, business, printers)
        _add_portal(shop, business)
        _add_r710(shop, business, antenna)
        _add_access_list(shop, business, tagged_device)


def _add_labels(shop: Shop, business: Business, printers: list[Row]) -> None:
    rows, by = shop.rows, business.users[2]
    template = rows.add(
        "barcode_templates",
        name="Shelf label",
        barcodeValue=f"{business.short}-LABEL",
        type="sku",
        layoutTemplate={"lines": ["{name}", "{price}"], "size": [50, 30]},
        businessId=business.id,
        createdById=by,
        updatedBy=by,
    )
    item = rows.add(
        "barcode_inventory_items",
        inventoryItemId=rows.of("business_products")[0]["id"],
        name="Shelf stock",
        barcodeTemplateId=template["id"],
        businessId=business.id,
        createdById=by,
    )
    rows.add(
        "barcode_print_jobs",
        templateId=template["id"],
        requestedQuantity=12,
        status="COMPLETED",
        printerId=printers[1]["id"],
        inventoryItemId=item["id"],
        printSettings={"copies": 1, "darkness": 0.5},
        businessId=business.id,
        createdById=by,
    )
    for number in range(4):
        rows.add(
            "print_jobs",
            printerId=printers[0]["id"],
            businessId=business.id,
            businessType=business.kind,
            userId=by,
            jobType="receipt",
            jobData={"lines": [f"Receipt {number}", "Total\t9.50"]},
            status="completed",
        )


def _add_portal(shop: Shop, business: Business) -> None:
    """Vouchers of the ESP32 portal; the takings go to the business's expense account."""
    rows, seller = shop.rows, business.users[3]
    account = _expense_account(shop, business)
    rows.add(
        "portal_integrations",
        businessId=business.id,
        apiKey=f"demo-{rows.random.getrandbits(64):016x}",
        portalIpAddress="192.168.1.9",
        portalPort=80,
        expenseAccountId=account,
        createdBy=shop.owner,
    )
    for config in rows.of("token_configurations"):
        item = rows.add(
            "business_token_menu_items",
            businessId=business.id,
            tokenConfigId=config["id"],
            businessPrice=config["basePrice"],
        )
        for _ in range(4):
            token = rows.add(
                "wifi_tokens",
                businessId=business.id,
                tokenConfigId=config["id"],
                businessTokenMenuItemId=item["id"],
                token=f"{rows.random.getrandbits(40):010X}",
                status="SOLD",
                bandwidthUsedDown=rows.money(0, 900),
            )
            rows.add("wifi_token_devices", wifiTokenId=token["id"], macAddress=rows.mac())
            rows.add(
                "wifi_token_sales",
                businessId=business.id,
                wifiTokenId=token["id"],
                expenseAccountId=account,
                saleAmount=config["basePrice"],
                paymentMethod="CASH",
                soldBy=seller,
            )
    rows.add(
        "wifi_usage_analytics",
        periodType="DAILY",
        periodStart=NOW - timedelta(days=1),
        periodEnd=NOW,
        system="ESP32",
        businessId=business.id,
        tokensSold=12,
        deviceTypeStats={"phone": 9, "laptop": 3},
    )


def _add_r710(shop: Shop, business: Business, antenna: Row) -> None:
    rows, seller = shop.rows, business.users[3]
    account = _expense_account(shop, business)
    rows.add("r710_business_integrations", businessId=business.id, deviceRegistryId=antenna["id"])
    wlan = rows.add(
        "r710_wlans",
        businessId=business.id,
        deviceRegistryId=antenna["id"],
        wlanId=f"wlan-{business.short}",
        guestServiceId=f"guest-{business.short}",
        ssid=f"{business.row['name']} Guest",
    )
    config = rows.add(
        "r710_token_configs",
        businessId=business.id,
        wlanId=wlan["id"],
        name="Day pass",
        durationValue=1,
        durationUnit="day_Days",
        basePrice=2,
    )
    rows.add("r710_business_token_menu_items", businessId=business.id, tokenConfigId=config["id"], businessPrice=2)
    for number in range(6):
        token = rows.add(
            "r710_tokens",
            businessId=business.id,
            wlanId=wlan["id"],
            tokenConfigId=config["id"],
            username=f"{business.short}-{number:04}",
            password=f"{rows.random.randrange(10**6):06}",
            status="SOLD" if number % 2 else "AVAILABLE",
        )
        if number % 2:
            rows.add("r710_device_tokens", tokenId=token["id"], macAddress=rows.mac())
            rows.add(
                "r710_token_sales",
                businessId=business.id,
                tokenId=token["id"],
                expenseAccountId=account,
                saleAmount=2,
                paymentMethod="CASH",
                soldBy=seller,
            )
    rows.add(
        "r710_sync_logs", businessId=business.id, deviceRegistryId=antenna["id"], status="SUCCESS", tokensChecked=6
    )


def _add_access_list(shop: Shop, business: Business, tagged_device: str) -> None:
    rows = shop.rows
    for system, device in (("ESP32", tagged_device), ("R710", None)):
        rows.add(
            "mac_acl_entries",
            macAddress=rows.mac(),
            deviceId=device,
            listType="WHITELIST",
            system=system,
            businessId=business.id,
            r710WlanId=rows.of("r710_wlans")[-1]["id"] if device is None else None,
            createdBy=shop.owner,
            approvedBy=business.users[2],
        )


def _expense_account(shop: Shop, business: Business) -> str:
    number = f"EXP-{business.short}"
    found: str = next(row["id"] for row in shop.rows.of("expense_accounts") if row["accountNumber"] == number)
    return found
