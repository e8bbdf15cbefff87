"""No laptop's device state gets into another (DESIGN section 4): the checks that need nothing but the bundle."""

from __future__ import annotations

from protocol.errors import ForeignDeviceState
from protocol.manifest import Kind, Manifest, Section


def check_device_state(manifest: Manifest, own_node: str) -> None:
    """Raise ``ForeignDeviceState`` if the bundle holds device state of another device than ``own_node``.

    For whoever is about to restore; such a bundle may be stored, inspected and handed back to its own device.
    """
    if manifest.source_node != own_node and holds_device_state(manifest):
        raise foreign_device_state(manifest)


def holds_device_state(manifest: Manifest) -> bool:
    """Whether the bundle is of kind full-device or undo, or has a device section."""
    own_kind = manifest.kind in (Kind.FULL_DEVICE, Kind.UNDO)
    return own_kind or any(entry.section is Section.DEVICE for entry in manifest.tables)


def foreign_device_state(manifest: Manifest) -> ForeignDeviceState:
    """The refusal, in the plan's words."""
    if manifest.kind is Kind.UNDO:
        return ForeignDeviceState(
            f"This undo bundle was made by a different device ({manifest.source_device}). It holds rows of that device."
        )
    return ForeignDeviceState(
        f"This is a full device backup from a different device ({manifest.source_device}). "
        "Device-specific data cannot be restored to a different machine. Use a business or full backup instead."
    )
