*** Settings ***
Name                Performance Jobs
Documentation       How fast devices run jobs: latency, rate and bandwidth, alone and twelve at once.
...
...                 The same copies by the CPU of a pod are for comparison. There are no limits: the figures are in
...                 ``performance.json`` (docs/performance.md). Nothing else should run on the machine.
Resource            ../resources/jobs.resource
Resource            ../resources/performance.resource
Suite Setup         Borrow Cluster For Jobs
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        45 minutes
Test Tags           performance    alone    dra    long


*** Test Cases ***
Jobs Of One Device
    ${pods}    Run Job Pods    1
    ${device}    Measure Jobs    @{pods}
    ${cpu}    Measure Jobs    @{pods}    by_cpu=True
    ${interrupt}    Measure Interrupts    ${pods}[0]
    Show Chart    Latency of an interrupt, median    ${interrupt}
    Show Chart    Latency of a copy of 4 KiB, median    ${device.latency}    ${cpu.latency}
    Show Chart    Copies of 4 KiB a second    ${device.rate}    ${cpu.rate}
    Show Chart    Bandwidth of copies of 1 MiB    ${device.bandwidth}    ${cpu.bandwidth}

Jobs Of Twelve Devices At Once
    [Documentation]    The figures are of each device while all are busy.
    Skip Unless Topology Has PFs    12
    ${pods}    Run Job Pods    12
    ${twelve}    Measure Jobs    @{pods}
    ${one}    Measure Jobs    ${pods}[0]
    Show Chart    Latency of a copy of 4 KiB, median    ${twelve.latency}    ${one.latency}
    Show Chart    Copies of 4 KiB a second, of each device    ${twelve.rate}    ${one.rate}
    Show Chart    Bandwidth of copies of 1 MiB, of each device    ${twelve.bandwidth}    ${one.bandwidth}


*** Keywords ***
Run Job Pods
    [Documentation]    Runs ``count`` pods with a claim for one device each, and returns their names.
    [Arguments]    ${count}
    VAR    @{names}    @{{ [f"worker-{number}" for number in range(int($count))] }}
    FOR    ${name}    IN    @{names}
        ${request}    Request Devices    device
        Create Claim    ${name}    ${request}
        Create Job Pod    ${name}    ${name}
    END
    Pods Should Be Running    @{names}
    RETURN    ${names}
