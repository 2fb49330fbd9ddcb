*** Settings ***
Name                Dense
Documentation       A node with a hundred devices: all are found, published and given away like six are.
Resource            ../resources/cluster.resource
Resource            ../resources/devices.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster    dense
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           dense    dra


*** Variables ***
# resource.k8s.io/v1, AllocationResultsMaxSize: what the results of one claim may have.
${MOST_DEVICES_OF_A_CLAIM}    32


*** Test Cases ***
Guest PCI Bus Agrees With Topology
    [Tags]    agreement
    Guest PCI Bus Should Agree With Topology On NUMA Nodes

Sysfs Agrees With Topology
    [Tags]    agreement
    Sysfs Should Agree With Topology On NUMA Nodes

ResourceSlices Agree With Topology
    [Tags]    agreement
    ResourceSlices Should Agree With Topology On NUMA Nodes

As Many Devices As A Claim May Have
    [Documentation]    One pod has them all, and sees them and no other.
    ${many}    Request Devices    many    count=${MOST_DEVICES_OF_A_CLAIM}
    Create Claim    many    ${many}
    Create Pod    many    many
    Pod Should Be Running    many
    Pod Should Have Devices    many    ${MOST_DEVICES_OF_A_CLAIM}
    Container Should See Exactly Its Devices    many
    Nodes Should Agree With Allocations

All Devices Of A NUMA Node
    [Documentation]    The last NUMA node has fewer than a claim may have: they fit into one, and one more waits.
    ${all}    Count PFs On NUMA Node    ${NODES}[0]    ${NUMA_NODES}[-1]
    Run Pod On NUMA Node    takes-all    ${NODES}[0]    ${NUMA_NODES}[-1]    count=${all}
    Devices Of Pod Should Be On NUMA Node    takes-all    ${NUMA_NODES}[-1]
    Start Pod On NUMA Node    one-more    ${NODES}[0]    ${NUMA_NODES}[-1]
    Pod Should Stay Pending    one-more
    Delete Pod    takes-all
    Pod Should Be Running    one-more
    Nodes Should Agree With Allocations
