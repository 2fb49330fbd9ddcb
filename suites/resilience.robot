*** Settings ***
Name                Resilience
Documentation       After every crash, restart and removal: no claim is lost, no device has two claims, nothing is left.
...
...                 docs/driver.md says what the driver does in each case. Its unit tests kill it at every write.
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
Node Agent Is Killed While A Pod Has A Device
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Kill Node Agent    ${NODES}[0]
    Driver Pods Should Be Running
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Node Agent Is Killed While It Prepares
    [Documentation]    Before, between and after its writes: in each run it dies at its N-th write.
    [Template]    Pod Should Start Though The Node Agent Dies At Write
    2
    5
    8
    [Teardown]    Undo And Check    Reset Node Agent Settings

Pod Is Deleted While The Node Agent Is Away
    [Documentation]    When the agent runs again, the pod is gone and its device is released.
    Run Pod On NUMA Node    outlives    ${NODES}[0]    ${NUMA_NODES}[0]
    Send Node Agents Away
    Wait Until No Node Agent Runs
    Start Deleting Pod    outlives
    Bring Node Agents Back
    Driver Pods Should Be Running    timeout=10 minutes
    Wait Until Pod Is Gone    outlives
    Wait Until All Devices Are Free
    [Teardown]    Undo And Check    Bring Node Agents Back

Pod Is Deleted By Force
    [Documentation]    The next pod for the same device waits until the first one's container has ended.
    ${pfs}    Get PFs    ${NODES}[0]
    Run Pod With Device    forced    ${NODES}[0]    PF    ${pfs[0].uuid}
    Delete Pod By Force    forced
    Delete Claim    forced
    Start Pod With Device    next    ${NODES}[0]    PF    ${pfs[0].uuid}
    Pod Should Still Work    next
    Devices Of Pod Should Be    next    ${pfs}[0]

Kubelet Restarts
    [Tags]    needs-power
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Restart Kubelet    ${NODES}[0]
    ResourceSlices Should Follow Sysfs    timeout=5 minutes
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Containerd Restarts
    [Tags]    needs-power
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Restart Containerd    ${NODES}[0]
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Node Reboots With Pods
    [Documentation]    A reboot loses what was prepared; when the pods restart, it is prepared again.
    [Tags]    needs-power
    Run Pod On NUMA Node    before    ${NODES}[0]    ${NUMA_NODES}[0]
    Reboot Node    ${NODES}[0]
    Driver Pods Should Be Running    timeout=10 minutes
    ResourceSlices Should Follow Sysfs    timeout=10 minutes
    Delete Pod    before
    Wait Until All Devices Are Free
    New Pod Should Work    after    ${NODES}[0]

Node Loses Power
    [Documentation]    Nothing is stopped or synced. Node, driver and pods recover without help, and soon.
    [Tags]    needs-power
    Run Pod On NUMA Node    before    ${NODES}[0]    ${NUMA_NODES}[0]
    Cut Power Of Node    ${NODES}[0]
    Driver Pods Should Be Running    timeout=10 minutes
    ResourceSlices Should Follow Sysfs    timeout=10 minutes
    Node Agent Should Have Registered Within    ${NODES}[0]    60 seconds
    Delete Pod    before
    Wait Until All Devices Are Free
    New Pod Should Work    after    ${NODES}[0]

API Server Is Away For A Minute
    [Documentation]    The pod keeps its device, and new pods get devices afterwards.
    [Tags]    needs-power
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Cut Node Off From API Server    ${NODES}[0]    60 seconds
    Nodes Should Be Ready    timeout=10 minutes
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Namespace Is Deleted With All In It
    Run Pod In Namespace    doomed    inside    ${NODES}[0]
    Delete Namespace    doomed
    Wait Until All Devices Are Free
    Nothing Should Be Lost
    [Teardown]    Undo And Check    Delete Namespace    doomed

Device Is Unplugged While Allocated
    [Documentation]    The device is tainted, and pod and claim report it, until the device is plugged in again.
    [Tags]    needs-hotplug
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

Claim Keeps Its Device When Names Move
    [Documentation]    After a boot with one slot empty, the claim's device has another name, and its old name is
    ...    another device's.
    [Tags]    needs-hotplug    needs-power
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${pf}    Get PF Whose Name Moves Without    ${slot}
    Run Pod That Restarts    keeps    ${NODES}[0]    ${pf.uuid}
    Unplug Slot    ${slot}
    Reboot Node    ${NODES}[0]
    Claim Should Have Event    keeps    PrepareFailed    another device under the name ${pf.name}    timeout=10 minutes
    Plug Slot    ${slot}
    Reboot Node    ${NODES}[0]
    Pod Should Still Work    keeps

Device Server Is Killed
    [Documentation]    No device of the node answers: all are tainted, until the server runs again.
    [Tags]    needs-device-server
    Kill Device Server    ${NODES}[0]
    All Devices Should Be Tainted    ${NODES}[0]    NoAnswer
    Restart Device Server    ${NODES}[0]
    No Device Should Be Tainted    ${NODES}[0]
    New Pod Should Work    healthy-again    ${NODES}[0]
    [Teardown]    Undo And Check    Restart Device Server    ${NODES}[0]

Changed Status Registers Are Corrected
    [Documentation]    On the kernel's event, for a device in use and for a free one.
    ${pfs}    Get PFs    ${NODES}[0]
    Run Pod With Device    keeps    ${NODES}[0]    PF    ${pfs[0].uuid}
    ${devices}    Get Devices Of Pod    keeps
    Write Status Register    ${NODES}[0]    ${pfs[0].name}    0
    Wait Until Status Registers Mark    ${devices}    within=${AT_ONCE}
    Write Status Register    ${NODES}[0]    ${pfs[1].name}    1
    Wait Until Status Registers Mark    ${devices}    within=${AT_ONCE}
    Pod Should Still Work    keeps

Kernel Module Stays While A Device Is In Use
    Run Pod On NUMA Node    uses    ${NODES}[0]    ${NUMA_NODES}[0]
    Kernel Module Should Refuse To Unload    ${NODES}[0]
    Pod Should Still Work    uses

CDI Folder Cannot Be Written
    [Documentation]    The pod waits, its claim has an event, and the pod starts when the folder is writable again.
    [Tags]    needs-power
    Protect CDI Folder    ${NODES}[0]
    Start Pod On NUMA Node    waits    ${NODES}[0]    ${NUMA_NODES}[0]
    Claim Should Have Event    waits    PrepareFailed    cannot be prepared
    Unprotect CDI Folder    ${NODES}[0]
    Pod Should Still Work    waits
    [Teardown]    Undo And Check    Unprotect CDI Folder    ${NODES}[0]

Checkpoint Is Lost
    [Documentation]    The driver rebuilds it from claims, CDI files and status registers.
    [Template]    Pod Should Outlive Checkpoint
    EMPTY
    TRUNCATED
    UNKNOWN_VERSION

Driver Is Upgraded With Claims In Use
    [Documentation]    From a driver that wrote checkpoint version 1, without a gap: pods start during the update.
    Pod Should Outlive Update From Checkpoint Version    1
    [Teardown]    Undo And Check    Reset Node Agent Settings

Driver Is Downgraded With Claims In Use
    [Documentation]    From a driver whose checkpoint this one cannot read: it is rebuilt, and nothing is lost.
    Pod Should Outlive Update From Checkpoint Version    3
    [Teardown]    Undo And Check    Reset Node Agent Settings

Changed ResourceSlices Are Corrected
    ${pfs}    Get PFs    ${NODES}[0]
    Delete ResourceSlice Of Device    ${NODES}[0]    ${pfs[0].name}
    ResourceSlices Should Follow Sysfs
    Change ResourceSlice Of Device    ${NODES}[0]    ${pfs[1].name}
    ResourceSlices Should Follow Sysfs

Device Reset Keeps An Allocation
    [Documentation]    ``echo 1 > device/reset`` of an allocated device. After its pod, the module can be unloaded.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    ${devices}    Get Devices Of Pod    keeps
    Reset Device    ${devices}[0]
    Wait Until Status Registers Mark    ${devices}    within=20 seconds
    Pod Should Still Work    keeps
    Delete Pod    keeps
    Wait Until All Devices Are Free
    Unload Kernel Module    ${NODES}[0]

Two Hundred Claims Come And Go
    [Documentation]    Many are deleted before they are allocated, prepared or started.
    [Timeout]    60 minutes
    Create And Delete Pods With Claims    200    ${NODES}[0]
    New Pod Should Work    last    ${NODES}[0]


*** Keywords ***
Pod Should Start Though The Node Agent Dies At Write
    [Documentation]    Every run of a node agent ends at its ``number``-th write, until the settings are reset.
    [Arguments]    ${number}
    Let Node Agents Die At Write    ${number}
    Start Pod On NUMA Node    dies-at-${number}    ${NODES}[0]    ${NUMA_NODES}[0]
    Node Agent Should Have Died    ${NODES}[0]
    Reset Node Agent Settings
    Pod Should Still Work    dies-at-${number}
    Delete Pod    dies-at-${number}
    Wait Until All Devices Are Free

Pod Should Outlive Checkpoint
    [Documentation]    The driver restarts with a ``broken`` checkpoint.
    [Arguments]    ${broken}
    Run Pod On NUMA Node    outlives    ${NODES}[0]    ${NUMA_NODES}[0]
    Replace Checkpoint    ${NODES}[0]    ${broken}
    Kill Node Agent    ${NODES}[0]
    Driver Pods Should Be Running
    Pod Should Still Work    outlives
    Delete Pod    outlives
    Wait Until All Devices Are Free
    Clean Up And Check That Nothing Was Lost

Pod Should Outlive Update From Checkpoint Version
    [Documentation]    A rolling update finds the checkpoint in ``version``, with a claim in use.
    [Arguments]    ${version}
    Run Pod On NUMA Node    old    ${NODES}[0]    ${NUMA_NODES}[0]
    Change Checkpoint Version    ${NODES}[0]    ${version}
    Start Rolling Update Of Node Agents
    New Pod Should Work    meanwhile    ${NODES}[0]
    Wait Until Rolling Update Is Complete
    Pod Should Still Work    old
    Delete Pod    old
    Nothing Should Be Lost

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
