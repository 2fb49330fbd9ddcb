*** Settings ***
Name                Conformance
Documentation       What Kubernetes expects of a DRA driver: each test is one promise of the kubelet plugin contract or
...                 of the API. No test knows the driver.
...
...                 `lab conformance` makes a report of it: the tag promise-NAME names a promise, the last line of a
...                 test's documentation its source, a file of a module k8s.io/… of v0.37.2 or v1.37.2.
Library             ../libraries/SecurityLibrary.py
Resource            ../resources/conformance.resource
Suite Setup         Borrow Cluster And Note What Is Published
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Let The Driver Serve
Test Timeout        45 minutes
Test Tags           conformance    dra


*** Test Cases ***
Plugin Registers With Its Services
    [Documentation]    It names the driver, an absolute path, and a version of the DRA service that the kubelet knows.
    ...    Source: kubelet/pkg/apis/pluginregistration/v1/api.proto, PluginInfo
    [Tags]    promise-registration
    ${info}    Get Plugin Info    ${NODES}[0]
    Plugin Info Should Be Complete    ${info}

Plugin Answers The Kubelet In Time
    [Documentation]    GetInfo within a second, preparation within 45 seconds, again and again.
    ...    Source: kubernetes/pkg/kubelet: pluginmanager/operationexecutor, cm/dra/plugin/dra_plugin.go
    [Tags]    promise-time-limits
    ${info}    Get Plugin Info    ${NODES}[0]
    Call Should Have Taken At Most    ${info}    1 second
    Run Pod With Claims    in-time    2
    ${prepared}    Prepare Claims Of Pod    in-time
    Call Should Have Taken At Most    ${prepared}    45 seconds

Each Claim Of A Call Has Its Own Entry
    [Documentation]    One call has all claims of a pod; the answer has each of them, and no other.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, NodePrepareResourcesResponse
    [Tags]    promise-many-claims
    Run Pod With Claims    several    3
    ${prepared}    Prepare Claims Of Pod    several
    Each Claim Should Have An Entry    ${prepared}

Answer Names What The Scheduler Has Allocated
    [Documentation]    Pool, device and request, of a prioritized request without the alternative's name.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, Device; KEP-4816
    [Tags]    promise-allocated-devices
    ${only}    Request Devices    only
    ${first}    Request Devices    first
    ${second}    Request Devices    second    count=2
    ${either}    Request First Available    either    ${second}    ${first}
    Create Claim    named    ${only}    ${either}
    Create Pod    named    named
    Pod Should Be Running    named
    ${prepared}    Prepare Claims Of Pod    named
    Prepared Devices Should Be Those Allocated    ${prepared}

Preparation Can Be Repeated
    [Documentation]    A kubelet asks again after its restart: the answer is the same, and the pod keeps its devices.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, PrepareResourceClaims
    [Tags]    promise-retried-prepare
    Run Pod With Claims    again    2
    ${first}    Prepare Claims Of Pod    again
    ${second}    Prepare Claims Of Pod    again
    Each Claim Should Have An Entry    ${second}
    Answers Should Be The Same    ${first}    ${second}
    Pod Should Have Its Devices    again

CDI Devices Of An Answer Are Defined
    [Documentation]    A CDI file on the node defines each CDI device that the plugin names.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, cdi_device_ids; dynamic-resource-allocation/kubeletplugin, Device
    [Tags]    promise-cdi-devices
    Run Pod With Claim    by-cdi
    ${prepared}    Prepare Claims Of Pod    by-cdi
    CDI Devices Should Exist    ${prepared}

Container Has What CDI Adds
    [Documentation]    Variables, device nodes and mounts of its devices are in the container.
    ...    Source: Container Device Interface 1.0.0, SPEC.md, containerEdits
    [Tags]    promise-container-edits
    Run Pod With Claims    inside    2
    Container Should Have What CDI Adds    inside    main

Containers Have The Devices Of Their Requests
    [Documentation]    Two containers of a pod use two requests of one claim; neither has the device of the other.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, request_names; api/core/v1/types.go, ResourceClaim.Request
    [Tags]    promise-request-names
    ${left}    Request Devices    left
    ${right}    Request Devices    right
    Create Claim    pair    ${left}    ${right}
    Create Pod With Containers    pair    first=pair/left    second=pair/right
    Pod Should Be Running    pair
    Container Should Have What CDI Adds    pair    first
    Container Should Have What CDI Adds    pair    second

Init Container Has The Devices Of Its Claim
    [Documentation]    And so has the container that starts after it has ended.
    ...    Source: KEP-4381, Sharing a single ResourceClaim
    [Tags]    promise-init-containers
    ${request}    Request Devices    device
    Create Claim    early    ${request}
    Create Pod With Init Container    early    early
    Pod Should Be Running    early
    Container Should Have What CDI Adds    early    first
    Container Should Have What CDI Adds    early    main

Claim Of Another UID Is Not Prepared
    [Documentation]    The kubelet names a claim that was deleted and created again meanwhile.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, Claim.uid; dynamic-resource-allocation/kubeletplugin
    [Tags]    promise-claim-identity
    Run Pod With Claim    replaced
    ${reason}    Prepare Of Another UID Should Be Refused    replaced
    Set Test Message    The plugin says: ${reason}

Claim Without Allocation Is Not Prepared
    [Documentation]    The driver must not choose devices itself.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, PrepareResourceClaims
    [Tags]    promise-unallocated-claims
    ${request}    Request Devices    device
    Create Claim    unallocated    ${request}
    ${reason}    Prepare Without Allocation Should Be Refused    unallocated    ${NODES}[0]
    Set Test Message    The plugin says: ${reason}

Device In Use Is Not Prepared For Another Claim
    [Documentation]    The driver is the last line of defense if two claims ever have one device.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, PrepareResourceClaims
    [Tags]    promise-device-in-use
    Run Pod With Claim    uses
    ${request}    Request Devices    device
    Create Claim    wants    ${request}
    Allocate Devices Of Another Claim    wants    uses
    ${reason}    Prepare Should Be Refused    wants
    Pod Should Have Its Devices    uses
    Set Test Message    The plugin says: ${reason}
    [Teardown]    Unprepare And Clean Up    wants

Unknown Claim Can Be Unprepared
    [Documentation]    It is no error if the claim is not prepared.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, UnprepareResourceClaims
    [Tags]    promise-unknown-claims
    Unprepare Of Unknown Claim Should Succeed    ${NODES}[0]

Unpreparation Can Be Repeated
    [Documentation]    Also when the claim is gone: the kubelet has only its name and uid.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, UnprepareResourceClaims
    [Tags]    promise-retried-unprepare
    Run Pod With Claim    ends
    ${claim}    Remember Claim    ends
    Delete Pod    ends
    Unprepare Remembered Claim    ${claim}
    Delete Claim    ends
    Wait Until Claim Is Gone    ends
    Unprepare Remembered Claim    ${claim}

Two Pods Share A Claim
    [Documentation]    The device is released with the last of them.
    ...    Source: KEP-4381, Sharing a single ResourceClaim
    [Tags]    promise-shared-claims
    Run Pod With Claim    shared
    Create Pod    shares    shared
    Pod Should Have Its Devices    shares
    Delete Pod    shared
    Pod Should Have Its Devices    shares
    Delete Pod    shares
    Claim Should Have No Devices    shared

Each Pod Of A Template Has Its Own Claim
    [Documentation]    And its own device; the claims end with their pods.
    ...    Source: KEP-4381, Ephemeral vs. persistent ResourceClaims lifecycle
    [Tags]    promise-claim-templates
    ${request}    Request Devices    device
    Create Claim Template    each    ${request}
    Create Pod    first    template=each
    Create Pod    second    template=each
    Pods Should Be Running    first    second
    Pods Should Have Different Devices    first    second
    Container Should Have What CDI Adds    first    main
    Container Should Have What CDI Adds    second    main

Claim Is Recreated Under Its Name
    [Documentation]    The new claim is another one: what is left of the old one does not disturb it.
    ...    Source: kubelet/pkg/apis/dra/v1/api.proto, Claim.uid
    [Tags]    promise-recreated-claims
    Run Pod With Claim    reborn
    ${old}    Remember Claim    reborn
    Delete Pod    reborn
    Delete Claim    reborn
    Wait Until Claim Is Gone    reborn
    Run Pod With Claim    reborn
    Unprepare Remembered Claim    ${old}
    Pod Should Have Its Devices    reborn

Next Pod Waits For One That Was Deleted By Force
    [Documentation]    The API server has forgotten the pod, its claim is deleted, but its container still runs.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, PrepareResourceClaims
    [Tags]    promise-forced-deletion    long
    Start Pod With All Devices    forced    ${NODES}[0]
    Pod Should Be Running    forced
    Delete Pod By Force    forced
    Delete Claim    forced
    Start Pod With All Devices    next    ${NODES}[0]
    Pod Should Have Its Devices    next

Admin Access Changes Nothing For Others
    [Documentation]    A claim with administrative access gets devices in use, and takes them from nobody.
    ...    Source: KEP-5018
    [Tags]    promise-admin-access    needs-admin-access
    [Setup]    Allow Admin Access
    Run Pod With Claim    uses
    ${before}    Prepare Claims Of Pod    uses
    Start Pod With All Devices    looks    ${NODES}[0]    admin_access=${True}
    Pod Should Have Its Devices    looks
    Delete Pod    looks
    ${after}    Prepare Claims Of Pod    uses
    Answers Should Be The Same    ${before}    ${after}
    Pod Should Have Its Devices    uses
    [Teardown]    Clean Up And Take Admin Access Away

Pools Are Complete And Stay As They Are
    [Documentation]    All slices of a pool have one generation and its number of slices; an idle driver writes none.
    ...    Source: api/resource/v1/types.go, ResourcePool
    [Tags]    promise-complete-pools
    Published Devices Should Be    ${PUBLISHED}
    ResourceSlices Should Stay As They Are

Standard Attributes Are Right
    [Documentation]    PCI address, NUMA node and PCIe root are those of the hardware.
    ...    Source: dynamic-resource-allocation/deviceattribute/attribute.go
    [Tags]    promise-standard-attributes
    Standard Attributes Should Agree With Topology

Deleted Slices Come Back
    [Documentation]    With all devices and attributes, and pods get devices again.
    ...    Source: dynamic-resource-allocation/resourceslice/resourceslicecontroller.go
    [Tags]    promise-deleted-slices    needs-slice-repair
    Delete ResourceSlices Of Node    ${NODES}[0]
    Published Devices Should Be    ${PUBLISHED}
    Run Pod With Claim    afterwards

Changed Slices Are Corrected
    [Documentation]    Somebody has removed the attributes of a device.
    ...    Source: dynamic-resource-allocation/resourceslice/resourceslicecontroller.go
    [Tags]    promise-changed-slices    needs-slice-repair
    Change A ResourceSlice Of Node    ${NODES}[0]
    Published Devices Should Be    ${PUBLISHED}

Plugin Reports Health Of All Devices
    [Documentation]    The first report has every device that the plugin publishes.
    ...    Source: kubelet/pkg/apis/dra-health/v1/api.proto; KEP-4680
    [Tags]    promise-health-reports    needs-health
    Plugin Should Report Health Of Published Devices    ${NODES}[0]

Pod Shows Health Of Its Devices
    [Documentation]    In ``allocatedResourcesStatus`` of its container.
    ...    Source: KEP-4680
    [Tags]    promise-health-of-pods    needs-health
    Run Pod With Claim    healthy
    Pod Should Report Health    healthy    Healthy

Claim Shows What The Driver Knows Of Its Devices
    [Documentation]    ``status.devices`` has an entry for each allocated device.
    ...    Source: api/resource/v1/types.go, AllocatedDeviceStatus; KEP-4817
    [Tags]    promise-device-status    needs-device-status
    Run Pod With Claim    described
    Claim Status Should Have Devices    described

Plugin Publishes For Its Own Node Only
    [Documentation]    The API server refuses slices of another node from it: a stolen token must not harm other nodes.
    ...    Source: dynamic-resource-allocation/kubeletplugin/doc.go
    [Tags]    promise-own-node    needs-least-rights
    Node Agent May Publish    ${NODES}[0]    ${NODES}[0]
    ${reason}    Node Agent May Not Publish    ${NODES}[0]    not-${NODES}[0]
    Set Test Message    The API server says: ${reason}

Pod Starts When The Driver Comes Back
    [Documentation]    It was created while no plugin was there to prepare its claim.
    ...    Source: dynamic-resource-allocation/kubeletplugin/doc.go; KEP-4381, NodePrepareResource
    [Tags]    promise-prepare-while-away    long
    Send Node Agents Away
    Wait Until No Node Agent Runs
    Start Pod With Claim    early
    Bring Node Agents Back
    Driver Pods Should Be Running    timeout=10 minutes
    Pod Should Have Its Devices    early
    [Teardown]    Bring Driver Back And Clean Up

Pod Ends When The Driver Comes Back
    [Documentation]    It was deleted while no plugin was there to unprepare its claim, which stays allocated meanwhile.
    ...    Source: dynamic-resource-allocation/kubeletplugin/doc.go; KEP-4381, NodeUnprepareResources
    [Tags]    promise-unprepare-while-away    long
    Run Pod With Claim    late
    Send Node Agents Away
    Wait Until No Node Agent Runs
    Start Deleting Pod    late
    Bring Node Agents Back
    Driver Pods Should Be Running    timeout=10 minutes
    Wait Until Pod Is Gone    late
    Claim Should Have No Devices    late
    [Teardown]    Bring Driver Back And Clean Up

Claim Outlives A Restart Of The Driver
    [Documentation]    The new process knows what the old one has prepared, and refuses the device to others.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, UnprepareResourceClaims
    [Tags]    promise-driver-restart    long
    Run Pod With Claim    outlives
    ${before}    Prepare Claims Of Pod    outlives
    Restart Driver Pod    NODE_AGENT    ${NODES}[0]
    ${after}    Prepare Claims Of Pod    outlives
    Answers Should Be The Same    ${before}    ${after}
    Pod Should Have Its Devices    outlives
    Delete Pod    outlives
    Claim Should Have No Devices    outlives

Claim Outlives A Restart Of The Kubelet
    [Documentation]    The kubelet deletes the node's slices when it starts; the driver publishes them again.
    ...    Source: KEP-4381, Publishing node resources
    [Tags]    promise-kubelet-restart    long
    Run Pod With Claim    outlives
    Restart Kubelet    ${NODES}[0]
    Published Devices Should Be    ${PUBLISHED}
    Pod Should Have Its Devices    outlives
    Run Pod With Claim    comes-later
    Delete Pod    outlives
    Claim Should Have No Devices    outlives

Claim Outlives A Restart Of The Node
    [Documentation]    When its pod starts again, the claim is prepared again: a boot has removed the CDI files.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, PrepareResourceClaims
    [Tags]    promise-node-restart    needs-power    long
    ${request}    Request Devices    device
    Create Claim    outlives    ${request}
    Create Pod    outlives    outlives    node=${NODES}[0]    restart=True
    Pod Should Have Its Devices    outlives
    Reboot Node    ${NODES}[0]
    Driver Pods Should Be Running    timeout=10 minutes
    Published Devices Should Be    ${PUBLISHED}    timeout=10 minutes
    Pod Should Have Its Devices    outlives

Rolling Update Leaves No Gap
    [Documentation]    A pod that is created meanwhile starts at its first try, and the old one keeps its device.
    ...    Source: dynamic-resource-allocation/kubeletplugin/draplugin.go, RollingUpdate
    [Tags]    promise-rolling-update    needs-rolling-update    long
    Run Pod With Claim    old
    Start Rolling Update Of Node Agents
    Run Pod With Claim    meanwhile
    Wait Until Rolling Update Is Complete
    Pod Should Not Have Event    meanwhile    FailedPrepareDynamicResources
    Pod Should Have Its Devices    old
    Delete Pod    meanwhile
    Pod Should Have Its Devices    old
