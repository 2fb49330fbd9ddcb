*** Settings ***
Name                Resilience Devices
Documentation       Devices are unplugged, reset or changed by others, or their server is killed.
...
...                 No claim is lost, no device has two claims, nothing is left. docs/driver.md says what the driver
...                 does in each case.
Resource            ../resources/crashes.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Was Lost
Test Timeout        45 minutes
Test Tags           resilience    dra    long


*** Variables ***
# Shorter than the node agent's rescan interval: only a kernel event can have announced the change. A limit that tests
# check, which no factor multiplies.
${AT_ONCE}          25 seconds


*** Test Cases ***
Device Is Unplugged While Allocated
    [Documentation]    The device is tainted, and pod and claim report it, until the device is plugged in again.
    [Tags]    needs-hotplug    needs-taints    needs-health    needs-device-status    needs-attribute-uuid
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    Run Pod With Device    loses    ${NODES}[0]    PF    ${slot.functions[0].uuid}
    Unplug Slot    ${slot}
    Device Should Be Tainted    ${NODES}[0]    ${slot.functions[0].name}    Unplugged
    Pod Should Report Health    loses    Unhealthy
    Claim Should Report Condition    loses    Ready    False    Unplugged
    Plug Slot    ${slot}
    Device Should Not Be Tainted    ${NODES}[0]    ${slot.functions[0].name}
    Pod Should Report Health    loses    Healthy
    Claim Should Report Condition    loses    Ready    True    Prepared

Device Server Is Killed
    [Documentation]    No device of the node answers: all are tainted, until the server runs again.
    [Tags]    needs-device-server    needs-taints
    Kill Device Server    ${NODES}[0]
    All Devices Should Be Tainted    ${NODES}[0]    NoAnswer
    Restart Device Server    ${NODES}[0]
    No Device Should Be Tainted    ${NODES}[0]
    New Pod Should Work    healthy-again    ${NODES}[0]
    [Teardown]    Undo And Check    Restart Device Server    ${NODES}[0]

Changed Status Registers Are Corrected
    [Documentation]    On the kernel's event, for a device in use and for a free one.
    [Tags]    needs-status-register    needs-attribute-uuid
    ${pfs}    Get PFs    ${NODES}[0]
    Run Pod With Device    keeps    ${NODES}[0]    PF    ${pfs[0].uuid}
    ${devices}    Get Devices Of Pod    keeps
    Write Status Register    ${NODES}[0]    ${pfs[0].name}    0
    Wait Until Status Registers Mark    ${devices}    within=${AT_ONCE}
    Write Status Register    ${NODES}[0]    ${pfs[1].name}    1
    Wait Until Status Registers Mark    ${devices}    within=${AT_ONCE}
    Pod Should Still Work    keeps

Device Reset Keeps An Allocation
    [Documentation]    ``echo 1 > device/reset`` of an allocated device. After its pod, the module can be unloaded.
    [Tags]    needs-status-register    needs-attribute-numa-node
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    ${devices}    Get Devices Of Pod    keeps
    Reset Device    ${devices}[0]
    Wait Until Status Registers Mark    ${devices}    within=20 seconds
    Pod Should Still Work    keeps
    Delete Pod    keeps
    Wait Until All Devices Are Free
    Unload Kernel Module    ${NODES}[0]

Kernel Module Stays While A Device Is In Use
    [Tags]    needs-status-register    needs-attribute-numa-node
    Run Pod On NUMA Node    uses    ${NODES}[0]    ${NUMA_NODES}[0]
    Kernel Module Should Refuse To Unload    ${NODES}[0]
    Pod Should Still Work    uses


*** Keywords ***
All Devices Should Be Tainted
    [Documentation]    Each PF of ``node`` is published with a taint of ``value``.
    [Arguments]    ${node}    ${value}
    ${pfs}    Get PFs    ${node}
    FOR    ${pf}    IN    @{pfs}
        Device Should Be Tainted    ${node}    ${pf.name}    ${value}
    END

No Device Should Be Tainted
    [Documentation]    Each PF of ``node`` is published without a taint.
    [Arguments]    ${node}
    ${pfs}    Get PFs    ${node}
    FOR    ${pf}    IN    @{pfs}
        Device Should Not Be Tainted    ${node}    ${pf.name}
    END
