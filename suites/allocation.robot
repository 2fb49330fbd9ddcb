*** Settings ***
Name                Allocation
Documentation       A device is allocated and released: claim, status register, CDI file, environment, sysfs.
...
...                 Tests select devices by their properties in the topology, never by name.
Resource            ../resources/cluster.resource
Resource            ../resources/devices.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        30 minutes
Test Tags           allocation    dra


*** Test Cases ***
One Device For A Pod
    [Documentation]    ``docs/examples/basic-allocation.yaml``, as a reader would apply it.
    [Tags]    needs-examples
    Apply Example    basic-allocation
    Pod Should Be Running    basic-allocation-test
    Devices Of Pod Should Be Of Class    basic-allocation-test    PF    count=1
    Container Should See Exactly Its Devices    basic-allocation-test
    Nodes Should Agree With Allocations
    CDI Files Should Match The Official Schema

Device Is Released When The Pod Is Deleted
    [Documentation]    Its status register is 0 and its CDI file is removed. Then the same claim gets a device again.
    Run Pod With Claim    comes-back
    Delete Pod    comes-back
    Wait Until All Devices Are Free
    Wait Until No CDI File Is Left
    Claim Should Have No Devices    comes-back
    Create Pod    comes-back    comes-back
    Pod Should Be Running    comes-back
    Container Should See Exactly Its Devices    comes-back
    Nodes Should Agree With Allocations

Claim Reports Its Device Status Again For A New Pod
    [Documentation]    ``status.devices`` of a claim is removed with its allocation, and filled again with the next one.
    [Tags]    needs-device-status
    Run Pod With Claim    again
    Claim Should Report Condition    again    Ready    True    Prepared
    Delete Pod    again
    Claim Should Have No Devices    again
    Create Pod    again    again
    Pod Should Be Running    again
    Claim Should Report Condition    again    Ready    True    Prepared

Claim With Admin Access Reports Its Device Status Again For A New Pod
    [Documentation]    As above, for a claim with administrative access to a device, which may be another claim's.
    [Tags]    needs-admin-access    needs-device-status
    [Setup]    Allow Admin Access
    ${request}    Request Devices    device    admin_access=True
    Run Pod With Request    looks    ${request}
    Claim Should Report Condition    looks    Ready    True    Prepared
    Delete Pod    looks
    Claim Should Have No Devices    looks
    Create Pod    looks    looks
    Pod Should Be Running    looks
    Claim Should Report Condition    looks    Ready    True    Prepared
    [Teardown]    Clean Up And Forbid Admin Access

Each Pod Of A Template Gets Its Own Claim
    ${request}    Request Devices    device
    Create Claim Template    each    ${request}
    Create Pod    first-of-template    template=each
    Create Pod    second-of-template    template=each
    Pods Should Be Running    first-of-template    second-of-template
    Pods Should Have Different Devices    first-of-template    second-of-template
    Container Should See Exactly Its Devices    first-of-template
    Container Should See Exactly Its Devices    second-of-template
    Nodes Should Agree With Allocations

Two Pods Share A Claim
    [Documentation]    The device is released with the last of them.
    Run Pod With Claim    shared
    Create Pod    shares    shared
    Pod Should Be Running    shares
    Pods Should Have The Same Devices    shared    shares
    Container Should See Exactly Its Devices    shares
    Delete Pod    shared
    Container Should See Exactly Its Devices    shares
    Nodes Should Agree With Allocations
    Delete Pod    shares
    Wait Until All Devices Are Free

Two Claims In One Container
    ${request}    Request Devices    device
    Create Claim    one    ${request}
    Create Claim    other    ${request}
    Create Pod    two-claims    one    other
    Pod Should Be Running    two-claims
    Pod Should Have Devices    two-claims    2
    Container Should See Exactly Its Devices    two-claims
    Nodes Should Agree With Allocations
    CDI Files Should Match The Official Schema

Two Containers Of A Pod Have A Claim Each
    [Documentation]    Neither sees the device of the other.
    ${request}    Request Devices    device
    Create Claim    left    ${request}
    Create Claim    right    ${request}
    Create Pod With Containers    two-containers    first=left    second=right
    Pod Should Be Running    two-containers
    Pod Should Have Devices    two-containers    2
    Container Should See Exactly Its Devices    two-containers    container=first
    Container Should See Exactly Its Devices    two-containers    container=second
    Nodes Should Agree With Allocations

All Devices At Once, And One More Claim Waits
    [Tags]    needs-attribute-numa-node
    ${all}    Count PFs
    @{pods}    Run Pods That Take All Devices
    ${devices}    Get Allocated Devices
    Length Should Be    ${devices}    ${all}
    Nodes Should Agree With Allocations
    Start Pod With Claim    one-more
    ${reason}    Pod Should Stay Pending    one-more
    Set Test Message    While all ${all} devices were taken, the scheduler said: ${reason}
    Delete Pod    ${pods}[0]
    Pod Should Be Running    one-more

Selector By UUID Picks That Device
    [Tags]    needs-attribute-uuid    needs-attribute-pci-address
    ${pfs}    Get PFs    ${NODES}[-1]
    Run Pod With Selected Devices    by-uuid    ${CEL.uuid} == "${pfs[-1].uuid}"
    Devices Of Pod Should Be    by-uuid    ${pfs}[-1]
    Container Should See Exactly Its Devices    by-uuid

Selector By Memory Picks The Largest Devices
    [Documentation]    The claim gets exactly the largest devices of one node. ``capacity`` is compared as a quantity.
    [Tags]    needs-capacity-memory    needs-attribute-pci-address
    ${memory}    Get Largest Memory    ${NODES}[0]
    @{largest}    Get PFs    ${NODES}[0]    memory=${memory}
    VAR    ${cel}    ${CEL.capacity_memory}.compareTo(quantity("${memory}")) >= 0
    Run Pod With Selected Devices    by-memory    ${cel}    count=${{ len($largest) }}    node=${NODES}[0]
    Devices Of Pod Should Be    by-memory    @{largest}
    Container Should See Exactly Its Devices    by-memory

Selector By Capability Picks The Devices That Have It
    [Documentation]    The claim gets exactly the devices of one node that have the capability.
    [Tags]    needs-attribute-capabilities    needs-attribute-pci-address
    ${capability}    Get Distinguishing Capability    ${NODES}[0]
    @{capable}    Get PFs    ${NODES}[0]    capability=${capability}
    VAR    ${cel}    "${capability}" in ${CEL.capabilities}.split(",")
    Run Pod With Selected Devices    by-capability    ${cel}    count=${{ len($capable) }}    node=${NODES}[0]
    Devices Of Pod Should Be    by-capability    @{capable}
    Container Should See Exactly Its Devices    by-capability

First Available Alternative Is Taken
    [Tags]    needs-attribute-uuid    needs-attribute-pci-address
    ${pfs}    Get PFs    ${NODES}[0]
    ${first}    Request Devices    first    cel=${CEL.uuid} == "${pfs[0].uuid}"
    ${second}    Request Devices    second
    ${request}    Request First Available    either    ${first}    ${second}
    Run Pod With Request    first-choice    ${request}
    Alternative Of Pod Should Be    first-choice    either    first
    Devices Of Pod Should Be    first-choice    ${pfs}[0]
    Container Should See Exactly Its Devices    first-choice
    Nodes Should Agree With Allocations

Second Alternative Is Taken When The First Is Allocated
    [Documentation]    ``firstAvailable``: another pod has the device of the first alternative.
    [Tags]    needs-attribute-uuid    needs-attribute-pci-address
    ${pfs}    Get PFs    ${NODES}[0]
    ${first}    Request Devices    first    cel=${CEL.uuid} == "${pfs[0].uuid}"
    Run Pod With Request    takes-first    ${first}
    ${second}    Request Devices    second    cel=${CEL.uuid} == "${pfs[-1].uuid}"
    ${request}    Request First Available    either    ${first}    ${second}
    Run Pod With Request    second-choice    ${request}
    Alternative Of Pod Should Be    second-choice    either    second
    Devices Of Pod Should Be    second-choice    ${pfs}[-1]
    Container Should See Exactly Its Devices    second-choice
    Nodes Should Agree With Allocations

Claim That Can Never Be Met Stays Pending
    [Documentation]    The report has the scheduler's reason.
    ${request}    Request Devices    impossible    cel=device.driver == "nobody.example.com"
    Create Claim    impossible    ${request}
    Create Pod    impossible    impossible
    ${reason}    Pod Should Stay Pending    impossible
    Set Test Message    The scheduler says: ${reason}
    Claim Should Have No Devices    impossible
    Nodes Should Agree With Allocations

CEL That Does Not Compile Is Refused
    [Documentation]    The API server names the position in the expression.
    ${request}    Request Devices    broken    cel=device.driver ==
    ${reason}    Create Claim Should Be Refused    broken    ${request}    because=compilation failed
    Set Test Message    The API server says: ${reason}

CEL That Fails For A Device Is Reported
    [Documentation]    No device has the attribute: the scheduler reports the CEL error, not just a lack of devices.
    ${request}    Request Devices    fails    cel=device.attributes["${DRIVER_NAME}"].color == "red"
    Create Claim    fails    ${request}
    Create Pod    fails    fails
    ${reason}    Pod Should Stay Pending    fails    because=CEL runtime error
    Set Test Message    The scheduler says: ${reason}
    Should Contain    ${reason}    no such key: color


*** Keywords ***
Run Pods That Take All Devices
    [Documentation]    Runs a pod for each NUMA node of each node, with all its devices; returns the names of the pods.
    VAR    @{pods}    @{EMPTY}
    FOR    ${node}    IN    @{NODES}
        ${numa_nodes}    Get NUMA Nodes    ${node}
        FOR    ${numa_node}    IN    @{numa_nodes}
            ${count}    Count PFs On NUMA Node    ${node}    ${numa_node}
            VAR    ${name}    takes-all-${node}-${numa_node}
            Start Pod On NUMA Node    ${name}    ${node}    ${numa_node}    count=${count}
            VAR    @{pods}    @{pods}    ${name}
        END
    END
    Pods Should Be Running    @{pods}
    RETURN    ${pods}
