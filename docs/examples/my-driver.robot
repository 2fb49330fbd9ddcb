*** Settings ***
Name                My Driver
Documentation       A driver of one's own on the cluster of ``lab up``: the devices are there, pods get some, and lose them.
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Suite Setup         Start Session    ${TOPOLOGY}
Suite Teardown      End Session
Test Teardown       Delete Everything Made By Tests
Test Timeout        15 minutes
Test Tags           my-driver


*** Test Cases ***
Devices Are Where The Topology Has Them
    [Documentation]    Before any driver: in QEMU, on the guests' PCI buses, in sysfs.
    Guests Should Have All Devices Plugged
    Lspci Should Show All Devices
    Sysfs Should Describe All Devices

Two Pods Get A Device Each
    Run Pod With Claim    first
    Run Pod With Claim    second
    Pod Should Have Devices    first    1
    Pods Should Have Different Devices    first    second

Claim Gives Its Device Back
    Run Pod With Claim    short-lived
    Delete Pod    short-lived
    Claim Should Have No Devices    short-lived
