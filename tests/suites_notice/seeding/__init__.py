"""Seeded faults: one defect each in one part of a running system, and the test that must notice it."""
