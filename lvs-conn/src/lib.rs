//! lvs-conn
