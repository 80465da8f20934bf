//! Names of hosts and services, both ways, as the C library knows them.
//!
//! The only `unsafe` of this crate: four calls of libc, made from one thread.

use lvs_core::{Addr, Protocol};
use std::ffi::{CStr, CString, c_char};
use std::mem;
use std::net::{IpAddr, ToSocketAddrs};
use std::ptr;

/// Where names come from.
pub trait Names {
    /// The IPv4 address of a host.
    fn resolve(&self, host: &str) -> Option<Addr>;
    /// The name of an address.
    fn host(&self, addr: Addr) -> Option<String>;
    /// The port of a service.
    fn port(&self, service: &str, protocol: Protocol) -> Option<u16>;
    /// The name of a port.
    fn service(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The names that the system knows: `/etc/hosts`, DNS, `/etc/services`, ...
#[derive(Clone, Copy, Debug, Default)]
pub struct System;

impl Names for System {
    fn resolve(&self, host: &str) -> Option<Addr> {
        let all: Vec<IpAddr> = (host, 0)
            .to_socket_addrs()
            .ok()?
            .map(|found| found.ip())
            .collect();
        // ipvsadm asks for IPv4 only; an IPv6 address has to be written.
        let first = all.iter().find(|ip| ip.is_ipv4());
        first.map(|&ip| ip.into())
    }

    fn host(&self, addr: Addr) -> Option<String> {
        let mut name: [c_char; 1025] = [0; 1025];
        let capacity = libc::socklen_t::try_from(name.len()).ok()?;
        let status = match IpAddr::from(addr) {
            IpAddr::V4(v4) => {
                // SAFETY: all-zero bytes are a valid sockaddr_in.
                let mut socket: libc::sockaddr_in = unsafe { mem::zeroed() };
                socket.sin_family = family(libc::AF_INET);
                socket.sin_addr.s_addr = u32::from_ne_bytes(v4.octets());
                name_of(&socket, &mut name, capacity)
            }
            IpAddr::V6(v6) => {
                // SAFETY: all-zero bytes are a valid sockaddr_in6.
                let mut socket: libc::sockaddr_in6 = unsafe { mem::zeroed() };
                socket.sin6_family = family(libc::AF_INET6);
                socket.sin6_addr.s6_addr = v6.octets();
                name_of(&socket, &mut name, capacity)
            }
        };
        if status != 0 {
            return None;
        }
        // SAFETY: getnameinfo succeeded, so `name` holds a string that ends within it.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Some(name.to_string_lossy().into_owned())
    }

    fn port(&self, service: &str, protocol: Protocol) -> Option<u16> {
        let service = CString::new(service).ok()?;
        let protocol = c_name(protocol)?;
        // SAFETY: both strings end in NUL; this program has one thread, so nobody else uses the
        // buffer that the result points into.
        let entry = unsafe { libc::getservbyname(service.as_ptr(), protocol.as_ptr()) };
        // SAFETY: the result is null or points to an entry that is valid until the next call.
        let entry = unsafe { entry.as_ref() }?;
        u16::try_from(entry.s_port).ok().map(u16::from_be)
    }

    fn service(&self, port: u16, protocol: Protocol) -> Option<String> {
        let protocol = c_name(protocol)?;
        // SAFETY: as in `port`.
        let entry = unsafe { libc::getservbyport(i32::from(port.to_be()), protocol.as_ptr()) };
        // SAFETY: as in `port`.
        let entry = unsafe { entry.as_ref() }?;
        // SAFETY: the name of an entry is a string that ends in NUL.
        let name = unsafe { CStr::from_ptr(entry.s_name) };
        Some(name.to_string_lossy().into_owned())
    }
}

fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or_default()
}

/// `socket` must be a `sockaddr_in` or `sockaddr_in6`.
fn name_of<S>(socket: &S, name: &mut [c_char], capacity: libc::socklen_t) -> i32 {
    let length = libc::socklen_t::try_from(mem::size_of::<S>()).unwrap_or_default();
    // SAFETY: `socket` is readable for `length` bytes and `name` writable for `capacity`.
    unsafe {
        libc::getnameinfo(
            ptr::from_ref(socket).cast(),
            length,
            name.as_mut_ptr(),
            capacity,
            ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    }
}

fn c_name(protocol: Protocol) -> Option<CString> {
    CString::new(protocol.name().to_ascii_lowercase()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_system_knows() {
        let loopback: Addr = "127.0.0.1".parse().unwrap();
        assert_eq!(System.resolve("localhost"), Some(loopback));
        assert_eq!(System.host(loopback).as_deref(), Some("localhost"));
        assert_eq!(System.port("https", Protocol::Tcp), Some(443));
        assert_eq!(System.service(53, Protocol::Udp).as_deref(), Some("domain"));
        assert_eq!(System.service(49151, Protocol::Tcp), None);
    }
}
