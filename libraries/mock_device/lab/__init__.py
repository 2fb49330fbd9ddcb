"""The lab: builds, starts and stops clusters of QEMU guests with mock accelerators."""
