*** Settings ***
Name                KMM
Documentation       The Kernel Module Management operator (KMM) loads, unloads and replaces the kernel module.
...
...                 Runs on the cluster of ``lab up --module-loader kmm``, with KMM's files (docs/how-to/kmm.md).
Resource            ../resources/kmm.resource
Suite Setup         Borrow Cluster With KMM    two-nodes
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Put Module Back
Test Timeout        45 minutes
Test Tags           kmm    long    needs-follows-devices    needs-status-register    needs-attribute-pci-address


*** Variables ***
${MISSING_IMAGE}    localhost/mock-device/mock-accel-kmod:missing
${FIRMWARE_TEXT}    firmware of a mock accelerator


*** Test Cases ***
Module Is Loaded On Every Node
    [Documentation]    Module, NodeModulesConfigs, labels, kernels and ResourceSlices agree, and a pod gets a device.
    Module Should Work
    New Pod Should Work    first    ${NODES}[0]

Deleted Module Is Unloaded And Comes Back
    [Documentation]    Each node has an event for it.
    Mark Events
    Start Deleting Module
    Wait Until Module Is Gone
    Module Should Be Unloaded Everywhere
    Node Should Have New Event    ${NODES}[0]    ModuleUnloaded
    Create Module
    Module Should Work
    Node Should Have New Event    ${NODES}[0]    ModuleLoaded
    New Pod Should Work    after    ${NODES}[0]

Deleted Module Stays While A Device Is Allocated
    [Documentation]    KMM tries again and again; it succeeds when the device is free.
    Run Pod On NUMA Node    uses    ${NODES}[0]    ${NUMA_NODES}[0]
    Start Deleting Module
    KMM Should Fail To Unload    ${NODES}[0]    because=in use
    Kernel Module Should Not Be Loaded    ${NODES}[-1]
    Module Should Have Finalizer
    Pod Should Still Work    uses
    Delete Pod    uses
    Wait Until Module Is Gone    timeout=10 minutes
    Module Should Be Unloaded Everywhere

Module Is Loaded Again After A Reboot
    [Tags]    needs-power
    ${before}    Get Kernel Module Load    ${NODES}[0]
    Reboot Node    ${NODES}[0]
    Kernel Module Should Be Loaded Again    ${NODES}[0]    ${before}
    Module Should Work
    New Pod Should Work    after    ${NODES}[0]

Label Of A Node Decides Whether The Module Is Loaded There
    [Documentation]    The other node keeps the module.
    Mark Events
    Label Node For Module    ${NODES}[-1]    ${None}
    Kernel Module Should Not Be Loaded    ${NODES}[-1]
    Nodes Should Not Be Labelled As Loaded    ${NODES}[-1]
    Node Should Have New Event    ${NODES}[-1]    ModuleUnloaded
    New Pod Should Work    elsewhere    ${NODES}[0]
    Label Node For Module    ${NODES}[-1]
    Module Should Work
    Node Should Have New Event    ${NODES}[-1]    ModuleLoaded

Label Is Removed While A Device Is Allocated
    [Documentation]    The module stays until the device is free.
    Run Pod On NUMA Node    uses    ${NODES}[0]    ${NUMA_NODES}[0]
    Label Node For Module    ${NODES}[0]    ${None}
    KMM Should Fail To Unload    ${NODES}[0]    because=in use
    Pod Should Still Work    uses
    Delete Pod    uses
    Kernel Module Should Not Be Loaded    ${NODES}[0]    timeout=10 minutes
    Label Node For Module    ${NODES}[0]
    Module Should Work

KMM Does Not Notice A Module That Others Unload
    [Documentation]    Status and labels stay as they are; only the node, its slices and ``lab diagnose`` show it.
    Unload Kernel Module Behind Operator    ${NODES}[-1]
    ResourceSlices Should Follow Sysfs    timeout=2 minutes
    Module Should Be Available
    Nodes Should Be Labelled As Loaded    ${NODES}[-1]
    Kernel Module Should Not Be Loaded    ${NODES}[-1]
    Load Kernel Module    ${NODES}[-1]
    Module Should Work

Firmware Of The Image Is On The Node While The Module Is
    [Documentation]    ``firmwarePath`` of the Module: KMM copies the files of the image to ``/lib/firmware``.
    ...    Skipped where KMM's worker does not run as root, neither by its image nor by our policy: it fails then.
    ${image}    Load Image With Module    with-firmware    /firmware/mock-accel.bin    ${FIRMWARE_TEXT}
    Change Module Image And Firmware    ${image}    /firmware
    Module With Firmware Should Be Available
    Module Should Work
    File Should Be On Node    ${NODES}[0]    /lib/firmware/mock-accel.bin    ${FIRMWARE_TEXT}
    Start Deleting Module
    Wait Until Module Is Gone
    File Should Not Be On Node    ${NODES}[0]    /lib/firmware/mock-accel.bin

Kernel Mapping That Fits No Kernel Is Named
    [Documentation]    KMM unloads the module and says nothing; the reason is found by comparing with the kernels.
    ${image}    Get Module Image
    Change Module Image    ${image}    kernels=^0\\.0\\.0-never$
    Module Should Wait Because    ${NODES}[0]    no kernel mapping
    Kernel Module Should Not Be Loaded
    Change Module Image    ${image}
    Module Should Work

Missing Image Is Named
    [Documentation]    Only KMM's pull pod knows the reason. Meanwhile, the module of the old image stays loaded.
    ${image}    Get Module Image
    Change Module Image    ${MISSING_IMAGE}
    Module Should Wait Because    ${NODES}[0]    ${MISSING_IMAGE} is not there
    Kernel Module Should Be Loaded
    Change Module Image    ${image}
    Module Should Work

Image Without A Module For The Kernel Is Named
    [Documentation]    The pod that loads the module cannot find it in the image. KMM does not replace this pod when the
    ...    Module has another image: the reason says so, and deleting the pod helps.
    ${image}    Get Module Image
    Change Module Image    localhost/mock-device/busybox:1
    Module Should Wait Because    ${NODES}[0]    log of image-extractor
    Change Module Image    ${image}
    Module Should Wait Because    ${NODES}[0]    KMM does not replace it
    Replace Pods Of Earlier Image
    Module Should Work

Two Modules Serve Different Nodes
    [Documentation]    Each loads and unloads on its own node only.
    Label Node For Module    ${NODES}[-1]    ${None}
    Kernel Module Should Not Be Loaded    ${NODES}[-1]
    Create Second Module    mock-accel-second    second
    Label Node For Module    ${NODES}[-1]    second
    Kernel Module Should Be Loaded On    ${NODES}[-1]
    Module Should Be Available    ${NODES}[0]
    Start Deleting Second Module    mock-accel-second
    Wait Until Module Is Gone    mock-accel-second
    Kernel Module Should Not Be Loaded    ${NODES}[-1]

New Image Replaces The Module While Devices Are Free
    ${before}    Get Kernel Module Load    ${NODES}[0]
    ${image}    Load Image With Module    next
    Change Module Image    ${image}
    Module Of Image Should Be Loaded    ${NODES}[0]    ${image}
    Kernel Module Should Be Loaded Again    ${NODES}[0]    ${before}
    Module Should Work
    New Pod Should Work    after    ${NODES}[0]

New Image Waits While A Device Is Allocated
    [Documentation]    The other node is upgraded at once; this one when the device is free.
    Run Pod On NUMA Node    uses    ${NODES}[0]    ${NUMA_NODES}[0]
    ${image}    Load Image With Module    next
    Change Module Image    ${image}
    KMM Should Fail To Unload    ${NODES}[0]    because=in use
    Module Of Image Should Be Loaded    ${NODES}[-1]    ${image}
    Pod Should Still Work    uses
    Delete Pod    uses
    Module Of Image Should Be Loaded    ${NODES}[0]    ${image}    timeout=10 minutes
    Module Should Work
