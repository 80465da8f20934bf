//! Connections as the benches of the table make them, and a generator of numbers that look random.

use lvs_conn::{Inserted, NewConnection, Table};
use lvs_core::{Addr, Endpoint, Flow, Tick};

/// Numbers that look random, the same each time (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(
    /// Where it begins.
    pub u64,
);

impl Random {
    /// The next one.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    /// The next one below a limit.
    #[expect(clippy::cast_possible_truncation, reason = "below the limit")]
    pub const fn below(&mut self, limit: usize) -> usize {
        ((self.next() as u128 * limit as u128) >> 64) as usize
    }
}

/// Connection number `n`: another client for each, sixteen services, some hundred servers, by NAT.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "numbers are far below 2^32; the rest is a mix of bits"
)]
pub const fn client(n: usize) -> Endpoint {
    let mix = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    Endpoint::new(
        Addr::from_v4_bits(0x0b00_0000 + (n as u32 >> 3)),
        1024 + (mix as u16 & 0x1fff) * 7 + (n as u16 & 7),
    )
}

/// A connection of a client, that lives for so many ticks.
#[must_use]
pub fn of(client: Endpoint, timeout: u32, now: Tick) -> NewConnection {
    let service = u32::from(client.port) & 15;
    let server = (client.addr.low_word() ^ u32::from(client.port)) % 200;
    NewConnection {
        client,
        virtual_endpoint: Endpoint::new(Addr::from_v4_bits(0xc000_0200 + service), 80),
        destination: Endpoint::new(Addr::from_v4_bits(0x0a00_0000 + server), 8080),
        timeout,
        now,
        ..NewConnection::default()
    }
}

/// What its client sends.
#[must_use]
pub fn request(client: Endpoint) -> Flow {
    let new = of(client, 0, Tick(0));
    Flow::new(new.protocol, client, new.virtual_endpoint)
}

/// Puts connections into a table, a batch at a time; answers how many it took.
pub fn fill(table: &std::sync::Arc<Table>, new: impl IntoIterator<Item = NewConnection>) -> usize {
    let mut handle = table.register();
    let mut taken = 0;
    let mut new = new.into_iter().peekable();
    while new.peek().is_some() {
        let guard = handle.pin();
        let batch = new.by_ref().take(64);
        taken += batch
            .filter(|new| matches!(guard.insert(new), Ok(Inserted::New(_))))
            .count();
    }
    taken
}
