*** Settings ***
Name                Helm
Documentation       The chart is installed, upgraded, rolled back and uninstalled while a claim is in use.
...
...                 The pod keeps its container and its device each time, and nothing is lost. Afterwards the driver is
...                 deployed by the plain manifests again. docs/how-to/helm.md has the commands.
Resource            ../resources/helm.resource
Suite Setup         Borrow Cluster
Suite Teardown      Restore Plain Manifests And Return Cluster
Test Setup          Release Should Be Installed    ${ALL_AT_ONCE}
Test Teardown       Clean Up And Check That Nothing Was Lost
Test Timeout        30 minutes
# needs-console: only where the lab has deployed the driver, which is replaced here.
Test Tags           helm    dra    long    needs-console    needs-project-chart    needs-attribute-numa-node


*** Test Cases ***
Release Takes Over The Plain Manifests
    [Documentation]    The chart renders what is deployed, so that no pod of the driver is replaced.
    [Setup]    Restore Plain Manifests
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    ${uids}    Get UIDs Of Driver Pods
    Pod Should Not Notice    keeps    Release Should Be Installed
    No Driver Pod Should Be Replaced    ${uids}

Upgrades Are Rolled Back
    [Documentation]    A changed value, a changed image, and back to the first revision.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    ${revision}    Get Revision Of Release
    Pod Should Not Notice    keeps    Upgrade Release    ${ALL_AT_ONCE}    nodeAgent.verbosity=5
    Node Agents Should Have Variable    V    5
    Tag Driver Image    next
    Pod Should Not Notice    keeps    Upgrade Release    ${ALL_AT_ONCE}    driver.image.tag=next
    Driver Pods Should Have Image Tag    next
    Pod Should Not Notice    keeps    Roll Back Release    ${revision}
    Driver Pods Should Have Image Tag    dev
    [Teardown]    Undo And Check    Remove Tag Of Driver Image    next

Wrong Value Is Refused Before Anything Changes
    ${uids}    Get UIDs Of Driver Pods
    ${revision}    Get Revision Of Release
    Upgrade Of Release Should Fail    /module/loader    module.loader=floppy
    ${now}    Get Revision Of Release
    Should Be Equal As Integers    ${now}    ${revision}
    No Driver Pod Should Be Replaced    ${uids}

Broken Upgrade Is Rolled Back
    [Documentation]    The node agents cannot start with this value. The old ones serve until Helm has rolled back.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Pod Should Not Notice    keeps    Upgrade Of Release Should Fail    rolled back
    ...    ${ALL_AT_ONCE}
    ...    nodeAgent.env[0].name=RESCAN_INTERVAL
    ...    nodeAgent.env[0].value=never
    Driver Pods Should Be Running
    New Pod Should Work    comes-later    ${NODES}[0]

Claim Outlives The Release
    [Documentation]    Without a driver its pod keeps the device. A pod that is deleted then waits for the next release,
    ...    which frees the pod's device.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Run Pod On NUMA Node    ends    ${NODES}[0]    ${NUMA_NODES}[0]
    Devices Should Stay Allocated Without The Driver    keeps
    Start Deleting Pod    ends
    Pod Should Not Notice    keeps    Release Should Be Installed    ${ALL_AT_ONCE}
    Wait Until Pod Is Gone    ends
    Pod Should Still Work    keeps
