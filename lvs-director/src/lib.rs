//! lvs-director
