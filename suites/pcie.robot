*** Settings ***
Name                PCIe
Documentation       A claim's devices share a PCIe root or bus when it asks for that.
...
...                 The driver publishes the standard attribute ``resource.kubernetes.io/pcieRoot``, so that devices of
...                 different drivers can be matched.
Resource            ../resources/cluster.resource
Resource            ../resources/driver.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           pcie    dra


*** Test Cases ***
Published PCIe Roots Are Those Of The Topology
    [Documentation]    A device's root is the ``pxb-pcie`` bridge of the NUMA node that it is plugged into.
    [Tags]    needs-attribute-pci-root    needs-attribute-pci-address
    ResourceSlices Should Follow Sysfs

Two Devices Under One PCIe Root
    [Documentation]    ``docs/examples/pcie-locality.yaml``, as a reader would apply it.
    [Tags]    needs-examples
    Apply Example    pcie-locality
    Pod Should Be Running    pcie-locality-test
    Pod Should Have Devices    pcie-locality-test    2
    Devices Of Pod Should Share Attribute    pcie-locality-test    ${ATTRIBUTE.pci_root}
    Devices Of Pod Should Be Under One PCIe Root    pcie-locality-test
    Container Should See Exactly Its Devices    pcie-locality-test
    Nodes Should Agree With Allocations

Two Devices On One Bus
    [Documentation]    Two functions of one card: a CEL selector picks the bus by the PCI address.
    [Tags]    needs-attribute-pci-address
    ${bus}    Get Bus With Several PFs    ${NODES}[0]
    Run Pod With Selected Devices    one-bus    ${CEL.pci_address}.startsWith("${bus}:")    count=2
    Devices Of Pod Should Be On Bus    one-bus    ${bus}
    Container Should See Exactly Its Devices    one-bus
    Nodes Should Agree With Allocations

All Devices Of A PCIe Root, But Not One More
    [Documentation]    A claim gets all devices of the largest root; a claim for one more under one root cannot be met.
    [Tags]    needs-attribute-pci-root    needs-attribute-pci-address
    @{most}    Get PFs Under Largest Root
    Start Pod Under One PCIe Root    fits    ${{ len($most) }}
    Pod Should Be Running    fits
    Devices Of Pod Should Be Under One PCIe Root    fits
    Container Should See Exactly Its Devices    fits
    Delete Pod    fits
    Wait Until All Devices Are Free
    Start Pod Under One PCIe Root    too-many    ${{ len($most) + 1 }}
    ${reason}    Pod Should Stay Pending    too-many
    Set Test Message    For ${{ len($most) + 1 }} devices under one root, the scheduler says: ${reason}

Pair Under One PCIe Root Is Found Beside Taken Devices
    [Documentation]    With one device of each root taken, a claim for two devices under one root is met.
    [Tags]    needs-attribute-numa-node    needs-attribute-pci-root    needs-attribute-pci-address
    Run Pod On NUMA Node    takes-near    ${NODES}[0]    ${NUMA_NODES}[0]
    Run Pod On NUMA Node    takes-far    ${NODES}[0]    ${NUMA_NODES}[-1]
    Start Pod Under One PCIe Root    pair    2    node=${NODES}[0]
    Pod Should Be Running    pair
    Pod Should Have Devices    pair    2
    Devices Of Pod Should Be Under One PCIe Root    pair
    Container Should See Exactly Its Devices    pair
    Nodes Should Agree With Allocations


*** Keywords ***
Start Pod Under One PCIe Root
    [Documentation]    Creates a pod ``name`` with a claim ``name`` for ``count`` devices under one root.
    [Arguments]    ${name}    ${count}    ${node}=${None}
    ${request}    Request Devices    devices    count=${count}
    Create Claim    ${name}    ${request}    match_attribute=${ATTRIBUTE.pci_root}
    Create Pod    ${name}    ${name}    node=${node}
