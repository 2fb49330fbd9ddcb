"""The ``lab`` command: clusters of mock accelerators, from the command line.

Subcommands import what they need when they run, so that help and completion are fast.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from mock_device.commands import access, attaching, building, clusters, conformance, faults, looking
from mock_device.lab.base import command_line
from mock_device.lab.base.errors import StepError
from mock_device.topology import TopologyError

if TYPE_CHECKING:
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

_SECTIONS: Mapping[str, Sequence[click.Command]] = {
    "Clusters": (clusters.up, clusters.down, clusters.status, clusters.clusters),
    "A cluster that exists": (attaching.attach, attaching.detach, attaching.topology),
    "Use a cluster": (
        access.ssh,
        access.kubeconfig,
        access.kubectl,
        access.helm,
        access.load_image,
        access.registry,
        access.deploy,
    ),
    "Look into a cluster": (
        looking.diagnose,
        looking.devices,
        looking.slices,
        looking.cdi,
        looking.logs,
        looking.verbosity,
        faults.fault,
        conformance.conformance,
    ),
    "Build": (building.build, building.cache),
}


class _Lab(click.Group):
    """Lists subcommands by section, and turns errors of the API server and the disk into messages with a next step."""

    def list_commands(self, context: click.Context) -> list[str]:
        return [name for section in _SECTIONS.values() for command in section if (name := command.name)]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(command.name or "", command.get_short_help_str(1000)) for command in section])

    def invoke(self, context: click.Context) -> Any:
        with _explained():
            return super().invoke(context)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn errors of the API server and of a full disk, and KeyErrors with a message, into StepErrors."""
    try:
        yield
    except (StepError, TopologyError, click.ClickException, click.exceptions.Exit, KeyboardInterrupt):
        raise
    except KeyError as error:
        raise StepError(error.args[0]) from error
    except OSError as error:
        from mock_device.lab.base import disk

        if not disk.is_disk_full(error):
            raise
        raise StepError(f"the disk is full, see: lab cache\n  {error}") from error
    except _errors_of_api() as error:
        raise StepError(_about_api(error)) from error


def _errors_of_api() -> tuple[type[HTTPError], type[ApiException]]:
    """The exceptions for no answer and for a refusal. Imported only after an error, because the import is slow."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    return HTTPError, ApiException


def _about_api(error: HTTPError | ApiException) -> str:
    from urllib3.exceptions import HTTPError

    from mock_device.lab.kube.kubeclient import refusal

    if isinstance(error, HTTPError):
        return f"the cluster's API server does not answer, see: lab status\n  {error}"
    return f"the cluster's API server says {refusal(error)}"


lab = _Lab("lab", help="Clusters of mock accelerators.", context_settings=command_line.SETTINGS)
for _section in _SECTIONS.values():
    for _command in _section:
        lab.add_command(_command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; exit code 1 for a step that failed, 2 for bad usage, 130 after Ctrl-C."""
    return command_line.run(lab, argv, interrupted="interrupted; what was started for this command is stopped")


if __name__ == "__main__":
    sys.exit(main())
