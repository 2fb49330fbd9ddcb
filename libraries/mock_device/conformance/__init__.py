"""Which promises of the contract of DRA drivers does a driver keep: runs suites/conformance.robot and reports it."""
