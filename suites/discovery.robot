*** Settings ***
Name                Discovery
Documentation       The DRA driver publishes what the nodes have, also while devices and kernel module come and go.
...
...                 Sysfs is compared with the topology, ResourceSlices with sysfs: a failure names the broken layer.
Resource            ../resources/cluster.resource
Resource            ../resources/driver.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Restore Devices
Test Timeout        30 minutes
Test Tags           discovery    dra


*** Variables ***
# Shorter than the node agent's rescan interval: only a kernel event can have announced the change. A limit that tests
# check, which no factor multiplies.
${AT_ONCE}          20 seconds


*** Test Cases ***
Sysfs Describes Every Device
    [Documentation]    UUID, memory, NUMA node, capabilities and PCI address are those of the topology.
    Sysfs Should Describe All Devices

Every Device Has One ResourceSlice
    [Documentation]    Name, pool, labels, all attributes and capacities are those of sysfs; nothing else is published.
    [Tags]    needs-attribute-pci-address
    ResourceSlices Should Follow Sysfs

ResourceSlices Are Found By Label
    [Documentation]    ``-l driver=NAME`` finds one for each PF; label ``node`` selects a node's.
    [Tags]    needs-one-slice-a-device
    ${all}    Count PFs
    ${by_driver}    Count ResourceSlices    driver=${DRIVER_NAME}
    Should Be Equal As Integers    ${by_driver}    ${all}
    @{pfs}    Get PFs    ${NODES}[0]
    ${by_node}    Count ResourceSlices    driver=${DRIVER_NAME},node=${NODES}[0]
    Length Should Be    ${pfs}    ${by_node}

ResourceSlices Follow A Device That Is Unplugged And Plugged Again
    [Documentation]    The kernel announces the change, so it is found before the next rescan.
    [Tags]    needs-hotplug    needs-follows-devices    needs-log-lines    needs-attribute-pci-address
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${log}    Mark Log    NODE_AGENT    ${NODES}[0]
    Unplug Slot    ${slot}
    Sysfs Should Describe All Devices    but=${slot}
    ResourceSlices Should Follow Sysfs    within=${AT_ONCE}
    Log Should Show Kernel Event    ${log}    REMOVE
    Plug Slot    ${slot}
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs    within=${AT_ONCE}
    Log Should Show Kernel Event    ${log}    ADD

ResourceSlices Follow The Kernel Module
    [Documentation]    Unloading it on one node removes that node's devices only; loading it brings them back.
    [Tags]    needs-follows-devices    needs-log-lines    needs-attribute-pci-address
    ${log}    Mark Log    NODE_AGENT    ${NODES}[-1]
    Unload Kernel Module    ${NODES}[-1]
    Sysfs Should Show No Devices    ${NODES}[-1]
    ResourceSlices Should Follow Sysfs    within=${AT_ONCE}
    Log Should Show Devices Of Node    ${log}    0
    Load Kernel Module    ${NODES}[-1]
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs    within=${AT_ONCE}

Rescan Finds Devices Without Kernel Events
    [Documentation]    The node agents run with ``--kernel-events=false --rescan-interval=2s``.
    [Tags]    needs-hotplug    needs-follows-devices    needs-project-agent
    [Setup]    Set Node Agent Settings    rescan_interval=2s    kernel_events=False
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${log}    Start Of Log    NODE_AGENT    ${NODES}[0]
    Unplug Slot    ${slot}
    Sysfs Should Describe All Devices    but=${slot}
    ResourceSlices Should Follow Sysfs
    Plug Slot    ${slot}
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs
    Log Should Show Devices Removed And Added    ${log}
    Log Should Show No Kernel Event    ${log}

Deleted ResourceSlice Comes Back
    [Tags]    needs-slice-repair    needs-one-slice-a-device
    ${pfs}    Get PFs    ${NODES}[0]
    Delete ResourceSlice Of Device    ${NODES}[0]    ${pfs[0].name}
    ResourceSlices Should Follow Sysfs    within=${AT_ONCE}

Nothing Is Published Twice When The Node Agent Restarts
    [Tags]    needs-one-slice-a-device
    Restart Driver Pod    NODE_AGENT    ${NODES}[0]
    ResourceSlices Should Follow Sysfs
    ${all}    Count PFs
    ${by_driver}    Count ResourceSlices    driver=${DRIVER_NAME}
    Should Be Equal As Integers    ${by_driver}    ${all}

Controller Logs The Number Of Devices
    [Documentation]    ``Discovered N devices`` when it starts, ``Device count changed: A -> B`` for each change.
    [Tags]    needs-hotplug    needs-device-count-log    needs-follows-devices
    ${all}    Count PFs
    Restart Driver Pod    CONTROLLER
    ${log}    Start Of Log    CONTROLLER
    Log Should Show Discovered Devices    ${log}    ${all}
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    Unplug Slot    ${slot}
    Log Should Show Device Count Changed To    ${log}    ${{ $all - $slot.pf_count }}    within=${AT_ONCE}
    Plug Slot    ${slot}
    Log Should Show Device Count Changed To    ${log}    ${all}    within=${AT_ONCE}
