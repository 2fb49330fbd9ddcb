*** Settings ***
Name                Upgrade
Documentation       Driver and claims in use while the cluster goes from one minor version of Kubernetes to the next.
...
...                 First the control plane, then the nodes one by one, as Kubernetes' version skew policy asks for.
...                 Nodes are not drained, so that containers keep running. It needs a cluster of an older version:
...                 ``robot --variable PROFILE:kubernetes-v1.36``.
Library             ../libraries/HelmLibrary.py
Library             ../libraries/UpgradeLibrary.py
Resource            ../resources/crashes.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Was Lost
Test Timeout        60 minutes
Test Tags           upgrade    dra    long    needs-upgrade


*** Test Cases ***
Pods Keep Their Devices While Control Plane And Nodes Are Upgraded
    [Documentation]    Claims stay allocated, and pods start after each step.
    Run Pod On NUMA Node    keeps    ${NODES}[0]    ${NUMA_NODES}[0]
    ${state}    Get State Of Pod    keeps
    Upgrade Control Plane
    Pod Should Have Kept Its State    keeps    ${state}
    New Pod Should Work And End    between    ${NODES}[-1]
    Upgrade Nodes One By One
    Pod Should Have Kept Its State    keeps    ${state}
    Pod Should Still Work    keeps
    New Pod Should Work And End    after    ${NODES}[0]
    Cluster Should Be Healthy


*** Keywords ***
Upgrade Nodes One By One
    [Documentation]    After each node, its devices are published, and a new pod gets one.
    FOR    ${node}    IN    @{NODES}
        Upgrade Node    ${node}
        ResourceSlices Should Follow Sysfs    timeout=5 minutes
        New Pod Should Work And End    on-${node}    ${node}
    END

New Pod Should Work And End
    [Documentation]    Like `New Pod Should Work`, and deletes the pod and its claim's allocation.
    [Arguments]    ${name}    ${node}
    New Pod Should Work    ${name}    ${node}
    Delete Pod    ${name}
