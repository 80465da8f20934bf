//! The client: one connection, one request at a time.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::pattern;
use crate::{Error, Namespace, Result};

/// A connection to a server.
#[derive(Debug)]
pub struct HttpClient {
    reader: BufReader<TcpStream>,
    address: SocketAddr,
}

/// An answer, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The number of the status line.
    pub status: u16,
    /// The `Server` header.
    pub server: String,
    /// The length of the body.
    pub length: u64,
}

impl HttpClient {
    /// Connects from inside `namespace`; `limit` holds for the connect and for each read and write.
    ///
    /// # Errors
    ///
    /// Refused, unreachable, or too late.
    pub fn connect(namespace: &Namespace, address: SocketAddr, limit: Duration) -> Result<Self> {
        let doing = format!("connect to {address} from {}", namespace.name());
        let stream = namespace
            .run(|| TcpStream::connect_timeout(&address, limit))?
            .and_then(|stream| {
                stream.set_read_timeout(Some(limit))?;
                stream.set_write_timeout(Some(limit))?;
                stream.set_nodelay(true)?;
                Ok(stream)
            })
            .map_err(Error::io(doing))?;
        Ok(Self {
            reader: BufReader::with_capacity(256 << 10, stream),
            address,
        })
    }

    /// Asks for `path` and returns the answer and its whole body.
    ///
    /// # Errors
    ///
    /// A broken connection, or something that is no HTTP.
    pub fn get(&mut self, path: &str) -> Result<(Response, Vec<u8>)> {
        let mut body = Vec::new();
        let response = self.get_with(path, |part| body.extend_from_slice(part))?;
        Ok((response, body))
    }

    /// Asks for `/bytes/N`, checks every octet against the pattern, keeps none.
    ///
    /// # Errors
    ///
    /// A broken connection, something that is no HTTP, or another octet than the pattern has.
    pub fn get_bytes(&mut self, count: u64) -> Result<Response> {
        let (mut offset, mut wrong) = (0, None);
        let response = self.get_with(&format!("/bytes/{count}"), |part| {
            for octet in part {
                if *octet != pattern(offset) && wrong.is_none() {
                    wrong = Some(offset);
                }
                offset += 1;
            }
        })?;
        match wrong {
            None if offset == count => Ok(response),
            None => Err(self.unexpected(format!("{offset} octets instead of {count}"))),
            Some(at) => Err(self.unexpected(format!("a wrong octet at {at}"))),
        }
    }

    /// Asks for `path` and hands the body over in parts.
    ///
    /// # Errors
    ///
    /// A broken connection, or something that is no HTTP.
    pub fn get_with(&mut self, path: &str, mut part: impl FnMut(&[u8])) -> Result<Response> {
        let doing = format!("get http://{}{path}", self.address);
        let io = || Error::io(doing.clone());
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address);
        let stream = self.reader.get_mut();
        stream.write_all(request.as_bytes()).map_err(io())?;
        let mut response = Response {
            status: 0,
            server: String::new(),
            length: 0,
        };
        let status = self.line().map_err(io())?;
        response.status = status
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .ok_or_else(|| self.unexpected(status))?;
        loop {
            let header = self.line().map_err(io())?;
            let Some((name, value)) = header.split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "server" => value.trim().clone_into(&mut response.server),
                "content-length" => response.length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        let mut left = response.length;
        while left > 0 {
            let buffer = self.reader.fill_buf().map_err(io())?;
            let now = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            if now == 0 {
                return Err(io()(io::ErrorKind::UnexpectedEof.into()));
            }
            part(buffer.get(..now).unwrap_or_default());
            self.reader.consume(now);
            left -= now as u64;
        }
        Ok(response)
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        // No line of a head is this long; a stream of something else must not fill the memory.
        if self.reader.by_ref().take(16 << 10).read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn unexpected(&self, got: String) -> Error {
        Error::Unexpected {
            doing: format!("the answer of http://{}", self.address),
            got,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::HttpServer;
    use super::*;
    use crate::test::networked;

    #[test]
    fn asks_and_is_answered_on_one_connection() {
        networked(&[], || {
            let home = Namespace::new("home").unwrap();
            let address = "127.0.0.1:80".parse().unwrap();
            let server = HttpServer::start(&home, &[address], "here").unwrap();
            let limit = Duration::from_secs(10);
            let mut client = HttpClient::connect(&home, address, limit).unwrap();
            let (response, body) = client.get("/").unwrap();
            assert_eq!((response.status, response.server.as_str()), (200, "here"));
            assert_eq!(body, b"here\n");
            assert_eq!(client.get_bytes(1_000_003).unwrap().length, 1_000_003);
            let counts = server.counts();
            assert_eq!((counts.connections, counts.requests), (1, 2));
            drop(server);
            assert!(client.get("/").is_err());
            assert!(HttpClient::connect(&home, address, limit).is_err());
        });
    }
}
