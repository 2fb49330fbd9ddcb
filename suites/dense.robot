*** Settings ***
Name                Dense
Documentation       A node with a hundred devices: all are found, published and allocated, as on a node with six.
Resource            ../resources/cluster.resource
Resource            ../resources/devices.resource
Resource            ../resources/claims.resource
Resource            ../resources/numa.resource
Suite Setup         Borrow Cluster    dense
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           dense    dra


*** Variables ***
# Most devices of one claim (resource.k8s.io/v1, AllocationResultsMaxSize).
${MOST_DEVICES_OF_A_CLAIM}    32


*** Test Cases ***
Guest PCI Bus Agrees With Topology
    [Tags]    agreement
    Guest PCI Bus Should Agree With Topology On NUMA Nodes

Sysfs Agrees With Topology
    [Tags]    agreement
    Sysfs Should Agree With Topology On NUMA Nodes

ResourceSlices Agree With Topology
    [Tags]    agreement    needs-attribute-numa-node    needs-attribute-pci-address
    ResourceSlices Should Agree With Topology On NUMA Nodes

As Many Devices As A Claim May Have
    [Documentation]    The pod's container sees all of them and no others.
    ${many}    Request Devices    many    count=${MOST_DEVICES_OF_A_CLAIM}
    Create Claim    many    ${many}
    Create Pod    many    many
    Pod Should Be Running    many
    Pod Should Have Devices    many    ${MOST_DEVICES_OF_A_CLAIM}
    Container Should See Exactly Its Devices    many
    Nodes Should Agree With Allocations

Full NUMA Node Makes The Next Claim Wait
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-address
    Full NUMA Node Should Make The Next Claim Wait    ${NODES}[0]    ${NUMA_NODES}[-1]
