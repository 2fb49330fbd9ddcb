"""Tools that show the state of a running cluster: devices, slices, CDI files, logs.

Each module is one tool: functions on a ``checks.nodes.session.Session`` that return
what they found, and ``table``, which makes a ``lab.base.tables.Table`` of it.
"""
