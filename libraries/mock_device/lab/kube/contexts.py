"""Contexts of a user's kubeconfig.

Format: Config of ``k8s.io/client-go/tools/clientcmd/api/v1`` (types.go).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from mock_device.lab.base.errors import StepError

_FILES = {
    "cluster": ("certificate-authority",),
    "user": ("client-certificate", "client-key", "tokenFile"),
}
"""Keys whose values are paths, relative to the kubeconfig."""


def with_namespace(kubeconfig: Path, context: str, namespace: str) -> str:
    """Content of a kubeconfig with one context of the file ``kubeconfig``, whose default namespace is ``namespace``.

    ``context`` is its name, or empty for the current one. Raises StepError with
    the reason why the file or the context cannot be used.
    """
    try:
        content = yaml.safe_load(kubeconfig.read_text())
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StepError(f"{kubeconfig}: expected a kubeconfig, it cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise StepError(f"{kubeconfig}: expected a kubeconfig, found {str(content)[:60]!r}")
    name = context or content.get("current-context") or ""
    chosen = dict(_entry(kubeconfig, content, "context", name))
    parts = {kind: dict(_entry(kubeconfig, content, kind, chosen.get(kind, ""))) for kind in _FILES}
    for kind, keys in _FILES.items():
        for key in keys:
            if key in parts[kind]:
                parts[kind][key] = str(kubeconfig.absolute().parent / Path(parts[kind][key]).expanduser())
    command = parts["user"].get("exec", {}).get("command", "")
    if "/" in command:
        parts["user"]["exec"] = {**parts["user"]["exec"], "command": str(kubeconfig.absolute().parent / command)}
    result = {
        "apiVersion": "v1",
        "kind": "Config",
        **{f"{kind}s": [{"name": chosen[kind], kind: part}] for kind, part in parts.items()},
        "contexts": [{"name": name, "context": {**chosen, "namespace": namespace}}],
        "current-context": name,
    }
    return yaml.safe_dump(result, sort_keys=False)


def _entry(kubeconfig: Path, content: dict[str, Any], kind: str, name: str) -> dict[str, Any]:
    entries = [item for item in content.get(f"{kind}s") or [] if isinstance(item, dict)]
    for item in entries:
        if name and item.get("name") == name and isinstance(item.get(kind), dict):
            found: dict[str, Any] = item[kind]
            return found
    known = ", ".join(str(item.get("name")) for item in entries) or "none"
    wanted = f"{kind} {name!r}" if name else f"a current {kind}"
    raise StepError(f"{kubeconfig}: expected {wanted}, found {known}")
