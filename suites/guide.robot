*** Settings ***
Name                Guide
Documentation       The commands of ``docs/guide-commands.md``, run as written, and the errors of the old ones.
Library             ../libraries/GuideLibrary.py
Resource            ../resources/cluster.resource
Resource            ../resources/sriov.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        15 minutes
Test Tags           guide    dra    needs-examples


*** Test Cases ***
Attributes Of Published Devices
    ${pfs}    Get PFs    ${NODES}[0]
    Old Listing Should Print Nothing    Attributes of published devices
    Listing Should Print    Attributes of published devices    ^mock0\\t${pfs[0].numa_node}\\t${pfs[0].uuid}$

Request Of A Claim
    Old Listing Should Be Refused    A request of a claim    unknown field "spec.devices.requests[0].deviceClassName"
    Listing Should Print    A request of a claim    created

Selector In CEL
    Old Listing Should Be Refused    A selector in CEL    compilation failed
    Listing Should Print    A selector in CEL    created
    VAR    ${cel}    device.attributes["${ATTRIBUTE.numa_node}"].intValue == 0
    ${request}    Request Devices    device    cel=${cel}
    Create Claim    old-selector    ${request}
    Create Pod    old-selector    old-selector
    Pod Should Stay Pending    old-selector    because=no such key: intValue

Command On A Node
    ${pfs}    Get PFs    ${NODES}[0]
    Listing Should Print    A command on a node    ^${pfs[0].uuid}$    ^${pfs[-1].uuid}$

Containers, Images And Logs Of A Node
    Listing Should Print    Containers and images of a node
    ...    localhost/mock-device/mock-accel-dra-driver:dev
    ...    ^localhost/mock-device/busybox:1$
    Listing Should Print    Logs of a node    (kubelet|containerd)\\[\\d+\\]:

A Container In Your Own Namespace
    ${pfs}    Get PFs    ${NODES}[0]
    Listing Should Print    A container of one's own    ^${{ len($pfs) }}$
    [Teardown]    End Series And Clean Up

Links Of All Devices In A Container
    Get PF With VFs    ${NODES}[0]
    Enable All VFs    ${NODES}[0]
    ResourceSlices Should Follow Sysfs
    Apply Example    sriov-vf-allocation
    Pod Should Be Running    sriov-vf-test
    Listing Should Print    Links of all devices in a container    ^1$
    [Teardown]    Clean Up And Restore Devices

How Long A Read Takes
    Apply Example    basic-allocation
    Pod Should Be Running    basic-allocation-test
    ${devices}    Get Devices Of Pod    basic-allocation-test
    VAR    ${uuid}    ${devices[0].published.attribute('uuid')}
    Listing Should Print    How long a read takes    ^${uuid}$    ^real \\d

Series Of Pods By Label
    Listing Should Print    A series of pods by label
    ...    ^pod/guide-batch-1\\s
    ...    ^pod/guide-batch-2\\s
    ...    ^resourceclaim.resource.k8s.io/guide-batch-1-accelerator-\\w+\\s+allocated,reserved
    Listing Should Print    End of a series    "guide-batch-2" deleted
    Wait Until All Devices Are Free
    [Teardown]    End Series And Clean Up

Devices That The Controller Counts
    ${all}    Count PFs
    Listing Should Print    Devices that the controller counts    Discovered ${all} devices


*** Keywords ***
End Series And Clean Up
    [Documentation]    Deletes pods and claims of the guide's series, then everything else.
    Listing Should Print    End of a series
    Clean Up And Check That Nothing Leaks
