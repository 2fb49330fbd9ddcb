*** Settings ***
Name                Resilience Nodes
Documentation       Kubelet, container runtime and nodes restart, lose power, or lose the API server.
...
...                 No claim is lost, no device has two claims, nothing is left. docs/driver.md says what the driver
...                 does in each case.
Resource            ../resources/crashes.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Was Lost
Test Timeout        45 minutes
Test Tags           resilience    dra    long    needs-power    needs-recovery    needs-attribute-numa-node


*** Test Cases ***
Kubelet Restarts
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Restart Kubelet    ${NODES}[0]
    ResourceSlices Should Follow Sysfs    timeout=5 minutes
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Containerd Restarts
    [Documentation]    On nodes of k3s the kubelet restarts with it.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Restart Containerd    ${NODES}[0]
    ResourceSlices Should Follow Sysfs    timeout=5 minutes
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Node Reboots With Pods
    [Documentation]    A reboot loses what was prepared; when the pods restart, it is prepared again.
    Run Pod On NUMA Node    before    ${NODES}[0]    ${NUMA_NODES}[0]
    Reboot Node    ${NODES}[0]
    Driver Pods Should Be Running    timeout=10 minutes
    ResourceSlices Should Follow Sysfs    timeout=10 minutes
    Delete Pod    before
    Wait Until All Devices Are Free
    New Pod Should Work    after    ${NODES}[0]

Node Loses Power
    [Documentation]    Nothing is stopped or synced. Node, driver and pods recover without help, and soon.
    [Tags]    needs-metrics
    Run Pod On NUMA Node    before    ${NODES}[0]    ${NUMA_NODES}[0]
    Cut Power Of Node    ${NODES}[0]
    Driver Pods Should Be Running    timeout=10 minutes
    ResourceSlices Should Follow Sysfs    timeout=10 minutes
    Node Agent Should Have Registered Within    ${NODES}[0]    60 seconds
    Delete Pod    before
    Wait Until All Devices Are Free
    New Pod Should Work    after    ${NODES}[0]

API Server Is Away For A Minute
    [Documentation]    The pod keeps its device, and new pods get devices afterwards.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    Cut Node Off From API Server    ${NODES}[0]    60 seconds
    Nodes Should Be Ready    timeout=10 minutes
    Pod Should Still Work    keeps
    New Pod Should Work    comes-later    ${NODES}[0]

Claim Keeps Its Device When Names Move
    [Documentation]    After a boot with one slot empty, the claim's device has another name, and its old name is
    ...    another device's.
    [Tags]    needs-hotplug    needs-events    needs-attribute-uuid
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    ${pf}    Get PF Whose Name Moves Without    ${slot}
    Run Pod That Restarts    keeps    ${NODES}[0]    ${pf.uuid}
    Unplug Slot    ${slot}
    Reboot Node    ${NODES}[0]
    Claim Should Have Event    keeps    PrepareFailed    another device under the name ${pf.name}    timeout=10 minutes
    Plug Slot    ${slot}
    Reboot Node    ${NODES}[0]
    Pod Should Still Work    keeps
