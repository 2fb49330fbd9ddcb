*** Settings ***
Name                Performance
Documentation       How long a device takes on its way: scan, sysfs, and pods with a claim each beside pods without.
...
...                 What is measured, and how: docs/performance.md. Nothing else should run on the machine.
Resource            ../resources/cluster.resource
Resource            ../resources/performance.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           performance    alone    dra    long


*** Variables ***
# The guide's number.
${PODS}             10


*** Test Cases ***
Start Of A Node Agent
    Start Of A Node Agent Should Be Fast Enough    ${NODES}[0]

Scan Of All Devices
    Scan Of A Node Should Be Fast Enough    ${NODES}[0]

Sysfs Read Of A Device
    Sysfs Read Of A Device Should Be Fast Enough    ${NODES}[0]

Ten Pods With A Claim Each
    [Documentation]    Every figure of the pods, and of prepare and unprepare, is in ``performance.json``.
    Pods With A Claim Each Should Run In Time    ${PODS}
