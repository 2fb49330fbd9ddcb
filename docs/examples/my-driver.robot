*** Settings ***
Name                My Driver
Documentation       Your driver on the cluster of ``lab up``: devices are there, pods get them and release them.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Suite Setup         Start Session    ${TOPOLOGY}
Suite Teardown      End Session
Test Teardown       Delete Everything Made By Tests
Test Timeout        15 minutes
Test Tags           my-driver


*** Test Cases ***
Devices Are Where The Topology Has Them
    [Documentation]    In QEMU, on the guests' PCI buses and in sysfs, without any driver.
    Guests Should Have All Devices Plugged
    Lspci Should Show All Devices
    Sysfs Should Describe All Devices

Two Pods Get A Device Each
    Run Pod With Claim    first
    Run Pod With Claim    second
    Pod Should Have Devices    first    1
    Pods Should Have Different Devices    first    second

Claim Releases Its Device
    Run Pod With Claim    short-lived
    Delete Pod    short-lived
    Claim Should Have No Devices    short-lived
