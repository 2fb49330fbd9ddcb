*** Settings ***
Name                Driver Features
Documentation       Features of Kubernetes that need more of the driver (docs/driver.md, "Optional features").
...
...                 Each test turns on what it needs and restores the driver's settings. The tags are those of
...                 ``suites/features.robot``.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Resource            ../resources/driver-features.resource
Resource            ../resources/jobs.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Turn Off Features
Test Timeout        30 minutes
Test Tags           features    dra    long    needs-project-agent    needs-attribute-uuid


*** Test Cases ***
Claims Share A Device By Memory
    [Documentation]    Half and a quarter of a device. A third claim for half of it waits until there is room.
    [Tags]    gate-draconsumablecapacity    since-1.34
    [Setup]    Turn On Features And Load Tools    ConsumableCapacity
    @{pfs}    Get PFs    ${NODES}[0]
    Run Pod With Share    half    ${pfs}[0]    8
    Run Pod With Share    quarter    ${pfs}[0]    4
    Claims Should Share A Device    half    quarter
    Claim Should Report Its Share    quarter
    Start Pod With Share    waits    ${pfs}[0]    8
    ${reason}    Pod Should Stay Pending    waits
    Delete Pod And Its Claim    half
    Pod Should Be Running    waits
    Set Test Message    While the device was shared, the scheduler said: ${reason}

Container Uses No More Than Its Share Of A Device
    [Documentation]    Of the device's window it sees its part only, in which its jobs work, and nobody else's data.
    [Tags]    gate-draconsumablecapacity    since-1.34
    [Setup]    Turn On Features And Load Tools    ConsumableCapacity
    @{pfs}    Get PFs    ${NODES}[0]
    Run Pod With Share    first    ${pfs}[0]    8
    Run Pod With Share    second    ${pfs}[0]    4
    Window Of Pod Should Be    first    ${pfs}[0]    8
    Window Of Pod Should Be    second    ${pfs}[0]    4
    Copy Should Be Right    first    ${PAGE}    --window
    Device Memory Should Be Empty    second
    Copy Should Be Right    second    ${PAGE}    --window

Pod Waits Until Its Device Is Attached
    [Documentation]    While no agent runs, nothing attaches the device: the claim is allocated, the pod is not bound.
    [Tags]    gate-dradevicebindingconditions    since-1.34
    [Setup]    Turn On Features And Load Tools    BindingConditions
    Send Node Agents Away
    Wait Until No Node Agent Runs
    Start Pod With Claim    attached
    Claim Should Wait For Attachment    attached
    Bring Node Agents Back
    Pod Should Be Running    attached
    Claim Should Report Condition    attached    ${DRIVER_NAME}/Attached    True    Attached
    Container Should See Exactly Its Devices    attached
    [Teardown]    Bring Agents Back And Turn Off Features

Container Finds The Attributes Of Its Devices In A File
    [Documentation]    Device metadata: a file of Kubernetes' format at the path that upstream's library uses.
    [Tags]    since-1.36
    [Setup]    Turn On Features And Load Tools    DeviceMetadata
    ${two}    Request Devices    pair    count=2
    Create Claim    described    ${two}
    Create Pod    described    described
    Pod Should Be Running    described
    Container Should Find Metadata    described    described    pair
    Container Should See Exactly Its Devices    described
