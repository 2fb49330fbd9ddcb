"""What the driver's manifests let its service accounts do."""

from __future__ import annotations

from collections.abc import Sequence

from mock_device.diagnosis.snapshot import Access, Object


def granted(objects: Sequence[Object]) -> list[Access]:
    """Permissions that a manifest's ClusterRoles grant to the service accounts of its ClusterRoleBindings."""
    roles = {item["metadata"]["name"]: item["rules"] or () for item in objects if item["kind"] == "ClusterRole"}
    return [
        Access(subject["name"], verb, group, resource, name)
        for binding in objects
        if binding["kind"] == "ClusterRoleBinding"
        for subject in binding["subjects"]
        if subject["kind"] == "ServiceAccount"
        for rule in roles.get(binding["roleRef"]["name"], ())
        for group in rule.get("apiGroups", ())
        for resource in rule.get("resources", ())
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    ]
