//! lvs-api
