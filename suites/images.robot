*** Settings ***
Name                Images
Documentation       Images reach the nodes in every form, by the cluster's registry, and not from outside.
Library             ../libraries/ImagesLibrary.py
Library             ../libraries/ToolsLibrary.py
Resource            ../resources/cluster.resource
Resource            ../resources/claims.resource
Suite Setup         Borrow Cluster
Suite Teardown      Return Cluster
Test Teardown       Clean Up And Check That Nothing Leaks
Test Timeout        15 minutes
Test Tags           images    long


*** Test Cases ***
Images Of All Forms Are Loaded
    [Documentation]    ``lab load-image``
    Load Image    docker archive    localhost/suite/docker:1
    Load Image    compressed archive    localhost/suite/compressed:1
    Load Image    OCI archive    localhost/suite/oci:1
    Load Image    OCI layout    localhost/suite/layout:1
    Create Pod With Images
    ...    forms
    ...    localhost/suite/docker:1
    ...    localhost/suite/compressed:1
    ...    localhost/suite/oci:1
    ...    localhost/suite/layout:1
    Pod Should Be Running    forms

Pushed Image Is Pulled
    [Documentation]    ``lab registry``
    [Tags]    needs-console
    ${image}    Push Image    suite/pushed:1
    Create Pod With Images    pushed    ${image}    policy=Always
    Pod Should Be Running    pushed

Image Pushed Under The Name Of Another Registry Is Pulled
    [Tags]    needs-console
    Push Image    registry.example/suite/kept:1
    Create Pod With Images    kept    registry.example/suite/kept:1    policy=Always
    Pod Should Be Running    kept

Image Of The Registry Is Loaded
    [Documentation]    ``lab load-image`` with a reference, which is pulled on this machine.
    [Tags]    needs-console
    Push Image    suite/reference:1
    Load Image From Registry    suite/reference:1    localhost/suite/reference:1
    Create Pod With Images    reference    localhost/suite/reference:1
    Pod Should Be Running    reference

Loaded Image Is Used After Its Content Was Pulled Under Another Name
    [Documentation]    By default the kubelet pulls it again to check credentials, see docs/how-to/images.md.
    [Tags]    needs-console
    ${image}    Push Image    suite/same:1
    Create Pod With Images    pulled    ${image}    node=${NODES}[0]
    Pod Should Be Running    pulled
    Load Image    docker archive    localhost/suite/same:1
    Create Pod With Images    same    localhost/suite/same:1    node=${NODES}[0]
    Pod Should Be Running    same

Pull From Outside Fails At Once And Says Why
    [Tags]    needs-console
    ${request}    Request Devices    device
    Create Claim    outside    ${request}
    Create Pod With Images    outside    registry.example/outside:1    claim=outside
    Pull Should Fail    outside    this cluster has no internet
    Diagnosis Should Name
    ...    images are on the nodes
    ...    lacks image registry.example/outside:1, and this cluster has no internet
    ...    lab load-image registry.example/outside:1
