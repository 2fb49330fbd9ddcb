*** Settings ***
Name                Performance Dense
Documentation       Like performance.robot, with a hundred devices on one node and a hundred pods.
Resource            ../resources/cluster.resource
Resource            ../resources/performance.resource
Suite Setup         Borrow Cluster    dense
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        2 hours
Test Tags           performance    alone    dense    dra    long    needs-metrics    needs-project-agent


*** Variables ***
# docs/performance.md has the limit for this number.
${PODS}             100


*** Test Cases ***
Start Of A Node Agent
    Start Of A Node Agent Should Be Fast Enough    ${NODES}[0]

Scan Of A Hundred Devices
    Scan Of A Node Should Be Fast Enough    ${NODES}[0]

Sysfs Read Of A Device
    Sysfs Read Of A Device Should Be Fast Enough    ${NODES}[0]

A Hundred Pods With A Claim Each
    Pods With A Claim Each Should Run In Time    ${PODS}
