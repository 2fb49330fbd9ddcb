"""Parameters of claims: strictly decoded, merged in the order of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest
from mock_accel_dra.configuration import Configuration, ConfigurationError, decode, of_claim, of_request

KIND = {"apiVersion": "mock-accel.example.com/v1alpha1", "kind": "MockAccelConfig"}


def part(source: str, *requests: str, driver: str = "mock-accel.example.com", **fields: Any) -> dict[str, Any]:
    opaque = {"driver": driver, "parameters": {**KIND, **fields}}
    return {"source": source, "requests": list(requests), "opaque": opaque}


def claim(*config: dict[str, Any]) -> dict[str, Any]:
    return {"status": {"allocation": {"devices": {"results": [], "config": list(config)}}}}


def merged(request: str, *config: dict[str, Any]) -> Configuration:
    return of_request(of_claim(claim(*config)), request)


def test_all_fields() -> None:
    found = decode({**KIND, "mode": "Shared", "maxJobs": 4, "windowSize": "64Ki"})
    assert found == Configuration("Shared", 4, 65536)
    assert found.variables() == {"MODE": "Shared", "MAX_JOBS": "4", "WINDOW_SIZE": "65536"}
    assert decode(found.parameters()) == found
    assert not decode(KIND)
    assert decode(KIND).variables() == {}


@pytest.mark.parametrize(("text", "size"), [("4Ki", 4096), ("16Mi", 16 << 20), ("8192", 8192), (8192, 8192)])
def test_window_size_is_a_quantity(text: object, size: int) -> None:
    assert decode({**KIND, "windowSize": text}).window_size == size


_NUMBER = "expected a whole number from 1 to 1023, found"
_SIZE = "expected a quantity from 4Ki to 16Mi, a multiple of 4Ki, found"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (None, "parameters: expected an object of kind MockAccelConfig, found nothing"),
        ("Shared", 'parameters: expected an object of kind MockAccelConfig, found "Shared"'),
        ({}, "parameters.apiVersion: expected mock-accel.example.com/v1alpha1, found nothing; parameters.kind: "),
        ({**KIND, "apiVersion": "v1"}, 'parameters.apiVersion: expected mock-accel.example.com/v1alpha1, found "v1"'),
        ({**KIND, "kind": "GpuConfig"}, 'parameters.kind: expected MockAccelConfig, found "GpuConfig"'),
        ({**KIND, "maxjobs": 1}, "parameters.maxjobs: unknown field; expected one of mode, maxJobs, windowSize"),
        ({**KIND, "mode": "shared"}, 'parameters.mode: expected Exclusive or Shared, found "shared"'),
        ({**KIND, "mode": None}, "parameters.mode: expected Exclusive or Shared, found nothing"),
        ({**KIND, "mode": ["Shared"]}, 'parameters.mode: expected Exclusive or Shared, found ["Shared"]'),
        ({**KIND, "maxJobs": 0}, f"parameters.maxJobs: {_NUMBER} 0"),
        ({**KIND, "maxJobs": 1024}, f"parameters.maxJobs: {_NUMBER} 1024"),
        ({**KIND, "maxJobs": "4"}, f'parameters.maxJobs: {_NUMBER} "4"'),
        ({**KIND, "maxJobs": 1.5}, f"parameters.maxJobs: {_NUMBER} 1.5"),
        ({**KIND, "maxJobs": True}, f"parameters.maxJobs: {_NUMBER} true"),
        ({**KIND, "windowSize": "1"}, f'parameters.windowSize: {_SIZE} "1"'),
        ({**KIND, "windowSize": "4097"}, f'parameters.windowSize: {_SIZE} "4097"'),
        ({**KIND, "windowSize": "32Mi"}, f'parameters.windowSize: {_SIZE} "32Mi"'),
        ({**KIND, "windowSize": "much"}, f'parameters.windowSize: {_SIZE} "much"'),
        ({**KIND, "windowSize": 8192.0}, f"parameters.windowSize: {_SIZE} 8192.0"),
        ({**KIND, "windowSize": False}, f"parameters.windowSize: {_SIZE} false"),
        ({**KIND, "windowSize": "1e99999"}, f"parameters.windowSize: {_SIZE} "),
        ({**KIND, "windowSize": "1e300"}, f"parameters.windowSize: {_SIZE} "),
        ({**KIND, "windowSize": "-4Ki"}, f"parameters.windowSize: {_SIZE} "),
        ({**KIND, "mode": "x" * 500}, "x…"),
    ],
)
def test_bad_parameters_are_refused_with_field_and_reason(parameters: object, message: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        decode(parameters)
    assert message in str(refused.value)


def test_all_bad_fields_are_named_with_their_source_and_requests() -> None:
    bad = claim(
        part("FromClass", "gpu", mode="Both"),
        part("FromClaim", "gpu", "fast/big", maxJobs=0, size=1),
        part("FromClaim", "gpu", driver="other.example.com", size=1),
        part("FromClaim", windowSize=1),
    )
    with pytest.raises(ConfigurationError) as refused:
        of_claim(bad)
    text = str(refused.value)
    assert (
        'config[0] from the device class for gpu: parameters.mode: expected Exclusive or Shared, found "Both"' in text
    )
    assert "config[1] from the claim for gpu, fast/big: parameters.maxJobs: " in text
    assert "; parameters.size: unknown field" in text
    assert "; config[3] from the claim: parameters.windowSize: " in text
    assert "config[2]" not in text


def test_claim_over_class_and_later_over_earlier() -> None:
    config = (
        part("FromClaim", mode="Exclusive", maxJobs=1),
        part("FromClass", "gpu", mode="Shared", maxJobs=8, windowSize="1Mi"),
        part("FromClaim", "gpu", maxJobs=2),
    )
    assert merged("gpu", *config) == Configuration("Exclusive", 2, 1 << 20)
    assert merged("other", *config) == Configuration("Exclusive", 1)


def test_requests_and_subrequests() -> None:
    config = (
        part("FromClaim", "fast", mode="Shared"),
        part("FromClaim", "fast/big", maxJobs=8),
        part("FromClaim", "fast/small", maxJobs=1),
        part("FromClaim", "big", windowSize="4Ki"),
    )
    assert merged("fast/big", *config) == Configuration("Shared", 8)
    assert merged("fast/small", *config) == Configuration("Shared", 1)
    assert merged("fast", *config) == Configuration("Shared")


def test_a_claim_without_configuration() -> None:
    assert of_claim({}) == of_claim(claim()) == of_claim(claim({"source": "FromClaim"})) == []
    assert merged("gpu") == Configuration()
