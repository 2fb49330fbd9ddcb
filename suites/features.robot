*** Settings ***
Name                Features
Documentation       Each feature of Kubernetes around devices, one subject a test (docs/features.md).
...
...                 A test is tagged with its feature gates and the first version that has them. It is skipped with the
...                 reason where the cluster has one of them off: ``robot --variable PROFILE:alpha`` turns all on.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Resource            ../resources/features.resource
Resource            ../resources/jobs.resource
Resource            ../resources/sriov.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           features    dra    long    needs-attribute-pci-address


*** Test Cases ***
Extended Resource By The Name That Its Class Gives It
    [Documentation]    A pod without a claim of its own asks for ``DRIVER/pf: 2``.
    [Tags]    gate-draextendedresource    since-1.34    needs-extended-resources    needs-extended-resource-pf
    Create Pod With Extended Resource    by-name    ${EXTENDED_RESOURCE.pf}    2
    Pod Should Be Running    by-name
    Pod Should Name No Claim    by-name
    Devices Of Pod Should Be Of Class    by-name    PF    count=2
    Container Should See Exactly Its Devices    by-name
    Nodes Should Agree With Allocations

Extended Resource By The Name Of Its Class
    [Documentation]    Every class offers ``deviceclass.resource.kubernetes.io/CLASS``. Each container gets its own.
    [Tags]    gate-draextendedresource    since-1.34    needs-extended-resources
    Create Pod With Extended Resource
    ...    by-class
    ...    ${EXTENDED_RESOURCE.by_class}
    ...    1
    ...    containers=${{ ["first", "second"] }}
    Pod Should Be Running    by-class
    Pod Should Name No Claim    by-class
    Devices Of Pod Should Be Of Class    by-class    PF    count=2
    Container Should See Exactly Its Devices    by-class    container=first
    Container Should See Exactly Its Devices    by-class    container=second
    Nodes Should Agree With Allocations

Admin Access Sees All Devices Of A Node And Changes Nothing
    [Documentation]    In use or not. Register, CDI file and container of the pod that uses one stay as they were.
    [Tags]    gate-draadminaccess    since-1.32    needs-admin-access    needs-attribute-numa-node
    [Setup]    Allow Admin Access
    Run Pod On NUMA Node    works    ${NODES}[0]    ${NUMA_NODES}[0]
    ${all}    Request All Devices    all    admin_access=True
    Run Pod With Request    monitor    ${all}    node=${NODES}[0]
    @{pfs}    Get PFs    ${NODES}[0]
    Devices Of Pod Should Be    monitor    @{pfs}
    Container Should See Exactly Its Devices    monitor
    Nodes Should Agree With Allocations
    Delete Pod And Its Claim    monitor
    Nodes Should Agree With Allocations
    Container Should See Exactly Its Devices    works
    [Teardown]    Clean Up And Forbid Admin Access

Admin Access Is Refused Where The Namespace Does Not Allow It
    [Tags]    gate-draadminaccess    since-1.32
    [Setup]    Forbid Admin Access
    ${all}    Request All Devices    all    admin_access=True
    ${reason}    Create Claim Should Be Refused    monitor    ${all}    because=admin access to devices requires
    Set Test Message    The API server says: ${reason}

Alternatives With Several Counts And Classes
    [Documentation]    Neither more PFs than there are nor a VF while none is enabled, but two PFs.
    [Tags]    gate-draprioritizedlist    since-1.33    needs-class-vf
    @{pfs}    Get PFs    ${NODES}[0]
    Skip If    len($pfs) < 2    no node with two PFs in this topology
    ${too_many}    Request Devices    too-many    count=${{ len($pfs) + 1 }}
    ${vf}    Request Devices    vf    device_class=VF
    ${two}    Request Devices    two    count=2
    Start Pod With Alternatives    chooses    ${NODES}[0]    ${too_many}    ${vf}    ${two}
    Pod Should Be Running    chooses
    Alternative Of Pod Should Be    chooses    either    two
    Devices Of Pod Should Be Of Class    chooses    PF    count=2
    Container Should See Exactly Its Devices    chooses

Alternative Of Another Class Comes First When It Can
    [Documentation]    The same list when VFs are enabled: the VF is taken.
    [Tags]    gate-draprioritizedlist    since-1.33    sriov    needs-class-vf    needs-follows-devices
    ${pf}    Get PF With VFs    ${NODES}[0]
    Enable And Publish VFs    ${NODES}[0]    ${pf}
    ${vf}    Request Devices    vf    device_class=VF
    ${two}    Request Devices    two    count=2
    Start Pod With Alternatives    chooses    ${NODES}[0]    ${vf}    ${two}
    Pod Should Be Running    chooses
    Alternative Of Pod Should Be    chooses    either    vf
    Devices Of Pod Should Be Of Class    chooses    VF    count=1
    [Teardown]    Clean Up And Restore Devices

Status Of A Device Belongs To Its Driver
    [Documentation]    Another driver may not write it, whatever rights it has for its own devices.
    [Tags]    gate-draresourceclaimdevicestatus
    ...       gate-draresourceclaimgranularstatusauthorization
    ...       since-1.36
    ...       needs-device-status
    Run Pod With Claim    reported
    Claim Should Report Condition    reported    Ready    True    Prepared
    Driver May Write Status Of Claim    ${DRIVER_NAME}    reported
    ${reason}    Driver May Not Write Status Of Claim    other.example.com    reported
    Claim Should Report Condition    reported    Ready    True    Prepared
    Set Test Message    The API server says: ${reason}

Status Of A Device Belongs To Its Node
    [Documentation]    The driver on another node may not write it.
    [Tags]    gate-draresourceclaimdevicestatus
    ...       gate-draresourceclaimgranularstatusauthorization
    ...       since-1.36
    ...       needs-device-status
    ...       needs-least-rights
    ...       needs-attribute-numa-node
    Skip If    len($NODES) < 2    no second node in this topology
    Run Pod On NUMA Node    elsewhere    ${NODES}[1]    ${NUMA_NODES}[0]
    ${reason}    Node Agent May Not Write Status Of Claim    ${NODES}[0]    elsewhere
    Should Contain    ${reason}    resourceclaims/driver
    Set Test Message    The API server says: ${reason}

Pool Status Agrees With Slices And Claims
    [Documentation]    Of free, allocated and tainted devices. A device with admin access only counts as free.
    [Tags]    gate-draresourcepoolstatus
    ...       api-resource.k8s.io/v1alpha3
    ...       since-1.37
    ...       needs-attribute-uuid
    ...       needs-admin-access
    [Setup]    Allow Admin Access
    Pool Status Should Agree    all-free
    @{pfs}    Get PFs    ${NODES}[0]
    Skip If    len($pfs) < 3    no node with three PFs in this topology
    Run Pod With Selected Devices    has-one    ${CEL.uuid} == "${pfs[0].uuid}"    node=${NODES}[0]
    Taint Devices By Rule    one-off    NO_SCHEDULE    node=${NODES}[0]    device=${pfs}[-1]
    ${watched}    Request Devices    watched    cel=${CEL.uuid} == "${pfs[1].uuid}"    admin_access=True
    Run Pod With Request    watches    ${watched}
    Pool Status Should Agree    some-in-use
    [Teardown]    Clean Up And Forbid Admin Access

Allocated Device With A Taint Is Not Also Unavailable
    [Documentation]    By the API, ``unavailableDevices`` has no allocated ones. Kubernetes 1.37.2 counts them twice.
    [Tags]    gate-draresourcepoolstatus
    ...       api-resource.k8s.io/v1alpha3
    ...       since-1.37
    ...       upstream
    ...       needs-attribute-uuid
    @{pfs}    Get PFs    ${NODES}[0]
    Run Pod With Selected Devices    has-one    ${CEL.uuid} == "${pfs[0].uuid}"    node=${NODES}[0]
    Taint Devices By Rule    one-off    NO_SCHEDULE    node=${NODES}[0]    device=${pfs}[0]
    Expect Failure Of Kubernetes
    ...    kubernetes/enhancements#5677, no issue of its own    Pool Status Should Agree    tainted

Pods Of A Group Share A Claim
    [Documentation]    The claim of a PodGroup is reserved for the group. It stays until the group ends, then goes.
    [Tags]    gate-genericworkload    gate-draworkloadresourceclaims    api-scheduling.k8s.io/v1beta1    since-1.37
    ${request}    Request Devices    device
    Create Claim Template    of-group    ${request}
    Create Pod Group    team    of-group    at_once=2
    Create Pod    first    template=of-group    group=team
    Create Pod    second    template=of-group    group=team
    Pods Should Be Running    first    second
    Claim Of Group Should Be Reserved For It    team    of-group
    Pods Should Have The Same Devices    first    second
    Group Should Keep Its Claim Until It Ends    team    first    second

All Devices Of A Node In One Claim
    [Documentation]    Allocation mode All waits for the last device that another claim has.
    [Tags]    since-1.34    needs-attribute-uuid
    @{pfs}    Get PFs    ${NODES}[0]
    Run Pod With Selected Devices    has-one    ${CEL.uuid} == "${pfs[0].uuid}"    node=${NODES}[0]
    ${all}    Request All Devices    all
    Create Claim    wants-all    ${all}
    Create Pod    wants-all    wants-all    node=${NODES}[0]
    ${reason}    Pod Should Stay Pending    wants-all
    Delete Pod    has-one
    Pod Should Be Running    wants-all
    Devices Of Pod Should Be    wants-all    @{pfs}
    Set Test Message    While one was taken, the scheduler said: ${reason}

Devices Of Different NUMA Nodes
    [Documentation]    ``distinctAttribute`` is met by one device of each NUMA node, and by no more.
    [Tags]    gate-draconsumablecapacity    since-1.34    numa    needs-attribute-numa-node
    Skip If    len($NUMA_NODES) < 2    no two NUMA nodes with devices in this topology
    ${each}    Request Devices    each    count=${{ len($NUMA_NODES) }}
    Create Claim    spread    ${each}    distinct_attribute=${ATTRIBUTE.numa_node}
    Create Pod    spread    spread    node=${NODES}[0]
    Pod Should Be Running    spread
    Devices Of Pod Should Be On Different NUMA Nodes    spread
    ${one_more}    Request Devices    each    count=${{ len($NUMA_NODES) + 1 }}
    Create Claim    too-many    ${one_more}    distinct_attribute=${ATTRIBUTE.numa_node}
    Create Pod    too-many    too-many    node=${NODES}[0]
    Pod Should Stay Pending    too-many

Several Requests With One Attribute In Common
    [Documentation]    ``matchAttribute`` over two requests: a PF of any kind and the largest one, on one NUMA node.
    [Tags]    since-1.34    numa    needs-attribute-numa-node    needs-capacity-memory
    ${memory}    Get Largest Memory    ${NODES}[0]
    ${largest}    Request Devices    largest    cel=${CEL.capacity_memory}.compareTo(quantity("${memory}")) >= 0
    ${any}    Request Devices    any
    Create Claim    together    ${largest}    ${any}    match_attribute=${ATTRIBUTE.numa_node}
    Create Pod    together    together    node=${NODES}[0]
    Pod Should Be Running    together
    Pod Should Have Devices    together    2
    Devices Of Pod Should Be On One NUMA Node    together
    Container Should See Exactly Its Devices    together

Several Requests Share Counters
    [Documentation]    All VFs of a card in two requests, with its PF as common attribute. The PF itself then waits.
    [Tags]    gate-drapartitionabledevices
    ...       since-1.33
    ...       sriov
    ...       needs-class-vf
    ...       needs-partitionable
    ...       needs-follows-devices
    ...       needs-attribute-parent
    ${pf}    Get PF With VFs    ${NODES}[0]
    Skip If    ${pf.total_vfs} < 2    no PF with two VFs in this topology
    Enable And Publish VFs    ${NODES}[0]    ${pf}
    ${one}    Request Devices    one    device_class=VF    cel=${CEL.parent} == "${pf.bdf}"
    ${rest}    Request Devices    rest    count=${{ $pf.total_vfs - 1 }}    device_class=VF
    Create Claim    vfs    ${one}    ${rest}    match_attribute=${ATTRIBUTE.parent}
    Create Pod    vfs    vfs    node=${NODES}[0]
    Pod Should Be Running    vfs
    Devices Of Pod Should Be Of Class    vfs    VF    count=${pf.total_vfs}
    Start And Check That It Waits    wants-pf    ${NODES}[0]    PF    ${pf.uuid}
    [Teardown]    Clean Up And Restore Devices

Claim For A PF And Its Own VF Is Never Met
    [Documentation]    Both take from the card's counters.
    [Tags]    gate-drapartitionabledevices
    ...       since-1.33
    ...       sriov
    ...       needs-class-vf
    ...       needs-pf-vf-exclusion
    ...       needs-follows-devices
    ...       needs-attribute-parent
    ...       needs-attribute-uuid
    ${pf}    Get PF With VFs    ${NODES}[0]
    Enable And Publish VFs    ${NODES}[0]    ${pf}
    ${parent}    Request Devices    parent    cel=${CEL.uuid} == "${pf.uuid}"
    ${child}    Request Devices    child    device_class=VF    cel=${CEL.parent} == "${pf.bdf}"
    Create Claim    both    ${parent}    ${child}
    Create Pod    both    both    node=${NODES}[0]
    ${reason}    Pod Should Stay Pending    both
    Set Test Message    The scheduler says: ${reason}
    [Teardown]    Clean Up And Restore Devices

Health Of A Device Has A Message In The Pod
    [Documentation]    An overheated device: the pod's status says what is wrong, in words.
    [Tags]    gate-resourcehealthstatus
    ...       gate-resourcehealthstatusmessage
    ...       since-1.36
    ...       needs-device-server
    ...       needs-health
    Run Pod With Claim    hot
    ${devices}    Get Devices Of Pod    hot
    Pod Should Report Health    hot    Healthy
    Cause Fault    ${devices[0].node}    ${devices[0].name}    TEMPERATURE    celsius=96
    Pod Should Report Health    hot    Unhealthy    message=temperature
    End Faults    ${devices[0].node}    ${devices[0].name}
    Pod Should Report Health    hot    Healthy
    [Teardown]    End Faults And Clean Up


*** Keywords ***
Start And Check That It Waits
    [Documentation]    Creates a pod ``name`` with a claim for one device, which the scheduler does not give it.
    [Arguments]    ${name}    ${node}    ${device_class}    ${uuid}
    Start Pod With Device    ${name}    ${node}    ${device_class}    ${uuid}
    Pod Should Stay Pending    ${name}

Group Should Keep Its Claim Until It Ends
    [Documentation]    With the last pod gone the claim stays reserved; with the group gone all devices are free.
    [Arguments]    ${group}    @{pods}
    FOR    ${pod}    IN    @{pods}
        Delete Pod    ${pod}
    END
    Claim Of Group Should Be Reserved For It    ${group}    of-group
    Delete Pod Group    ${group}
    Wait Until All Devices Are Free
