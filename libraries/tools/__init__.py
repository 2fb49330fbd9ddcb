"""Tools to look into a running cluster, for the command ``lab`` and for keywords alike.

Each module is one tool: functions on a ``scenario.session.Session`` that return
what they found, and ``as_text``, which makes lines of it. ``tools.cli`` adds
them to ``lab``.
"""
