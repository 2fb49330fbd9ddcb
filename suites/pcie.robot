*** Settings ***
Name                PCIe
Documentation       Claims that ask for devices near each other on PCI Express get them: one root, one bus.
...
...                 The driver publishes the standard attribute ``resource.kubernetes.io/pcieRoot``, so that devices of
...                 different drivers can be matched.
Resource            ../resources/cluster.resource
Resource            ../resources/driver.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        10 minutes
Test Tags           pcie    dra


*** Variables ***
${PCIE_ROOT}        resource.kubernetes.io/pcieRoot


*** Test Cases ***
Published PCIe Roots Are Those Of The Topology
    [Documentation]    The root is the ``pxb-pcie`` bridge of the NUMA node that the device is plugged into.
    ResourceSlices Should Follow Sysfs

Two Devices Under One PCIe Root
    [Documentation]    ``docs/examples/pcie-locality.yaml``, as a reader would apply it.
    Apply Example    pcie-locality
    Pod Should Be Running    pcie-locality-test
    Pod Should Have Devices    pcie-locality-test    2
    Devices Of Pod Should Share Attribute    pcie-locality-test    ${PCIE_ROOT}
    Devices Of Pod Should Be Under One PCIe Root    pcie-locality-test
    Container Should See Exactly Its Devices    pcie-locality-test
    Nodes Should Agree With Allocations
