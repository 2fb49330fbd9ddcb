*** Settings ***
Name                Performance
Documentation       How long scans, sysfs reads and pods with claims take, compared with pods without claims.
...
...                 docs/performance.md says what is measured, and how. Nothing else should run on the machine.
Resource            ../resources/cluster.resource
Resource            ../resources/performance.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           performance    alone    dra    long    needs-metrics    needs-project-agent


*** Variables ***
# docs/performance.md has the limit for this number.
${PODS}             10


*** Test Cases ***
Start Of A Node Agent
    Start Of A Node Agent Should Be Fast Enough    ${NODES}[0]

Scan Of All Devices
    Scan Of A Node Should Be Fast Enough    ${NODES}[0]

Sysfs Read Of A Device
    Sysfs Read Of A Device Should Be Fast Enough    ${NODES}[0]

Ten Pods With A Claim Each
    [Documentation]    ``performance.json`` has all figures of the pods, of prepare and of unprepare.
    Pods With A Claim Each Should Run In Time    ${PODS}
