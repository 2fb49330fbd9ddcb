*** Settings ***
Name                Taints
Documentation       Taints of devices, by the driver and by DeviceTaintRules of an administrator (docs/features.md).
...
...                 Who tolerates them, who waits, and who is evicted. Tests are tagged like those of suite Features.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Resource            ../resources/features.resource
Resource            ../resources/jobs.resource
Resource            ../resources/sriov.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           features    taints    dra    long    gate-dradevicetaints    needs-attribute-pci-address


*** Test Cases ***
Taint By Rule Keeps New Pods Off
    [Documentation]    NoSchedule: who has a device keeps it, who tolerates the taint gets one, all others wait.
    [Tags]    gate-dradevicetaintrules    since-1.37
    Run Pod With Claim    has-one
    Taint Devices By Rule    maintenance    NO_SCHEDULE
    Start Pod With Claim    waits
    ${reason}    Pod Should Stay Pending    waits
    Run Pod With Toleration    tolerates    ${NODES}[0]
    Pod Should Be Running    has-one
    Delete Taint Rule    maintenance
    Pod Should Be Running    waits
    Set Test Message    While the devices were tainted, the scheduler said: ${reason}

Taint By Rule Evicts Pods
    [Documentation]    NoExecute: only who tolerates the taint stays, and the rule reports the eviction.
    [Tags]    gate-dradevicetaintrules    since-1.37
    Run Pod With Claim    must-go
    Run Pod With Toleration    stays    ${NODES}[0]    effect=NO_EXECUTE
    Taint Devices By Rule    broken    NO_EXECUTE
    Pod Should Be Evicted    must-go
    Taint Rule Should Report    broken    False    Completed
    Wait Until Pod Is Gone    must-go
    Pod Should Not Be Evicted    stays
    Container Should See Exactly Its Devices    stays
    Claim Should Have No Devices    must-go
    Nodes Should Agree With Allocations

Taint By Rule Evicts A Pod With An Extended Resource
    [Documentation]    Its claim is in the pod's status only.
    [Tags]    gate-draextendedresource
    ...       gate-dradevicetaintrules
    ...       since-1.37
    ...       needs-extended-resources
    ...       needs-extended-resource-pf
    Create Pod With Extended Resource    extended    ${EXTENDED_RESOURCE.pf}    1
    Pod Should Be Running    extended
    Taint Devices By Rule    broken    NO_EXECUTE
    Pod Should Be Evicted    extended
    Wait Until Pod Is Gone    extended

Toleration Of All Effects Tolerates An Eviction
    [Documentation]    By the API, an empty effect matches all effects. Kubernetes 1.37.2 gives such a claim the tainted
    ...    device, and evicts its pod.
    [Tags]    gate-dradevicetaintrules    since-1.37    upstream
    Run Pod With Claim    must-go
    Run Pod With Toleration    stays    ${NODES}[0]
    Taint Devices By Rule    broken    NO_EXECUTE
    Pod Should Be Evicted    must-go
    Taint Rule Should Report    broken    False    Completed
    Expect Failure Of Kubernetes
    ...    kubernetes/enhancements#5055, no issue of its own    Pod Should Not Be Evicted    stays

Toleration Seconds Delay The Eviction
    [Documentation]    A pod that tolerates NoExecute for a while runs that long, by the API server's clock.
    [Tags]    gate-dradevicetaintrules    since-1.37
    Run Pod With Toleration    ends-later    ${NODES}[0]    effect=NO_EXECUTE    seconds=30
    Taint Devices By Rule    ending    NO_EXECUTE
    Taint Rule Should Report    ending    True    PodsPendingEviction
    Pod Should Be Evicted After    ends-later    ending    30
    Taint Rule Should Report    ending    False    Completed
    Wait Until Pod Is Gone    ends-later

Taint Of One Device Leaves The Others
    [Documentation]    A rule for a single device of a node: a claim for all others is met, one for it is not.
    [Tags]    gate-dradevicetaintrules    since-1.37    needs-attribute-uuid
    @{pfs}    Get PFs    ${NODES}[0]
    Skip If    len($pfs) < 2    no node with two PFs in this topology
    Taint Devices By Rule    one    NO_SCHEDULE    node=${NODES}[0]    device=${pfs}[0]
    ${others}    Request Devices    others    count=${{ len($pfs) - 1 }}
    Run Pod With Request    others    ${others}    node=${NODES}[0]
    Devices Of Pod Should Be    others    @{pfs}[1:]
    Start Pod With Device    wants-it    ${NODES}[0]    PF    ${pfs[0].uuid}
    Pod Should Stay Pending    wants-it
    Delete Taint Rule    one
    Pod Should Be Running    wants-it

Taint By The Driver Keeps New Pods Off
    [Documentation]    The driver taints a device that is too hot with NoSchedule: its pod goes on, others wait.
    [Tags]    since-1.36    needs-device-server    needs-taints
    @{pfs}    Get PFs    ${NODES}[0]
    Cause Fault    ${NODES}[0]    ${pfs[0].name}    TEMPERATURE    celsius=96
    Device Should Be Tainted    ${NODES}[0]    ${pfs[0].name}    Hot
    Start Pod With Device    waits    ${NODES}[0]    PF    ${pfs[0].uuid}
    ${reason}    Pod Should Stay Pending    waits
    End Faults    ${NODES}[0]    ${pfs[0].name}
    Device Should Not Be Tainted    ${NODES}[0]    ${pfs[0].name}
    Pod Should Be Running    waits
    Set Test Message    While the device was hot, the scheduler said: ${reason}
    [Teardown]    End Faults And Clean Up
