"""What the keyword libraries know, without Robot Framework: read, compare, request and wait.

Modules that only compare take what was read, so that tests can pass recordings.
"""
