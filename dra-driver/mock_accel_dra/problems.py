"""Problems of devices: their names in the API, what causes them, and what users are told."""

from __future__ import annotations

import re

NO_ANSWER = "NoAnswer"
UNPLUGGED = "Unplugged"
HUNG = "Hung"
FATAL_ERROR = "FatalError"
NO_FIRMWARE = "NoFirmware"
HOT = "Hot"
RECOVERABLE = frozenset({HUNG, FATAL_ERROR})
"""Problems that a reset may end."""
AFTER_A_RESET = RECOVERABLE | {NO_ANSWER, UNPLUGGED}
"""Problems of a device that a reset has not recovered."""
_BY_HEALTH = {"ok": "", "hung": HUNG, "fatal": FATAL_ERROR, "no-firmware": NO_FIRMWARE, "hot": HOT}
"""Words of the attribute ``health``: data sheet of the device, "Linux module"."""
_MESSAGES = {
    "": "",
    NO_ANSWER: "the device does not answer; look at the node's dmesg",
    UNPLUGGED: "the device is not in the node's sysfs any more",
    HUNG: "a job did not end in time and the device could not be reset; its jobs do not run",
    FATAL_ERROR: "the device reported a fatal error and runs no jobs until it is reset; look at the node's dmesg",
    NO_FIRMWARE: "the device has no firmware and runs no jobs; look at the node's dmesg and for "
    "mock-accel/mock-accel.fw in the folder of the kernel parameter firmware_class.path or in /lib/firmware",
    HOT: "the temperature of the device is above its limit; its jobs go on",
}
_UNKNOWN = "Unhealthy"
_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")
"""What a taint's value and a condition's reason may both be: CamelCase of at most 63 characters."""


def of_health(word: str | None) -> str:
    """Problem of a device whose attribute ``health`` is ``word``; empty if it is healthy or there is no attribute.

    A word of a later kernel module becomes a problem named like it: ``over-current`` is ``OverCurrent``.
    """
    if word is None:
        return ""
    if word in _BY_HEALTH:
        return _BY_HEALTH[word]
    name = "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", word))
    return name if _NAME.fullmatch(name) else _UNKNOWN


def message(problem: str) -> str:
    """What ``problem`` means, for users; empty for no problem."""
    return _MESSAGES.get(problem, f"the kernel module reports the problem {problem}; look at the node's dmesg")
