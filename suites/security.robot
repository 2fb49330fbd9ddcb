*** Settings ***
Name                Security
Documentation       What pods, containers, node agents and other users of a node must not be able to do.
Library             ../libraries/PluginLibrary.py
Library             ../libraries/SecurityLibrary.py
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           security    dra


*** Test Cases ***
Pod Without A Claim Gets Nothing
    Create Pod    without-claim    node=${NODES}[0]
    Pod Should Be Running    without-claim
    Container Should Have No Device Of Its Own    without-claim
    Container Should Not Write Any Attribute    without-claim
    Status Registers Should Mark    ${{ [] }}

Container Cannot Write An Attribute
    [Documentation]    It can write neither its device's nor another device's, by any path in sysfs.
    [Tags]    needs-attribute-numa-node
    Run Pod On NUMA Node    has-one    ${NODES}[0]    ${NUMA_NODES}[0]
    Container Should Not Write Any Attribute    has-one
    Nodes Should Agree With Allocations

Root In A Container Sees Exactly Its Devices And Writes None
    [Documentation]    User 0 of the node, with the capabilities that the runtime gives by default.
    [Template]    Root In A Container Should See Exactly Its Devices And Write None
    crun
    runc

Pod In A User Namespace Sees Exactly Its Devices
    [Documentation]    With ``hostUsers: false``, the container's root is an ordinary user of the node.
    Skip Unless Pods Can Have Users Of Their Own    ${NODES}[0]
    ${request}    Request Devices    devices    count=2
    Create Claim    own-users    ${request}
    Create Pod    own-users    own-users    node=${NODES}[0]    host_users=${False}
    Pod Should Be Running    own-users
    Pod Should Have Devices    own-users    2
    Container Should Have Users Of Its Own    own-users
    Container Should See Exactly Its Devices    own-users
    Container Should Not Write Any Attribute    own-users
    Nodes Should Agree With Allocations

Node Agent Publishes For Its Own Node Only
    [Tags]    two-nodes    needs-least-rights
    Skip If    len($NODES) < 2    no second node in this topology
    Node Agent May Publish    ${NODES}[0]    ${NODES}[0]
    Node Agent May Not Publish    ${NODES}[0]    ${NODES}[1]
    ${reason}    Node Agent May Not Delete Slices Of    ${NODES}[0]    ${NODES}[1]
    Set Test Message    The API server says: ${reason}

Token Without A Node Publishes Nothing
    [Documentation]    A token of the node agents' service account that is bound to no pod.
    [Tags]    needs-least-rights
    ${reason}    Node Agent May Not Publish    ${None}    ${NODES}[0]
    Set Test Message    The API server says: ${reason}

Node Agent Writes The Status Of Its Own Claims Only
    [Tags]    two-nodes    needs-least-rights    needs-device-status    needs-attribute-numa-node
    Skip If    len($NODES) < 2    no second node in this topology
    Run Pod On NUMA Node    elsewhere    ${NODES}[1]    ${NUMA_NODES}[0]
    ${reason}    Node Agent May Not Write Status Of Claim    ${NODES}[0]    elsewhere
    Set Test Message    The API server says: ${reason}

Claim Of Another UID Is Not Prepared
    [Documentation]    A claim that was replaced by another one with the same name gets no device for the old one's pod.
    [Tags]    needs-claim-identity    needs-attribute-numa-node
    Run Pod On NUMA Node    has-one    ${NODES}[0]    ${NUMA_NODES}[0]
    ${reason}    Prepare Of Another UID Should Be Refused    has-one
    Nodes Should Agree With Allocations
    Set Test Message    The node agent says: ${reason}

Node Agent Has No Other Rights
    [Tags]    needs-least-rights
    Node Agent Should Have No Other Rights    ${NODES}[0]

Only Root Can Use The Driver's Sockets
    [Tags]    needs-attribute-numa-node
    [Setup]    Run Pod On NUMA Node    makes-a-checkpoint    ${NODES}[0]    ${NUMA_NODES}[0]
    Plugin Sockets Should Be Accessible To Root Only    ${NODES}[0]


*** Keywords ***
Skip Unless Pods Can Have Users Of Their Own
    [Documentation]    Needs a default runtime on ``node`` that supports ID-mapped mounts: crun, or runc 1.2 and newer.
    [Arguments]    ${node}
    ${runtimes}    Get Runtimes With User Namespaces    ${node}
    Skip If    '' not in $runtimes    the default runtime of ${node} does not support user namespaces

Root In A Container Should See Exactly Its Devices And Write None
    [Documentation]    Runs the container by the OCI runtime ``runtime``, if the node has it.
    [Arguments]    ${runtime}
    ${runtimes}    Get Runtimes    ${NODES}[0]
    Skip If    $runtime not in $runtimes    ${NODES}[0] has no ${runtime}
    ${request}    Request Devices    devices    count=2
    Create Claim    root-${runtime}    ${request}
    Create Pod    root-${runtime}    root-${runtime}    node=${NODES}[0]    as_root=${True}    runtime=${runtime}
    Pod Should Be Running    root-${runtime}
    Pod Should Have Devices    root-${runtime}    2
    Container Should See Exactly Its Devices    root-${runtime}
    Container Should Not Write Any Attribute    root-${runtime}
    Nodes Should Agree With Allocations
