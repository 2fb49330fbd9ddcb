*** Settings ***
Name                Faults
Documentation       Each fault on demand (``lab fault --list``) is seen where users look, and is gone when it has ended.
...
...                 In sysfs, in the pod's status, in the claim, in the ResourceSlice, in a metric. The fault
...                 ``err-interrupt`` is missing here: QEMU stops the guest, which no one can undo.
Resource            ../resources/jobs.resource
Suite Setup         Borrow Cluster For Jobs
Suite Teardown      Return Cluster
Test Setup          Run Pod With A Device That Works
Test Teardown       End Faults And Clean Up
Test Timeout        45 minutes
Test Tags    faults
...          dra
...          long
...          needs-device-server
...          needs-device-node
...          needs-taints
...          needs-health
...          needs-device-status
...          needs-events
...          needs-metrics
...          needs-attribute-uuid
...          needs-attribute-pci-address


*** Test Cases ***
Job That Hangs Is Ended And Counted
    [Documentation]    The module resets the device after the job's time-out. Then it works again.
    ${hangs}    Get Number Of Hung Jobs    ${USED.node}    ${USED.name}
    Cause Fault    ${USED.node}    ${USED.name}    HANG_NEXT_JOB
    Job Should Fail    ${POD}    LOST    did not end in    sha256    --timeout    2000    ${FILE}
    Device Attribute Should Be    ${USED.node}    ${USED.name}    hangs    ${hangs + 1}
    Number Of Hung Jobs Should Be    ${USED.node}    ${USED.name}    ${hangs + 1}
    Claim Should Have Event    ${POD}    DeviceHung    did not end in time
    Server Should Show Faults    ${USED.node}    ${USED.name}
    No Problem Should Be Visible    ${POD}    ${USED}

Wrong Result Is Noticed By Those Who Check It
    [Documentation]    The device itself reports success, so nothing else shows it.
    Cause Fault    ${USED.node}    ${USED.name}    WRONG_RESULT
    Job Should Fail    ${POD}    JOB    differs    sha256    --verify    ${FILE}
    Server Should Show Faults    ${USED.node}    ${USED.name}
    No Problem Should Be Visible    ${POD}    ${USED}

Slow Device Works
    [Documentation]    Each job takes two seconds longer, until the fault ends.
    Cause Fault    ${USED.node}    ${USED.name}    SLOW    milliseconds=2000
    ${slow}    Get Latency Of Job    ${POD}
    Should Be True    ${slow} >= 2    a job took ${slow} s, expected at least 2 s
    Device Attribute Should Be    ${USED.node}    ${USED.name}    health    ok
    End Faults    ${USED.node}    ${USED.name}
    ${fast}    Get Latency Of Job    ${POD}
    Should Be True    ${fast} < 2    a job took ${fast} s, expected less than 2 s
    No Problem Should Be Visible    ${POD}    ${USED}

Corrected Error Is Logged
    [Documentation]    By AER. The device goes on working.
    ${mark}    Mark Kernel Log    ${USED.node}
    Cause Fault    ${USED.node}    ${USED.name}    AER_CORRECTABLE
    Kernel Log Should Show    ${USED.node}    ${mark}    corrected an error
    No Problem Should Be Visible    ${POD}    ${USED}

Fatal Error Is Seen Until A Reset
    [Documentation]    Nothing resets the device but the administrator of this test.
    [Setup]    Run Pod With A Device That Is Not Reset
    Cause Fault    ${USED.node}    ${USED.name}    AER_FATAL
    Problem Should Be Visible    ${POD}    ${USED}    fatal    FatalError
    Job Should Fail    ${POD}    LOST    is lost    sha256    ${FILE}
    Reset Device By Its Attribute    ${USED.node}    ${USED.name}
    No Problem Should Be Visible    ${POD}    ${USED}

Driver Resets A Device After A Fatal Error
    ${resets}    Get Number Of Successful Resets    ${USED.node}    ${USED.name}
    Cause Fault    ${USED.node}    ${USED.name}    AER_FATAL
    Device Should Be Tainted    ${USED.node}    ${USED.name}    FatalError
    Number Of Successful Resets Should Be    ${USED.node}    ${USED.name}    ${resets + 1}
    Claim Should Have Event    ${POD}    DeviceReset    because of FatalError
    No Problem Should Be Visible    ${POD}    ${USED}

Hot Device Is Seen, And Works
    [Documentation]    Over 95 °C. It is healthy again when it has cooled down.
    Cause Fault    ${USED.node}    ${USED.name}    TEMPERATURE    celsius=96
    Problem Should Be Visible    ${POD}    ${USED}    hot    Hot
    Device Attribute Should Be    ${USED.node}    ${USED.name}    temp1_input    96000
    Node Agent Should Report Temperature    ${USED.node}    ${USED.name}    96
    Device Of Pod Should Work    ${POD}
    End Faults    ${USED.node}    ${USED.name}
    Node Agent Should Report Temperature    ${USED.node}    ${USED.name}    45
    No Problem Should Be Visible    ${POD}    ${USED}

Dead Device Is Seen Until It Is Plugged Again
    [Documentation]    It does not answer. Its pod's jobs end with an error.
    [Tags]    needs-hotplug
    [Setup]    Choose Slot
    Run Job Pod    dies    ${SLOT.node}    ${SLOT.functions[0].uuid}
    Cause Fault    ${SLOT.node}    ${SLOT.functions[0].name}    DIE
    Device Should Be Tainted    ${SLOT.node}    ${SLOT.functions[0].name}    NoAnswer
    Pod Should Report Health    dies    Unhealthy
    Claim Should Report Condition    dies    Ready    False    NoAnswer
    Node Agent Should Report Problem    ${SLOT.node}    ${SLOT.functions[0].name}    NoAnswer
    End Faults    ${SLOT.node}    ${SLOT.functions[0].name}
    Replug And Check That All Devices Work
    [Teardown]    Replug And Clean Up    ${SLOT}

Device With A Wrong Id Is Refused By The Module
    [Documentation]    When it is plugged. It is in neither sysfs nor a ResourceSlice, and no other device is missing.
    [Tags]    needs-hotplug
    [Setup]    Choose Slot
    Unplug Slot    ${SLOT}
    Cause Fault    ${SLOT.node}    ${SLOT.functions[0].name}    WRONG_ID
    ${mark}    Mark Kernel Log    ${SLOT.node}
    Plug Slot    ${SLOT}
    Kernel Log Should Show    ${SLOT.node}    ${mark}    0xdeadbeef
    Sysfs Should Describe All Devices    but=${SLOT}
    ResourceSlices Should Follow Sysfs
    End Faults    ${SLOT.node}    ${SLOT.functions[0].name}
    Replug And Check That All Devices Work
    [Teardown]    Replug And Clean Up    ${SLOT}


*** Keywords ***
Run Pod With A Device That Works
    [Documentation]    Sets ``${POD}``, a pod with one device, and ``${USED}``, the device, which works.
    VAR    ${POD}    has-faults    scope=TEST
    ${pfs}    Get PFs    ${NODES}[0]
    Run Job Pod    ${POD}    ${NODES}[0]    ${pfs[0].uuid}
    ${devices}    Get Devices Of Pod    ${POD}
    VAR    ${USED}    ${devices}[0]    scope=TEST
    Device Of Pod Should Work    ${POD}

Run Pod With A Device That Is Not Reset
    [Documentation]    Like `Run Pod With A Device That Works`, and the node agents do not reset devices.
    Set Reset Delay Of Node Agents    never
    Run Pod With A Device That Works

Choose Slot
    [Documentation]    Sets ``${SLOT}``, a slot of the first node that can be unplugged.
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    VAR    ${SLOT}    ${slot}    scope=TEST

Replug And Check That All Devices Work
    [Documentation]    Unplugs and plugs ``${SLOT}``; then no device is missing.
    Unplug Slot    ${SLOT}
    Plug Slot    ${SLOT}
    Sysfs Should Describe All Devices
    ResourceSlices Should Follow Sysfs
    Device Should Not Be Tainted    ${SLOT.node}    ${SLOT.functions[0].name}
