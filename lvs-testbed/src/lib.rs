//! lvs-testbed
