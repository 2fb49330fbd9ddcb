*** Settings ***
Name                Operation
Documentation       Health and metrics of API server, node agents and controller over HTTP, as an operator reads them.
...
...                 On an idle cluster, the driver writes nothing.
Resource            ../resources/operation.resource
Suite Setup         Borrow Cluster And Connect To API Server
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        15 minutes
Test Tags           operation    dra


*** Test Cases ***
API Server Is Alive And Ready
    [Documentation]    Each check that it lists is ok, including etcd and the start-up hooks.
    [Template]    API Server Should Be Healthy
    /livez
    /readyz

Node Agents Are Alive And Ready
    [Documentation]    Ready (``/readyz``) means: registered with the kubelet, and devices published.
    [Tags]    needs-metrics
    [Template]    Node Agents Should Be Healthy
    /healthz
    /readyz

Controller Is Alive And Ready
    [Tags]    needs-metrics    needs-controller
    [Template]    Controller Should Be Healthy
    /healthz
    /readyz

Unknown Path Is Answered With The Known Paths
    [Tags]    needs-metrics    needs-controller
    ${answer}    Ask Controller    /status    status=404
    Should Contain    ${answer}    /healthz, /readyz or /metrics

Node Agents Count The Devices Of The Topology
    [Tags]    needs-metrics
    Node Agents Should Count All Devices As Free

Controller Counts The Devices Of The Topology
    [Tags]    needs-metrics    needs-controller
    ${figures}    Ask Controller    /metrics
    Controller Should Count All Devices    ${figures}

Claim Shows In The Figures Of Its Node Agent
    [Documentation]    It counts one allocated device and one prepared claim more, until the device is free again.
    [Tags]    needs-metrics    needs-attribute-numa-node
    ${before}    Ask Node Agent    ${NODES}[0]    /metrics
    ${prepared}    Get Number Of Prepared Claims    ${before}
    Run Pod On NUMA Node    counted    ${NODES}[0]    ${NUMA_NODES}[0]
    ${figures}    Ask Node Agent    ${NODES}[0]    /metrics
    Node Agent Should Count    ${figures}    ${NODES}[0]    allocated=1
    ${now}    Get Number Of Prepared Claims    ${figures}
    Should Be Equal As Integers    ${now}    ${prepared + 1}
    Delete Pod    counted
    Wait Until All Devices Are Free
    Node Agents Should Count All Devices As Free

Slices Stay As They Are On An Idle Cluster
    [Documentation]    For twenty seconds, no ResourceSlice is written and no request of the driver fails.
    [Tags]    needs-metrics    needs-controller
    [Setup]    ResourceSlices Should Follow Sysfs
    ${before}    Count Failed Requests
    ResourceSlices Should Stay As They Are    duration=20 seconds
    ${after}    Count Failed Requests
    Should Be Equal As Integers    ${after}    ${before}    msg=requests of the driver failed meanwhile
