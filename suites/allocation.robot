*** Settings ***
Name                Allocation
Documentation       A device on its way into a container and back: claim, status register, CDI file, environment, sysfs.
...
...                 Tests pick devices by what the topology says of them, never by name.
Resource            ../resources/cluster.resource
Resource            ../resources/devices.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        10 minutes
Test Tags           allocation    dra


*** Test Cases ***
One Device For A Pod
    [Documentation]    ``docs/examples/basic-allocation.yaml``, as a reader would apply it.
    Apply Example    basic-allocation
    Pod Should Be Running    basic-allocation-test
    Devices Of Pod Should Be Of Class    basic-allocation-test    PF    count=1
    Container Should See Exactly Its Devices    basic-allocation-test
    Nodes Should Agree With Allocations
    CDI Files Should Match The Official Schema

Claim That Can Never Be Met Stays Pending
    [Documentation]    The scheduler's reason is in the report.
    ${request}    Request Devices    impossible    cel=${DEVICE}.uuid == "NOBODY-HAS-THIS"
    Create Claim    impossible    ${request}
    Create Pod    impossible    impossible
    ${reason}    Pod Should Stay Pending    impossible
    Set Test Message    The scheduler says: ${reason}
    Claim Should Have No Devices    impossible
    Nodes Should Agree With Allocations

CEL That Does Not Compile Is Refused
    [Documentation]    By the API server, with the place in the expression.
    ${request}    Request Devices    broken    cel=${DEVICE}.uuid ==
    ${reason}    Create Claim Should Be Refused    broken    ${request}    because=compilation failed
    Set Test Message    The API server says: ${reason}

CEL That Fails For A Device Is Reported
    [Documentation]    An attribute that no device has: the scheduler names the error, not just a lack of devices.
    ${request}    Request Devices    fails    cel=${DEVICE}.color == "red"
    Create Claim    fails    ${request}
    Create Pod    fails    fails
    ${reason}    Pod Should Stay Pending    fails    because=CEL runtime error
    Set Test Message    The scheduler says: ${reason}
    Should Contain    ${reason}    no such key: color
