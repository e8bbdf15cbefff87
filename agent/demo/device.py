"""What belongs to one laptop alone: its sync state and the devices it has seen, and rows that nobody keeps."""

from __future__ import annotations

from datetime import timedelta

from agent.demo.parts import Shop
from agent.demo.rows import NOW, Rows


def add_device_state(rows: Rows, device_name: str, node_id: str, peers: tuple[str, ...] = ()) -> str:
    """The device tables of the laptop ``device_name``, which has met ``peers`` (node IDs).

    Returns the id of a ``device_registry`` row: a phone that this laptop has seen.
    """
    for number, node in enumerate((node_id, *peers)):
        rows.add(
            "sync_nodes",
            NOW - timedelta(days=400),
            nodeId=node,
            nodeName=device_name if node == node_id else f"peer {number}",
            ipAddress=f"192.168.1.{20 + number}",
            port=8765,
            registrationKey=f"registration-{rows.random.getrandbits(64):016x}",
            schemaVersion="20260601000000",
            schemaHash=f"{rows.random.getrandbits(128):032x}",
            platformInfo={"platform": "linux", "self": node == node_id},
            lastSeen=NOW,
        )
        rows.add(
            "node_states", nodeId=node, nodeName=device_name if node == node_id else f"peer {number}", syncVersion="3.0"
        )
        rows.add(
            "sync_sessions",
            sessionId=f"session-{node_id}-{number}",
            sourceNodeId=node_id,
            targetNodeId=node,
            status="completed",
            metadata={"pushed": 12},
        )
        rows.add("full_sync_sessions", sessionId=f"full-{node_id}-{number}", sourceNodeId=node_id, targetNodeId=node)
    rows.add(
        "sync_configurations",
        nodeId=node_id,
        registrationKeyHash=f"{rows.random.getrandbits(128):032x}",
        configMetadata={"device": device_name},
    )
    for day in range(3):
        date = NOW.replace(hour=0) - timedelta(days=day)
        rows.add(
            "sync_metrics", nodeId=node_id, metricDate=date, eventsGenerated=40 + day, dataTransferredBytes=2**33 + day
        )
    for number in range(5):
        event = f"event-{node_id}-{number}"
        change = {"name": f"Change {number}", "by": device_name}
        rows.add(
            "sync_events",
            eventId=event,
            sourceNodeId=node_id,
            tableName="business_products",
            recordId=f"record-{number}",
            operation="UPDATE",
            changeData=change,
            vectorClock={node_id: number},
        )
        rows.add(
            "offline_queue",
            nodeId=node_id,
            eventId=event,
            tableName="business_products",
            recordId=f"record-{number}",
            operation="UPDATE",
            changeData=change,
        )
    rows.add("network_partitions", nodeId=node_id, partitionType="peer-lost", partitionMetadata={"seconds": 90})
    seen = [
        rows.add(
            "device_registry",
            macAddress=rows.mac(),
            hostname=f"{name}-of-{device_name}",
            deviceType="phone",
            firstSeenSystem="ESP32",
            lastSeenSystem="R710",
            tags=["staff", device_name],
        )
        for name in ("phone", "tablet")
    ]
    for device in seen:
        rows.add(
            "device_connection_history", deviceId=device["id"], system="ESP32", wlanSsid="Guest", signalStrength=-61
        )
    id_: str = seen[0]["id"]
    return id_


def add_passing_rows(shop: Shop) -> None:
    """Transient rows: logins, chat, who is on the WiFi just now."""
    rows = shop.rows
    room = rows.add("chat_rooms", name="Staff", createdBy=shop.owner)
    for user in (shop.owner, shop.accountant):
        rows.add("sessions", sessionToken=f"session-of-{user}", userId=user, expires=NOW + timedelta(days=1))
        rows.add("chat_participants", roomId=room["id"], userId=user)
        rows.add("chat_messages", roomId=room["id"], userId=user, message="Who locks up tonight?")
    for token in rows.of("wifi_tokens")[:3]:
        rows.add(
            "esp32_connected_clients", macAddress=rows.mac(), wifiTokenId=token["id"], businessId=token["businessId"]
        )
    for wlan in rows.of("r710_wlans")[:2]:
        rows.add(
            "r710_connected_clients",
            deviceRegistryId=wlan["deviceRegistryId"],
            wlanId=wlan["id"],
            businessId=wlan["businessId"],
            macAddress=rows.mac(),
            rxBytes=2**40,
        )
    for device in rows.of("device_registry"):
        device["firstSeenBusinessId"] = device["lastSeenBusinessId"] = shop.businesses[0].id
