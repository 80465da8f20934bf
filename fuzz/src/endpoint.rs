//! Addresses with ports as people write them.

use lvs_core::Endpoint;

/// What can be read as an endpoint is written in a form that reads as the same endpoint.
pub fn endpoint(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    if let Ok(endpoint) = text.parse::<Endpoint>() {
        let written = endpoint.to_string();
        let again = written.parse::<Endpoint>();
        let again = again.expect("what was written can be read");
        assert!(again == endpoint, "{text:?} became {written:?}");
    }
}
