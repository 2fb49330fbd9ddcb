*** Settings ***
Name                Environment
Documentation       What all other suites need: guests, nodes, container runtime, kernel module, devices, driver.
...
...                 When another suite fails, look here first. The tests go from the guest to the driver.
Resource            ../resources/cluster.resource
Resource            ../resources/driver.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Timeout        10 minutes
Test Tags           environment


*** Test Cases ***
Guests Are Running
    [Documentation]    QEMU runs every guest, with each function of the topology plugged at its PCI address.
    [Tags]    needs-hotplug
    Guests Should Be Running
    Guests Should Have All Devices Plugged

Nodes Are Ready
    Nodes Should Be Ready

Containers Run By The Profile's Runtime
    [Documentation]    By crun or runc, whichever the cluster's profile makes the default.
    Default Container Runtime Should Be As In The Profile

Every Device Is Listed By Lspci
    [Documentation]    ``lspci -d 1de5:`` in each guest shows PFs and enabled VFs, with device ID and class.
    Lspci Should Show All Devices

Kernel Module Is Loaded
    Kernel Module Should Be Loaded

Every Device Is In Sysfs
    [Documentation]    ``/sys/class/mock-accel`` has all PFs of each node, with the topology's UUID, memory,
    ...    NUMA node, capabilities and PCI address.
    Sysfs Should Describe All Devices
    No VF Should Be Enabled

Guest PCI Bus Agrees With Topology On NUMA Nodes
    [Tags]    agreement
    Guest PCI Bus Should Agree With Topology On NUMA Nodes

Sysfs Agrees With Topology On NUMA Nodes
    [Tags]    agreement
    Sysfs Should Agree With Topology On NUMA Nodes

Driver Pods Are Running
    [Documentation]    Module loader and node agent on every node, and the controller.
    Driver Pods Should Be Running
