*** Settings ***
Name                Discovery
Documentation       What the DRA driver publishes is what the nodes have, also when devices and module come and go.
...
...                 Sysfs is compared with the topology, ResourceSlices with sysfs: each test blames its own stretch.
Resource            ../resources/cluster.resource
Resource            ../resources/driver.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Restore Devices
Test Timeout        30 minutes
Test Tags           discovery    dra


*** Variables ***
# Shorter than the node agent's own rescan, which so cannot be what found the change.
${AT_ONCE}          20 seconds


*** Test Cases ***
Sysfs Describes Every Device
    [Documentation]    UUID, memory, NUMA node, capabilities and PCI address are those of the topology.
    Sysfs Should Describe All Devices

Every Device Has One ResourceSlice
    [Documentation]    Name, pool, labels, every attribute and the capacity are those of sysfs; nothing more is published.
    ResourceSlices Should Follow Sysfs

ResourceSlices Are Found By Label
    [Documentation]    One a PF, by ``-l driver=mock-accel.example.com``; also by node.
    ${all}    Count PFs
    ${by_driver}    Count ResourceSlices    driver=mock-accel.example.com
    Should Be Equal As Integers    ${by_driver}    ${all}
    @{pfs}    Get PFs    ${NODES}[0]
    ${by_node}    Count ResourceSlices    driver=mock-accel.example.com,node=${NODES}[0]
    Length Should Be    ${pfs}    ${by_node}

ResourceSlices Follow A Device That Is Unplugged And Plugged Again
    [Documentation]    At once, because the kernel announces it: faster than the rescan.
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${log}    Mark Log    NODE_AGENT    ${NODES}[0]
    Unplug Slot    ${slot}
    Sysfs Should Describe All Devices    but=${slot}
    ResourceSlices Should Follow Sysfs    timeout=${AT_ONCE}
    Log Should Say    ${log}    Kernel event.*action="remove"    Devices of this node
    Plug Slot    ${slot}
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs    timeout=${AT_ONCE}
    Log Should Say    ${log}    Kernel event.*action="add"    Devices of this node

ResourceSlices Follow The Kernel Module
    [Documentation]    Unloaded on one node, its devices go and those of other nodes stay; loaded, all are back.
    ${log}    Mark Log    NODE_AGENT    ${NODES}[-1]
    Unload Kernel Module    ${NODES}[-1]
    Sysfs Should Show No Devices    ${NODES}[-1]
    ResourceSlices Should Follow Sysfs    timeout=${AT_ONCE}
    Log Should Say    ${log}    Devices of this node" count=0
    Load Kernel Module    ${NODES}[-1]
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs    timeout=${AT_ONCE}

Without Kernel Events Devices Are Found By Rescan
    [Documentation]    The node agents run with ``--kernel-events=false --rescan-interval=2s``.
    [Setup]    Set Node Agent Settings    rescan_interval=2s    kernel_events=False
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${log}    Start Of Log    NODE_AGENT    ${NODES}[0]
    Unplug Slot    ${slot}
    Sysfs Should Describe All Devices    but=${slot}
    ResourceSlices Should Follow Sysfs
    Plug Slot    ${slot}
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs
    Log Should Say    ${log}    Devices of this node.*removed=\\[".+"\\]    Devices of this node.*added=\\[".+"\\]
    Log Should Not Say    ${log}    Kernel event

ResourceSlice That Somebody Deleted Comes Back
    ${pfs}    Get PFs    ${NODES}[0]
    Delete ResourceSlice Of Device    ${NODES}[0]    ${pfs[0].name}
    ResourceSlices Should Follow Sysfs    timeout=${AT_ONCE}

Nothing Is Published Twice When The Node Agent Restarts
    Restart Driver Pod    NODE_AGENT    ${NODES}[0]
    ResourceSlices Should Follow Sysfs
    ${all}    Count PFs
    ${by_driver}    Count ResourceSlices    driver=mock-accel.example.com
    Should Be Equal As Integers    ${by_driver}    ${all}

Controller Logs How Many Devices There Are
    [Documentation]    ``Discovered N devices`` when it starts, ``Device count changed: A -> B`` afterwards.
    ${all}    Count PFs
    Restart Driver Pod    CONTROLLER
    ${log}    Start Of Log    CONTROLLER
    Log Should Say    ${log}    "Discovered ${all} devices"
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    Unplug Slot    ${slot}
    Log Should Say    ${log}    "Device count changed: \\d+ -> ${{ $all - $slot.pf_count }}"    timeout=${AT_ONCE}
    Plug Slot    ${slot}
    Log Should Say    ${log}    "Device count changed: \\d+ -> ${all}"    timeout=${AT_ONCE}
