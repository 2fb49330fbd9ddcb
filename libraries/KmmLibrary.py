"""Robot Framework library: the Kernel Module Management operator (KMM) and our Module."""

from __future__ import annotations

from datetime import timedelta

from robot.api import logger
from robot.api.deco import keyword, library

from mock_device.checks.driver import kmm_modules
from mock_device.checks.driver.kmm_modules import Object
from mock_device.checks.errors import CheckError, SkipCheck, fail_if_any
from mock_device.checks.nodes import kernel_module, session
from mock_device.lab.base.timeouts import Timeout
from mock_device.lab.build import images
from mock_device.lab.cluster import deploy, image_loading, kmm_state, module_loader
from mock_device.lab.cluster.kmm_state import MODULE
from mock_device.lab.cluster.loader_settings import LoaderKind

_REPOSITORY = images.KMOD_IMAGE.rpartition(":")[0]


@library(scope="GLOBAL", auto_keywords=False)
class KmmLibrary:
    """Changes our Module, and reads what KMM does with it. `Put Module Back` undoes the changes.

    ``KMM`` is the Kernel Module Management operator, ``Module`` its kind of object.
    Timeouts are wall time.
    """

    def __init__(self) -> None:
        self._saved: Object | None = None
        self._others: list[str] = []
        self._since = 0

    @keyword(name="KMM Should Load The Module")
    def kmm_should_load_the_module(self) -> None:
        """Skip the suite if the cluster's kernel module does not come by KMM; remember the Module for later."""
        api = session.current().api
        found = module_loader.found_in(api)
        if found is not LoaderKind.KMM:
            raise SkipCheck(
                f"the module loader of this cluster is {found.value!r}, not 'kmm'; with files of KMM in KMM_MANIFESTS "
                "and KMM_IMAGES, start: lab up --module-loader kmm (docs/how-to/kmm.md)"
            )
        self._saved = kmm_modules.read(api)
        if self._saved is None:
            raise CheckError(f"expected Module {MODULE}, found none; run: lab up --module-loader kmm")

    @keyword(tags=["wait"])
    def module_should_be_available(self, *nodes: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM has loaded our Module, as its ``spec`` is now, on ``nodes`` and no others; default: all.

        Module, ModuleImagesConfig, NodeModulesConfigs and labels must agree on it.
        """
        current = session.current()
        kmm_modules.wait_available(current.api, nodes or current.node_names, timeout)

    @keyword(tags=["wait"])
    def nodes_should_be_labelled_as_loaded(self, *nodes: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM has labelled ``nodes`` with ``kmm.node.kubernetes.io/….ready``; default: all nodes."""
        kmm_modules.wait_labels(session.current().api, nodes or session.current().node_names, True, timeout)

    @keyword(tags=["wait"])
    def nodes_should_not_be_labelled_as_loaded(self, *nodes: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM has removed its label ``….ready`` from ``nodes``; default: all nodes."""
        kmm_modules.wait_labels(session.current().api, nodes or session.current().node_names, False, timeout)

    @keyword
    def mark_events(self) -> None:
        """Mark the current end of the events, for `Node Should Have New Event`."""
        self._since = kmm_modules.events_version(session.current().api)

    @keyword(tags=["wait"])
    def node_should_have_new_event(
        self, node: str, reason: str, timeout: timedelta = Timeout.NODE_EVENT.nominal
    ) -> None:
        """Wait for an event of ``node`` with ``reason`` (ModuleLoaded, ModuleUnloaded) that is newer than the mark."""
        kmm_modules.wait_event(session.current().api, node, f"{reason}: ", self._since, timeout)

    @keyword
    def start_deleting_module(self) -> None:
        """Delete our Module, without waiting until KMM has unloaded it."""
        kmm_modules.start_deleting(session.current().api)

    @keyword(tags=["wait"])
    def wait_until_module_is_gone(self, name: str = MODULE, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until a Module that is being deleted is gone. Fails with its finalizers and what KMM's pods report."""
        kmm_modules.wait_gone(session.current().api, name, timeout)

    @keyword
    def module_should_have_finalizer(self) -> None:
        """Check that our Module is being deleted, and that KMM's finalizer keeps it."""
        module = kmm_modules.read(session.current().api)
        fail_if_any(kmm_modules.deletion_complaints(module))

    @keyword
    def create_module(self) -> None:
        """Create our Module as it was at the start of the suite."""
        kmm_modules.create(session.current().api, kmm_modules.body_of(self._original()))

    @keyword
    def create_second_module(self, name: str, label_value: str) -> None:
        """Create another Module ``name`` like ours, for nodes whose label has ``label_value``."""
        selector = {kmm_state.NODE_LABEL: label_value}
        self._others.append(name)
        kmm_modules.create(session.current().api, kmm_modules.second_body(self._original(), name, selector))

    @keyword
    def start_deleting_second_module(self, name: str) -> None:
        """Delete the Module ``name``, without waiting until KMM has unloaded it."""
        kmm_modules.start_deleting(session.current().api, name)

    @keyword
    def label_node_for_module(self, node: str, value: str | None = kmm_state.NODE_LABEL_VALUE) -> None:
        """Set the label of ``node`` by which Modules select it; ``None`` removes it. Default: our Module's value."""
        kmm_modules.label(session.current().api, node, value)

    @keyword(tags=["wait"])
    def load_image_with_module(self, tag: str, file: str = "/image", text: str = "another image of the module") -> str:
        """Load another image of the kernel module onto all nodes, and return its name.

        It is the module's image under ``tag``, with one more ``file`` (absolute path in the image) of ``text``.
        """
        image = f"{_REPOSITORY}:{tag}"
        archive = images.kmod_variant(deploy.kmod_image(), image, {file: text})
        image_loading.load(session.current().cluster, archive)
        return image

    @keyword
    def change_module_image(self, image: str, kernels: str = "^.+$") -> None:
        """Let our Module have ``image`` for kernels that match the regular expression ``kernels``."""
        kmm_modules.change(session.current().api, kmm_modules.image_spec(image, kernels))

    @keyword
    def change_module_image_and_firmware(self, image: str, folder: str) -> None:
        """Let our Module have ``image`` for all kernels, with firmware in its ``folder``."""
        kmm_modules.change(session.current().api, kmm_modules.image_spec(image, firmware=folder))

    @keyword(tags=["wait"])
    def module_with_firmware_should_be_available(self, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM has loaded our Module and its firmware on all nodes.

        Skips the test if KMM's worker may not write firmware, because its image has another user than root.
        """
        current = session.current()
        kmm_modules.wait_firmware(current.api, current.node_names, timeout)

    @keyword(tags=["wait"])
    def replace_pods_of_earlier_image(self, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM has noticed the image of our Module, and delete its pods that still try an earlier one.

        KMM does not replace a pod that cannot copy the module from its image.
        """
        kmm_modules.replace_outdated_pods(session.current().api, timeout)

    @keyword
    def get_module_image(self) -> str:
        """Return the image of our Module, that of its first kernel mapping."""
        return kmm_modules.module_image(kmm_modules.read(session.current().api))

    @keyword(tags=["wait"])
    def module_should_wait_because(self, node: str, because: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until KMM's objects show why our Module is not loaded on ``node``: the reason contains ``because``."""
        logger.info(kmm_modules.wait_reason(session.current().api, node, because, timeout))

    @keyword(name="KMM Should Fail To Unload", tags=["wait"])
    def kmm_should_fail_to_unload(
        self, node: str, because: str = "in use", timeout: timedelta = Timeout.MODULE.nominal
    ) -> None:
        """Wait until KMM's pod on ``node`` fails to unload the module; its log must contain ``because``."""
        logger.info(kmm_modules.wait_refused_unload(session.current().api, node, because, timeout))

    @keyword(tags=["wait"])
    def module_of_image_should_be_loaded(
        self, node: str, image: str, timeout: timedelta = Timeout.MODULE.nominal
    ) -> None:
        """Wait until KMM reports that the module on ``node`` is that of ``image``."""
        kmm_modules.wait_image(session.current().api, node, image, timeout)

    @keyword(tags=["wait"])
    def kernel_module_should_not_be_loaded(self, *nodes: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until the kernels of ``nodes`` do not have mock_accel; default: all nodes."""
        current = session.current()
        kernel_module.wait_loaded(current, nodes or current.node_names, timeout, loaded=False)

    @keyword(tags=["wait"])
    def kernel_module_should_be_loaded_on(self, *nodes: str, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Wait until the kernels of ``nodes`` have mock_accel."""
        kernel_module.wait_loaded(session.current(), nodes, timeout)

    @keyword
    def get_kernel_module_load(self, node: str) -> str:
        """Return what identifies the present load of mock_accel on ``node``; each load has another identity."""
        return kernel_module.load_id(session.current(), node)

    @keyword(tags=["wait"])
    def kernel_module_should_be_loaded_again(
        self, node: str, before: str, timeout: timedelta = Timeout.MODULE.nominal
    ) -> None:
        """Wait until mock_accel is loaded on ``node``, and not by the load ``before`` (`Get Kernel Module Load`)."""
        kernel_module.wait_loaded_again(session.current(), node, before, timeout)

    @keyword
    def unload_kernel_module_behind_operator(self, node: str) -> None:
        """Unload mock_accel by ``rmmod`` on ``node``, so that KMM does not know of it."""
        kernel_module.rmmod(session.current(), node)

    @keyword
    def file_should_be_on_node(self, node: str, path: str, text: str) -> None:
        """Check that the file ``path`` on ``node`` has exactly ``text``."""
        self._check_file(node, path, text)

    @keyword
    def file_should_not_be_on_node(self, node: str, path: str) -> None:
        """Check that ``node`` has no file ``path``."""
        self._check_file(node, path, None)

    @keyword(tags=["wait"])
    def put_module_back(self, timeout: timedelta = Timeout.MODULE.nominal) -> None:
        """Undo all changes of Modules and of the nodes' labels. There must be no claims.

        Deletes Modules that tests created, creates or corrects ours, and labels all
        nodes. `Module Should Be Available` waits for the result.
        """
        current = session.current()
        if self._saved is None:
            return
        kmm_modules.put_back(current.api, self._saved, self._others, timeout)
        self._others.clear()
        for node in current.node_names:
            kmm_modules.label(current.api, node, kmm_state.NODE_LABEL_VALUE)

    def _original(self) -> Object:
        if self._saved is None:
            raise CheckError("no Module is remembered: a suite needs 'Suite Setup    Borrow Cluster With KMM'")
        return self._saved

    def _check_file(self, node: str, path: str, expected: str | None) -> None:
        found = kernel_module.read_file(session.current(), node, path)
        fail_if_any(f"{node}: {item}" for item in kernel_module.file_complaints(path, found, expected))
