"""A bad wire between two interfaces of a namespace: frames are forwarded late, and some not at all.

python -m tests.lan.wire ONE OTHER SHARE SECONDS   forwards until killed
python -m tests.lan.wire plain INTERFACE           has an interface send whole frames with checksums, as a cable needs
"""

from __future__ import annotations

import array
import fcntl
import heapq
import random
import select
import socket
import struct
import sys
import time

SIOCETHTOOL = 0x8946
OFFLOADS = (0x17, 0x19, 0x1F, 0x25)  # set: transmit checksums, scatter-gather, TSO, GSO
EVERYTHING = 0x0003
OUTGOING = 4


def plain(interface: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in OFFLOADS:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            try:
                fcntl.ioctl(control, SIOCETHTOOL, request)
            except OSError:
                continue


def forward(one: str, other: str, share: float, seconds: float) -> None:
    ends = []
    for name in (one, other):
        end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
        end.bind((name, EVERYTHING))
        ends.append(end)
    due: list[tuple[float, int, int, bytes]] = []
    number = 0
    while True:
        now = time.monotonic()
        while due and due[0][0] <= now:
            _, _, to, frame = heapq.heappop(due)
            try:
                ends[to].send(frame)
            except OSError:
                continue
        ready, _, _ = select.select(ends, [], [], max(0.0, due[0][0] - now) if due else 1.0)
        for end in ready:
            frame, (_, _, kind, *_) = end.recvfrom(70_000)
            if kind != OUTGOING and random.random() >= share:
                number += 1
                heapq.heappush(due, (time.monotonic() + seconds, number, 1 - ends.index(end), frame))


if __name__ == "__main__":
    if sys.argv[1] == "plain":
        plain(sys.argv[2])
    else:
        forward(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
