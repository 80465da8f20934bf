//! `lvsd demo`.
