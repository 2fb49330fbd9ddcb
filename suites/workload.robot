*** Settings ***
Name                Workload
Documentation       Pods use their devices: jobs give right results, on the right device, and leave nothing behind.
...
...                 The pods run the program ``mock-accel`` (kernel-driver/tools/README.md). Each device signs with a
...                 key that only its server and this suite know.
Resource            ../resources/jobs.resource
Suite Setup         Borrow Cluster For Jobs
Suite Teardown      Return Cluster
Test Teardown       End Faults And Clean Up
Test Timeout        30 minutes
Test Tags           workload    dra    long    needs-device-node    needs-attribute-uuid    needs-attribute-pci-address


*** Test Cases ***
Device Proves Which One It Is
    [Documentation]    It signs a nonce, and the server's key proves whose signature that is.
    [Tags]    needs-device-server
    ${pfs}    Get PFs    ${NODES}[0]
    Run Job Pod    proves    ${NODES}[0]    ${pfs[0].uuid}
    Devices Should Sign    proves

Each Device Of A Container Signs For Itself
    [Tags]    needs-device-server
    ${request}    Request Devices    pair    count=2
    Create Claim    pair    ${request}
    Create Job Pod    pair    pair
    Pod Should Be Running    pair
    Devices Should Sign    pair

Digest Agrees With Python
    [Documentation]    SHA-256 of 1 MiB, of one byte, and of data in the device memory.
    [Setup]    Run Job Pod On First PF    hashes
    [Template]    Digest Should Be Right
    hashes    ${MEBIBYTE}
    hashes    ${1}
    hashes    ${{ $MEBIBYTE + 4097 }}
    hashes    ${PAGE}    --window

Copy Changes Nothing
    [Setup]    Run Job Pod On First PF    copies
    [Template]    Copy Should Be Right
    copies    ${MEBIBYTE}
    copies    ${{ 3 * $MEBIBYTE + 1 }}
    copies    ${MEBIBYTE}    --window

Two Pods Work On Two Devices At Once
    [Tags]    needs-device-server
    ${pfs}    Get PFs    ${NODES}[0]
    Skip If    len($pfs) < 2    no node with two PFs in this topology
    Run Job Pod    first    ${NODES}[0]    ${pfs[0].uuid}
    Run Job Pod    last    ${NODES}[0]    ${pfs[-1].uuid}
    Start Job    first    many    bench    --operation    sha256    --size    64K    --jobs    500
    Start Job    last    many    bench    --operation    sha256    --size    64K    --jobs    500
    Device Of Pod Should Work    first
    Device Of Pod Should Work    last
    Job Should End    first    many
    Job Should End    last    many

Two Containers Share A Device
    [Tags]    needs-device-server
    Run Job Pod With Two Containers    shared
    Start Job    shared    first-job    bench    --operation    copy    --jobs    500    container=first
    Start Job    shared    second-job    bench    --operation    copy    --jobs    500    container=second
    Devices Should Sign    shared    container=first
    Devices Should Sign    shared    container=second
    Job Should End    shared    first-job
    Job Should End    shared    second-job

VFs And Their Siblings Work
    [Documentation]    Two VFs of one PF, each with its own key.
    [Tags]    sriov    needs-device-server
    ${pf}    Get PF With VFs    ${NODES}[0]
    ${vfs}    Get VFs Of    ${NODES}[0]    ${pf}
    Skip If    len($vfs) < 2    no PF with two VFs in this topology
    Enable And Publish VFs    ${NODES}[0]    ${pf}
    Run Job Pod    one-vf    ${NODES}[0]    ${vfs[0].uuid}    device_class=VF
    Run Job Pod    last-vf    ${NODES}[0]    ${vfs[-1].uuid}    device_class=VF
    Device Of Pod Should Work    one-vf
    Device Of Pod Should Work    last-vf

Pod That Is Killed In A Job Leaves A Clean Device
    [Documentation]    A job hangs while its pod is deleted. The next pod finds empty device memory, and its jobs run.
    [Tags]    needs-device-server
    ${pfs}    Get PFs    ${NODES}[0]
    Run Job Pod    killed    ${NODES}[0]    ${pfs[0].uuid}
    Fill Device Memory    killed
    Cause Fault    ${NODES}[0]    ${pfs[0].name}    HANG_NEXT_JOB
    Server Should Show Faults    ${NODES}[0]    ${pfs[0].name}    hanging
    Job Should Be Running    killed    holds
    Delete Pod    killed
    Run Job Pod    next    ${NODES}[0]    ${pfs[0].uuid}
    Device Memory Should Be Empty    next
    Device Of Pod Should Work    next

Memory Of A Device Is Empty For The Next Pod
    [Documentation]    Also after a pod that has ended by itself.
    ${pfs}    Get PFs    ${NODES}[0]
    Run Job Pod    before    ${NODES}[0]    ${pfs[0].uuid}
    Copy Should Be Right    before    ${MEBIBYTE}    --window
    Delete Pod    before
    Run Job Pod    after    ${NODES}[0]    ${pfs[0].uuid}
    Device Memory Should Be Empty    after

Blocked Job Ends With An Error When Its Device Is Unplugged
    [Tags]    needs-hotplug    needs-device-server
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    Run Job Pod    loses    ${NODES}[0]    ${slot.functions[0].uuid}
    Cause Fault    ${NODES}[0]    ${slot.functions[0].name}    HANG_NEXT_JOB
    Start Job    loses    blocked    sha256    --timeout    60000    ${FILE}
    Server Should Show Faults    ${NODES}[0]    ${slot.functions[0].name}    hanging
    Unplug Slot    ${slot}
    Job Should End    loses    blocked    LOST    is lost
    [Teardown]    Plug And Clean Up    ${slot}

Interrupts Arrive Near The Device When Asked
    [Documentation]    An administrator lets the CPUs of the device's NUMA node handle its interrupts.
    [Tags]    numa
    Run Job Pod On First PF    interrupts
    ${devices}    Get Devices Of Pod    interrupts
    Bind Interrupts To NUMA Node    ${devices}[0]
    # The first one after the change may still arrive at the old CPU.
    Copy Should Be Right    interrupts    ${PAGE}
    ${before}    Get Interrupts    ${devices}[0]
    Digest Should Be Right    interrupts    ${MEBIBYTE}
    Interrupts Should Have Arrived Near    ${devices}[0]    ${before}

Container Cannot Use Another Device
    [Documentation]    Root without a claim, or with a claim for another device, gets EPERM by a node that it makes.
    ${pfs}    Get PFs    ${NODES}[0]
    Skip If    len($pfs) < 2    no node with two PFs in this topology
    ${request}    Request Devices    device    cel=${CEL.uuid} == "${pfs[0].uuid}"
    Create Claim    other    ${request}
    Create Job Pod    other    other    node=${NODES}[0]    as_root=True
    Create Job Pod    nothing    node=${NODES}[0]    as_root=True
    Pods Should Be Running    other    nothing
    Container Should Not Open Device    other    ${NODES}[0]    ${pfs[1].name}
    Container Should Not Open Device    nothing    ${NODES}[0]    ${pfs[0].name}
    Copy Should Be Right    other    ${PAGE}


*** Keywords ***
Run Job Pod On First PF
    [Documentation]    Like `Run Job Pod`, for the first PF of the first node.
    [Arguments]    ${name}
    ${pfs}    Get PFs    ${NODES}[0]
    Run Job Pod    ${name}    ${NODES}[0]    ${pfs[0].uuid}

Fill Device Memory
    [Documentation]    Leaves data in the device memory while job ``holds`` keeps the device open: its close would
    ...    empty the memory.
    [Arguments]    ${pod}
    Start Job    ${pod}    holds    bench    --operation    sha256    --jobs    1000000    --timeout    60000
    Copy Should Be Right    ${pod}    ${MEBIBYTE}    --window
    Device Memory Should Have Data    ${pod}

Plug And Clean Up
    [Documentation]    For teardowns: plugs the devices of ``slot``, then ends all faults and deletes all claims.
    [Arguments]    ${slot}
    Plug Slot    ${slot}
    End Faults And Clean Up
