*** Settings ***
Name                SR-IOV
Documentation       ``sriov_numvfs`` enables and disables virtual functions, which pods get instead of their parent.
...
...                 The topology says which PFs have VFs, and how many.
Resource            ../resources/cluster.resource
Resource            ../resources/sriov.resource
Suite Setup         Borrow Cluster    sriov
Suite Teardown      Return Cluster
Test Setup          Choose PF With VFs
Test Teardown       Clean Up And Restore Devices
Test Timeout        30 minutes
Test Tags    sriov
...          dra
...          needs-class-vf
...          needs-follows-devices
...          needs-attribute-pci-address
...          needs-attribute-uuid


*** Test Cases ***
PFs Say How Many VFs They Can Have
    [Documentation]    ``sriov_totalvfs`` of every PF, with or without VFs, is as in the topology.
    No VF Should Be Enabled

Exactly The Enabled VFs Are Published
    [Documentation]    In sysfs, with links ``physfn`` and ``virtfnN``, and in ResourceSlices, with all attributes.
    [Template]    Enabled VFs Should Be Published
    ${NODES}[0]    ${PF}    1
    ${NODES}[0]    ${PF}    ${PF.total_vfs}
    ${NODES}[0]    ${PF}    0

Number Of Enabled VFs Changes Only From And To Zero
    [Documentation]    As the kernel documents it: any other change is refused with "Device or resource busy".
    [Setup]    Choose PF With VFs And Enable All
    Skip If    ${PF.total_vfs} < 2    no PF with two VFs in this topology
    Number Of VFs Should Be Refused    ${NODES}[0]    ${PF}    1    because=IN_USE
    Only These VFs Should Be Enabled    ${NODES}[0]    ${PF}    ${PF.total_vfs}
    Enabled VFs Should Be Published    ${NODES}[0]    ${PF}    0

Number Out Of Range Is Refused
    [Documentation]    With "Invalid argument"; enabled VFs stay enabled.
    [Setup]    Choose PF With VFs And Enable All
    [Template]    Number Out Of Range Should Be Refused
    ${{ $PF.total_vfs + 1 }}
    -1
    many

PF Without VFs Refuses To Enable One
    ${other}    Get PF Without VFs    ${NODES}[0]
    Number Of VFs Should Be Refused    ${NODES}[0]    ${other}    1    because=OUT_OF_RANGE
    No VF Should Be Enabled

VFs Stay While One Is Allocated
    [Documentation]    Disabling is refused with "Device or resource busy", and the pod keeps its device.
    [Tags]    needs-status-register
    [Setup]    Choose PF With VFs And Enable All
    Run Pod With Device    keeps-vf    ${NODES}[0]    VF    ${VFS[0].uuid}
    Number Of VFs Should Be Refused    ${NODES}[0]    ${PF}    0    because=IN_USE
    Only These VFs Should Be Enabled    ${NODES}[0]    ${PF}    ${PF.total_vfs}
    Container Should See Exactly Its Devices    keeps-vf
    Nodes Should Agree With Allocations
    Delete Pod    keeps-vf
    Wait Until All Devices Are Free
    Enabled VFs Should Be Published    ${NODES}[0]    ${PF}    0

Two VFs Of One Parent
    [Documentation]    ``docs/examples/sriov-vf-allocation.yaml``, as a reader would apply it.
    ...
    ...    The container finds the parent behind ``device/physfn``.
    [Tags]    needs-examples
    Enable All VFs    ${NODES}[0]
    ResourceSlices Should Follow Sysfs
    Apply Example    sriov-vf-allocation
    Pod Should Be Running    sriov-vf-test
    Devices Of Pod Should Be Of Class    sriov-vf-test    VF    count=2
    Devices Of Pod Should Share Attribute    sriov-vf-test    ${ATTRIBUTE.parent}
    Container Should See Exactly Its Devices    sriov-vf-test
    Nodes Should Agree With Allocations

PF And VF Of Different Cards
    [Documentation]    ``docs/examples/mixed-pf-vf.yaml``: one claim has a PF, and a VF of another PF.
    [Tags]    needs-examples
    Enable All VFs    ${NODES}[0]
    ResourceSlices Should Follow Sysfs
    Apply Example    mixed-pf-vf
    Pod Should Be Running    mixed-pf-vf-test
    Devices Of Pod Should Be Of Class    mixed-pf-vf-test    PF    count=1    request=pf
    Devices Of Pod Should Be Of Class    mixed-pf-vf-test    VF    count=1    request=vf
    Pod Should Not Have Parent And Child    mixed-pf-vf-test
    Container Should See Exactly Its Devices    mixed-pf-vf-test
    Nodes Should Agree With Allocations

PF Of An Allocated VF Is Not Allocated
    [Tags]    needs-pf-vf-exclusion
    [Setup]    Choose PF With VFs And Enable All
    Run Pod With Device    has-vf    ${NODES}[0]    VF    ${VFS[-1].uuid}
    Start Pod With Device    wants-pf    ${NODES}[0]    PF    ${PF.uuid}
    ${reason}    Pod Should Stay Pending    wants-pf
    Set Test Message    While the VF was taken, the scheduler said: ${reason}
    Delete Pod    has-vf
    Pod Should Be Running    wants-pf
    Devices Of Pod Should Be    wants-pf    ${PF}
    Nodes Should Agree With Allocations

VFs Of An Allocated PF Are Not Allocated
    [Documentation]    Not even when they are enabled after the PF was allocated.
    [Tags]    needs-pf-vf-exclusion
    Run Pod With Device    has-pf    ${NODES}[0]    PF    ${PF.uuid}
    Enable And Publish VFs    ${NODES}[0]    ${PF}
    Start Pod With Device    wants-vf    ${NODES}[0]    VF    ${VFS[0].uuid}
    ${reason}    Pod Should Stay Pending    wants-vf
    Set Test Message    While the PF was taken, the scheduler said: ${reason}
    Delete Pod    has-pf
    Pod Should Be Running    wants-vf
    Devices Of Pod Should Be    wants-vf    ${VFS}[0]
    Container Should See Exactly Its Devices    wants-vf
    Nodes Should Agree With Allocations

Claim For A VF Waits Until VFs Are Enabled
    Start Pod With Device    early    ${NODES}[0]    VF    ${VFS[0].uuid}
    Pod Should Stay Pending    early
    Enable And Publish VFs    ${NODES}[0]    ${PF}
    Pod Should Be Running    early
    Devices Of Pod Should Be    early    ${VFS}[0]
    Container Should See Exactly Its Devices    early

VFs Of One Parent Go To Different Pods
    [Documentation]    VFs exclude their parent, but not each other.
    [Setup]    Choose PF With VFs And Enable All
    Run Pod With Device    first    ${NODES}[0]    VF    ${VFS[0].uuid}
    Run Pod With Device    last    ${NODES}[0]    VF    ${VFS[-1].uuid}
    Container Should See Exactly Its Devices    first
    Container Should See Exactly Its Devices    last
    Nodes Should Agree With Allocations


*** Keywords ***
Choose PF With VFs
    [Documentation]    Sets ``${PF}``, a PF with VFs of the first node, and ``@{VFS}``, its VFs.
    ${pf}    Get PF With VFs    ${NODES}[0]
    ${vfs}    Get VFs Of    ${NODES}[0]    ${pf}
    VAR    ${PF}    ${pf}    scope=TEST
    VAR    @{VFS}    @{vfs}    scope=TEST

Choose PF With VFs And Enable All
    [Documentation]    Like `Choose PF With VFs`, and enables and publishes all of them.
    Choose PF With VFs
    Enable And Publish VFs    ${NODES}[0]    ${PF}

Number Out Of Range Should Be Refused
    [Documentation]    ``number`` VFs are refused, and all VFs of ``${PF}`` stay enabled.
    [Arguments]    ${number}
    Number Of VFs Should Be Refused    ${NODES}[0]    ${PF}    ${number}    because=OUT_OF_RANGE
    Only These VFs Should Be Enabled    ${NODES}[0]    ${PF}    ${PF.total_vfs}
