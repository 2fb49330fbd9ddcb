"""What the keyword libraries know how to do, without Robot Framework: read, compare, ask for and wait.

Modules are named by their subject; those that only compare take what was read,
so that tests can give them recordings.
"""

DRIVER = "mock-accel.example.com"
"""Name of the DRA driver, and domain of its attributes."""


class CheckError(AssertionError):
    """Something is not as expected; the message says what was expected, what was found, and where to look next."""

    ROBOT_SUPPRESS_NAME = True
