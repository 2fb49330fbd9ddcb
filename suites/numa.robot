*** Settings ***
Name                NUMA
Documentation       Devices, claims and pods are on the NUMA nodes that the topology declares.
...
...                 Expected values come from the topology of the cluster that the suite runs on.
Resource            ../resources/cluster.resource
Resource            ../resources/devices.resource
Resource            ../resources/claims.resource
Resource            ../resources/numa.resource
Suite Setup         Borrow Cluster    numa
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           numa    dra


*** Test Cases ***
Nodes Are Ready And Run Containers By The Profile's Runtime
    [Documentation]    environment.robot checks more of what the nodes need.
    Nodes Should Be Ready
    Default Container Runtime Should Be As In The Profile

Guest PCI Bus Agrees With Topology
    [Documentation]    Three tests compare each device's NUMA node, one for each layer. The test that fails names the
    ...    broken layer; tests of later layers are skipped.
    [Tags]    agreement
    Guest PCI Bus Should Agree With Topology On NUMA Nodes

Sysfs Agrees With Topology
    [Documentation]    The kernel module's ``/sys/class/mock-accel``.
    [Tags]    agreement
    Sysfs Should Agree With Topology On NUMA Nodes

ResourceSlices Agree With Topology
    [Documentation]    The devices that the DRA driver publishes to the scheduler.
    [Tags]    agreement    needs-attribute-numa-node    needs-attribute-pci-address
    ResourceSlices Should Agree With Topology On NUMA Nodes

Two Devices Share A NUMA Node
    [Documentation]    ``docs/examples/numa-locality.yaml``, as a reader would apply it.
    [Tags]    needs-examples
    Apply Example    numa-locality
    Pod Should Be Running    numa-locality-test
    Pod Should Have Devices    numa-locality-test    2
    Devices Of Pod Should Share Attribute    numa-locality-test    ${ATTRIBUTE.numa_node}
    Devices Of Pod Should Be On One NUMA Node    numa-locality-test
    Container Should See Exactly Its Devices    numa-locality-test
    Nodes Should Agree With Allocations

Claim Pinned To Each NUMA Node In Turn
    [Documentation]    A CEL selector picks the NUMA node.
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-address
    [Template]    Claim Pinned To NUMA Node Should Get A Device There
    ${NUMA_NODES}[0]
    ${NUMA_NODES}[-1]

Claim Across NUMA Nodes Gets A Device Of Each
    [Documentation]    Two requests of one claim, each with its own CEL selector.
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-address
    ${near}    Request Devices    near    numa_node=${NUMA_NODES}[0]
    ${far}    Request Devices    far    numa_node=${NUMA_NODES}[-1]
    Create Claim    cross-numa    ${near}    ${far}
    Create Pod    cross-numa    cross-numa
    Pod Should Be Running    cross-numa
    Devices Of Pod Should Be On NUMA Node    cross-numa    ${NUMA_NODES}[0]    request=near
    Devices Of Pod Should Be On NUMA Node    cross-numa    ${NUMA_NODES}[-1]    request=far
    Container Should See Exactly Its Devices    cross-numa
    Nodes Should Agree With Allocations

Full NUMA Node Makes The Next Claim Wait
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-address
    Full NUMA Node Should Make The Next Claim Wait    ${NODES}[0]    ${NUMA_NODES}[0]

Pair On One NUMA Node Is Found Beside Taken Devices
    [Documentation]    With one device of each NUMA node taken, a claim for two devices of one NUMA node is met.
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-address
    Run Pod On NUMA Node    takes-near    ${NODES}[0]    ${NUMA_NODES}[0]
    Run Pod On NUMA Node    takes-far    ${NODES}[0]    ${NUMA_NODES}[-1]
    ${two}    Request Devices    pair    count=2
    Create Claim    pair    ${two}    match_attribute=${ATTRIBUTE.numa_node}
    Create Pod    pair    pair    node=${NODES}[0]
    Pod Should Be Running    pair
    Pod Should Have Devices    pair    2
    Devices Of Pod Should Be On One NUMA Node    pair
    Container Should See Exactly Its Devices    pair
    Nodes Should Agree With Allocations
