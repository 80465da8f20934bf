//! The connection table, a row each.

use super::text::Text;
use lvs_api::Connection;
use std::io::{self, Write};

/// The two title lines; with `engines` the columns of persistence engines.
pub(super) fn title(engines: bool, out: &mut dyn Write) -> io::Result<()> {
    let columns = "pro expire state       source             virtual            destination";
    let more = if engines {
        "        pe name          pe_data"
    } else {
        ""
    };
    writeln!(out, "IPVS connection entries\n{columns}{more}")
}

/// A row. With engine data the destination is padded less than its title: the columns do not line
/// up, as ipvsadm's do not.
pub(super) fn row(
    connection: &Connection,
    text: &Text<'_>,
    engines: bool,
    out: &mut dyn Write,
) -> io::Result<()> {
    let protocol = connection.protocol;
    let expire = format!(
        "{:02}:{:02}",
        connection.expires / 60,
        connection.expires % 60
    );
    let source = text.endpoint(connection.client, protocol);
    let service = text.endpoint(connection.virtual_, protocol);
    let destination = text.endpoint(connection.destination, protocol);
    write!(
        out,
        "{:<3} {expire:<6} {:<11} {source:<18} {service:<18} ",
        protocol.name(),
        connection.state
    )?;
    match (&connection.engine, &connection.engine_data) {
        (Some(engine), Some(data)) if engines => {
            writeln!(out, "{destination:<16} {engine:<18} {data}")
        }
        _ => writeln!(out, "{destination}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::System;

    fn lines(engines: bool, connections: &[&str]) -> Vec<String> {
        let mut out = Vec::new();
        let text = Text::new(&System, true);
        for json in connections {
            let connection = serde_json::from_str(json).unwrap();
            row(&connection, &text, engines, &mut out).unwrap();
        }
        let text = String::from_utf8(out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn rows_are_those_of_ipvsadm() {
        let established = r#"{"protocol":"tcp","client":"198.51.100.1:50000","virtual":"192.0.2.10:80","destination":"10.0.0.11:80","method":"nat","state":"ESTABLISHED","expires":899}"#;
        let engine = r#"{"protocol":"tcp","client":"198.51.100.0:0","virtual":"192.0.2.10:443","destination":"10.0.0.1:443","method":"nat","state":"NONE","expires":59,"engine":"sip","engine_data":"abc@example"}"#;
        let mark = r#"{"protocol":"ip","client":"198.51.100.0:0","virtual":"0.0.0.7:0","destination":"10.0.0.1:0","method":"nat","state":"ASSURED","expires":3600}"#;
        let v6 = r#"{"protocol":"tcp","client":"[2001:db8::1]:32769","virtual":"[2001:db8::10]:80","destination":"[2001:db8::a1]:80","method":"nat","state":"SYN_RECV","expires":42}"#;
        assert_eq!(
            lines(true, &[established, engine, mark, v6]),
            [
                "TCP 14:59  ESTABLISHED 198.51.100.1:50000 192.0.2.10:80      10.0.0.11:80",
                "TCP 00:59  NONE        198.51.100.0:0     192.0.2.10:443     10.0.0.1:443     sip                abc@example",
                "IP  60:00  ASSURED     198.51.100.0:0     0.0.0.7:0          10.0.0.1:0",
                "TCP 00:42  SYN_RECV    [2001:db8::1]:32769 [2001:db8::10]:80  [2001:db8::a1]:80",
            ]
        );
        assert!(lines(false, &[engine])[0].ends_with("10.0.0.1:443"));
    }
}
