"""The logic of the keyword libraries, independent of Robot Framework: read, compare, request and wait.

Modules that only compare take data that was read before, so that tests can pass recordings.
"""
