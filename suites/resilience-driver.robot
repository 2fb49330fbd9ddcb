*** Settings ***
Name                Resilience Driver
Documentation       The driver's processes, files and objects are killed, changed or deleted by others.
...
...                 No claim is lost, no device has two claims, nothing is left. docs/driver.md says what the driver
...                 does in each case. Its unit tests kill it at every write.
Resource            ../resources/crashes.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Was Lost
Test Timeout        45 minutes
Test Tags           resilience    dra    long    needs-recovery


*** Test Cases ***
Node Agent Is Killed While A Pod Has A Device
    [Tags]    needs-project-agent    needs-attribute-numa-node
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Kill Node Agent    ${NODES}[0]
    Driver Pods Should Be Running
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Node Agent Is Killed While It Prepares
    [Documentation]    Before, between and after its writes: in each run it dies at its N-th write.
    [Tags]    needs-project-agent    needs-attribute-numa-node
    [Template]    Pod Should Start Though The Node Agent Dies At Write
    2
    5
    8
    [Teardown]    Undo And Check    Reset Node Agent Settings

Pod Is Deleted While The Node Agent Is Away
    [Documentation]    When the agent runs again, the pod is gone and its device is released.
    [Tags]    needs-attribute-numa-node
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
    [Tags]    needs-attribute-uuid    needs-attribute-pci-address
    ${pfs}    Get PFs    ${NODES}[0]
    Run Pod With Device    forced    ${NODES}[0]    PF    ${pfs[0].uuid}
    Delete Pod By Force    forced
    Delete Claim    forced
    Start Pod With Device    next    ${NODES}[0]    PF    ${pfs[0].uuid}
    Pod Should Still Work    next
    Devices Of Pod Should Be    next    ${pfs}[0]

Namespace Is Deleted With All In It
    Run Pod In Namespace    doomed    inside    ${NODES}[0]
    Delete Namespace    doomed
    Wait Until All Devices Are Free
    Nothing Should Be Lost
    [Teardown]    Undo And Check    Delete Namespace    doomed

CDI Folder Cannot Be Written
    [Documentation]    The pod waits, its claim has an event, and the pod starts when the folder is writable again.
    [Tags]    needs-power    needs-events    needs-attribute-numa-node
    Protect CDI Folder    ${NODES}[0]
    Start Pod On NUMA Node    waits    ${NODES}[0]    ${NUMA_NODES}[0]
    Claim Should Have Event    waits    PrepareFailed    cannot be prepared
    Unprotect CDI Folder    ${NODES}[0]
    Pod Should Still Work    waits
    [Teardown]    Undo And Check    Unprotect CDI Folder    ${NODES}[0]

Checkpoint Is Lost
    [Documentation]    The driver rebuilds it from claims, CDI files and status registers.
    [Tags]    needs-checkpoint    needs-project-agent    needs-attribute-numa-node
    [Template]    Pod Should Outlive Checkpoint
    EMPTY
    TRUNCATED
    UNKNOWN_VERSION

Driver Is Upgraded With Claims In Use
    [Documentation]    From a driver that wrote checkpoint version 1, without a gap: pods start during the update.
    [Tags]    needs-checkpoint    needs-rolling-update    needs-attribute-numa-node
    Pod Should Outlive Update From Checkpoint Version    1
    [Teardown]    Undo And Check    Reset Node Agent Settings

Driver Is Downgraded With Claims In Use
    [Documentation]    From a driver whose checkpoint this one cannot read: it is rebuilt, and nothing is lost.
    [Tags]    needs-checkpoint    needs-rolling-update    needs-attribute-numa-node
    Pod Should Outlive Update From Checkpoint Version    3
    [Teardown]    Undo And Check    Reset Node Agent Settings

Changed ResourceSlices Are Corrected
    [Tags]    needs-slice-repair    needs-one-slice-a-device
    ${pfs}    Get PFs    ${NODES}[0]
    Delete ResourceSlice Of Device    ${NODES}[0]    ${pfs[0].name}
    ResourceSlices Should Follow Sysfs
    Change ResourceSlice Of Device    ${NODES}[0]    ${pfs[1].name}
    ResourceSlices Should Follow Sysfs

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
