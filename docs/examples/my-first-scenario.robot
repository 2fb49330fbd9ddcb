*** Settings ***
Name                My First Scenario
Documentation       Pods get accelerators and release them.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        15 minutes
Test Tags           my-first-scenario


*** Test Cases ***
Pod Gets The Devices That It Asks For
    [Documentation]    Two of them, and its container sees these two and no others.
    ${two}    Request Devices    pair    count=2
    Create Claim    pair    ${two}
    Create Pod    pair    pair
    Pod Should Be Running    pair    timeout=3 minutes
    Pod Should Have Devices    pair    2
    Container Should See Exactly Its Devices    pair
    Nodes Should Agree With Allocations

Two Pods Have Different Devices
    Run Pod With Claim    first
    Run Pod With Claim    second
    Pods Should Have Different Devices    first    second

Device Is Free Again When Its Pod Is Gone
    Run Pod With Claim    short-lived
    Delete Pod    short-lived
    Claim Should Be Free    short-lived


*** Keywords ***
Claim Should Be Free
    [Documentation]    Nothing is allocated to claim ``name``, and no device of the cluster is marked as allocated.
    [Arguments]    ${name}
    Wait Until All Devices Are Free
    Claim Should Have No Devices    ${name}
