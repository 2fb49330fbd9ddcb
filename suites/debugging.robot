*** Settings ***
Name                Debugging
Documentation       The tools of docs/tools.md show the truth, and ``lab diagnose`` finds what is broken.
...
...                 Each of the last tests breaks one step between device and container, expects the diagnosis to name
...                 it with a remedy, and repairs it. Then everything must be healthy again.
Resource            ../resources/cluster.resource
Resource            ../resources/tools.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Diagnosis Should Be Healthy Again
Test Timeout        30 minutes
Test Tags           debugging    long


*** Test Cases ***
Devices Are Shown As In The Topology
    [Documentation]    ``lab devices``
    Device Status Should Show All Devices

Device Of A Running Pod Is Shown As Allocated
    [Documentation]    ``lab devices NODE DEVICE``, ``lab slices``, ``lab cdi list``, ``lab cdi check``
    [Tags]    needs-status-register    needs-cdi-file-a-device
    Run Pod With Claim    shown
    ${devices}    Get Devices Of Pod    shown
    Device Status Should Be    ${devices[0].node}    ${devices[0].name}    allocated
    Slices Table Should Show    shown    ${devices}
    CDI List Should Show    ${devices}
    CDI Check Should Find Nothing
    Delete Pod    shown
    Wait Until All Devices Are Free
    Device Status Should Be    ${devices[0].node}    ${devices[0].name}    free

Pod With An Extended Resource Is Shown Like Any Other
    [Documentation]    The scheduler creates its claim. Tools and container find its devices through the pod's status.
    [Tags]    needs-extended-resources
    Create Pod With Extended Resource    extended    ${EXTENDED_RESOURCE.by_class}    2
    Pod Should Be Running    extended
    Pod Should Have Devices    extended    2
    ${devices}    Get Devices Of Pod    extended
    Slices Table Should Show    extended    ${devices}
    Container Should See Exactly Its Devices    extended
    Diagnosis Should Be Healthy

Unknown Device Is Refused With The Known Names
    ${pfs}    Get PFs    ${NODES}[0]
    ${answer}    Device Status Should Refuse    ${NODES}[0]    mock99
    Should Contain    ${answer}    ${pfs[0].name}

CDI Files Are Watched As They Come And Go
    [Documentation]    ``lab cdi watch``
    [Tags]    needs-cdi-file-a-device
    Start Watching CDI Files
    Run Pod With Claim    watched
    ${devices}    Get Devices Of Pod    watched
    CDI Watch Should See    appeared    ${devices}
    Delete Pod    watched
    CDI Watch Should See    disappeared    ${devices}
    [Teardown]    Undo And Diagnose    Stop Watching CDI Files

Log Shows The Calls For A Claim
    [Documentation]    ``lab logs --calls``
    [Tags]    needs-log-lines
    Run Pod With Claim    called
    ${devices}    Get Devices Of Pod    called
    Delete Pod    called
    Log Tool Should Show Calls For Claim    called    ${devices[0].node}

Verbosity Is Changed While The Driver Runs
    [Documentation]    ``lab verbosity``: from 5 on, routine scans are logged. The pod does not restart.
    [Tags]    needs-log-lines
    ${log}    Mark Log    NODE_AGENT    ${NODES}[0]
    Set Log Verbosity    5    NODE_AGENT    ${NODES}[0]
    Log Should Show Scans At Verbosity    ${log}    5    timeout=60 seconds
    Set Log Verbosity    2    NODE_AGENT    ${NODES}[0]
    Log Should Show Verbosity    ${log}    5    2
    [Teardown]    Undo And Diagnose    Set Log Verbosity    4    NODE_AGENT    ${NODES}[0]

Healthy Cluster Is Diagnosed As Healthy
    [Documentation]    ``lab diagnose``, with a running pod, so that the last steps have something to check.
    Run Pod With Claim    healthy
    Diagnosis Should Be Healthy

Evidence Of A Failed Test Is Complete
    [Documentation]    Events, objects, and logs of driver and nodes are there for somebody who reads them later.
    Run Pod With Claim    seen
    Evidence Should Be Complete

Killed Device Server Is Named
    [Tags]    needs-device-server
    Kill Device Server    ${NODES}[-1]
    Diagnosis Should Name
    ...    device servers run
    ...    evidence=${NODES}[-1]: the device server has ended
    ...    remedy=lab down && lab up
    [Teardown]    Undo And Diagnose    Restart Device Server    ${NODES}[-1]

Wrong Clock Is Named
    [Documentation]    A year ahead: certificates and tokens have expired.
    [Tags]    needs-power
    Turn Clock    ${NODES}[-1]    365 days 12 hours
    Diagnosis Should Name
    ...    clocks of nodes agree
    ...    evidence=${NODES}[-1]: its clock is 365 days, 11:59
    ...    remedy=lab ssh ${NODES}[-1] "date -u -s
    [Teardown]    Undo And Diagnose    Turn Clock    ${NODES}[-1]    0 seconds

Unplugged Devices Are Named
    [Tags]    needs-hotplug
    ${slot}    Get Slot To Unplug    ${NODES}[0]
    Unplug Slot    ${slot}
    Diagnosis Should Name
    ...    devices are on the PCI bus
    ...    evidence=${slot.functions[0].name} (${slot.functions[0].bdf}) is not on the PCI bus, it is not plugged
    ...    remedy=lab up
    [Teardown]    Undo And Diagnose    Plug All Devices

Unloaded Kernel Module Is Named
    Unload Kernel Module    ${NODES}[-1]
    ${remedy}    Get Remedy For Unloaded Module    ${NODES}[-1]
    Diagnosis Should Name
    ...    kernel module drives devices
    ...    evidence=${NODES}[-1]: expected kernel module mock_accel live, found not loaded
    ...    remedy=${remedy}
    [Teardown]    Undo And Diagnose    Load Kernel Module Everywhere

Missing Node Agents Are Named
    Send Node Agents Away
    ${patch}    Get Patch That Removes    /spec/template/spec/nodeSelector
    Diagnosis Should Name
    ...    node agents run
    ...    evidence=no pod of ${AGENT_WORKLOAD}; its DaemonSet selects nodes with
    ...    remedy=${patch}
    [Teardown]    Undo And Diagnose    Bring Node Agents Back

Missing Rights Are Named
    [Tags]    needs-least-rights
    Remove Rights Of Node Agents
    Diagnosis Should Name
    ...    driver may use the API
    ...    evidence=may not get nodes
    ...    remedy=lab deploy
    [Teardown]    Undo And Diagnose    Restore Rights Of Node Agents

Impossible CEL Is Named
    [Documentation]    There are free devices, but none meets the selector.
    [Tags]    needs-attribute-uuid
    ${request}    Request Devices    impossible    cel=${CEL.uuid} == "NOBODY-HAS-THIS"
    Create Claim    impossible    ${request}
    Create Pod    impossible    impossible
    Diagnosis Should Name
    ...    claims can be met
    ...    evidence=uuid == "NOBODY-HAS-THIS" is met by fewer than 1 of the
    ...    remedy=lab devices

More Devices Than A Node Has Are Named
    ${all}    Count PFs
    ${request}    Request Devices    many    count=${all + 1}
    Create Claim    many    ${request}
    Create Pod    many    many
    Diagnosis Should Name
    ...    claims can be met
    ...    evidence=${all + 1} of ${DEVICE_CLASS.pf} on one node, at most
    ...    remedy=lab slices

More Extended Resources Than A Node Has Are Named
    [Documentation]    The pod names no claim, and the scheduler creates none until devices are free.
    ${all}    Count PFs
    Create Pod With Extended Resource    many    ${EXTENDED_RESOURCE.by_class}    ${all + 1}
    Diagnosis Should Name
    ...    claims can be met
    ...    evidence=/${DEVICE_CLASS.pf} of main: ${all + 1} of ${DEVICE_CLASS.pf} on one node, at most
    ...    remedy=lab slices

Hidden CDI Folder Is Named
    [Documentation]    The pod's container starts when the folder can be read again.
    [Tags]    needs-power    needs-project-agent
    Cover CDI Folder    ${NODES}[0]
    Start Pod On NUMA Node    no-cdi    ${NODES}[0]    ${NUMA_NODES}[0]
    Diagnosis Should Name
    ...    CDI folder is usable
    ...    evidence=${NODES}[0]: /var/run/cdi is not writable for root, something is mounted on it
    ...    remedy=umount /var/run/cdi
    Uncover CDI Folder    ${NODES}[0]
    Pod Should Be Running    no-cdi    timeout=10 minutes
    [Teardown]    Undo And Diagnose    Uncover CDI Folder    ${NODES}[0]

Wrong Default Runtime Is Named
    [Documentation]    Another one than the profile's.
    [Tags]    needs-power
    ${right}    Get Default Container Runtime    ${NODES}[-1]
    VAR    ${wrong}    ${{ {"crun": "runc", "runc": "crun"}[$right] }}
    Set Default Container Runtime    ${NODES}[-1]    ${wrong}
    Diagnosis Should Name
    ...    default runtime is as in the profile
    ...    evidence=${NODES}[-1]: expected default runtime ${right}, found ${wrong}
    ...    remedy=systemctl restart containerd
    [Teardown]    Undo And Diagnose    Set Default Container Runtime    ${NODES}[-1]    ${right}
