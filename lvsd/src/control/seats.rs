//! Places for clients, and who gives up his when all are taken and others wait.
//!
//! Who comes in; a [`Seat`] for as long as it is held, out. It goes at once while one is free. Otherwise
//! whoever has said and heard nothing for longest is asked to leave, so that a crowd of silent clients
//! keeps nobody out. A client whose request is being worked on is never asked.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    /// How long a client may be silent while others wait.
    courtesy: Duration,
    taken: Mutex<BTreeMap<u64, Arc<Guest>>>,
}

/// One client: what it is at.
#[derive(Debug)]
pub(super) struct Guest {
    state: Mutex<State>,
    leave: Notify,
}

#[derive(Debug)]
struct State {
    /// A whole request has come, and its answer has not begun.
    working: bool,
    /// Whether any answer has begun.
    answered: bool,
    /// When something was last heard from or said to it.
    since: Instant,
}

/// A place that is held; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    pub(super) guest: Arc<Guest>,
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    pub(super) fn new(places: usize, courtesy: Duration) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(places)),
            courtesy,
            taken: Mutex::default(),
        })
    }

    /// A place for somebody who has come; waits until one is free.
    pub(super) async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let patience = self.send_away(Instant::now());
            let free = Arc::clone(&self.free).acquire_owned();
            match timeout(patience, free).await {
                Ok(Ok(permit)) => return self.seat(permit),
                // Nobody closes the semaphore; were it closed, nobody could be let in.
                Ok(Err(_)) => sleep(self.courtesy).await,
                Err(_) => {}
            }
        }
    }

    /// Waits until nobody is left, at most so long.
    pub(super) async fn emptied(&self, places: usize, at_most: Duration) {
        let all = u32::try_from(places).unwrap_or(u32::MAX);
        let _ = timeout(at_most, self.free.acquire_many(all)).await;
    }

    fn seat(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Seat {
        let guest = Arc::new(Guest {
            state: Mutex::new(State {
                working: false,
                answered: false,
                since: Instant::now(),
            }),
            leave: Notify::new(),
        });
        let mut taken = self.taken.lock();
        let number = taken.last_key_value().map_or(0, |(last, _)| last + 1);
        taken.insert(number, Arc::clone(&guest));
        Seat {
            seats: Arc::clone(self),
            number,
            guest,
            _permit: permit,
        }
    }

    /// Asks the most silent client to leave if no place is free and its time is over; how long to wait
    /// for a place before asking again.
    fn send_away(&self, now: Instant) -> Duration {
        if self.free.available_permits() > 0 {
            return self.courtesy;
        }
        let taken = self.taken.lock();
        let silent = taken.values().filter_map(|guest| {
            let state = guest.state.lock();
            (!state.working).then_some((state.since, guest))
        });
        let Some((since, guest)) = silent.min_by_key(|(since, _)| *since) else {
            return self.courtesy;
        };
        let left = self.courtesy.saturating_sub(now.duration_since(since));
        if left.is_zero() {
            guest.leave.notify_one();
            return self.courtesy;
        }
        left
    }
}

impl Guest {
    /// A whole request has come.
    pub(super) fn asked(&self) {
        let mut state = self.state.lock();
        state.working = true;
    }

    /// Its answer begins, or goes on.
    pub(super) fn answered(&self) {
        let mut state = self.state.lock();
        state.working = false;
        state.answered = true;
        state.since = Instant::now();
    }

    /// Whether it was answered at all.
    pub(super) fn was_answered(&self) -> bool {
        self.state.lock().answered
    }

    /// Completes when it should leave, and nobody works for it.
    pub(super) async fn asked_to_leave(&self) {
        loop {
            self.leave.notified().await;
            if !self.state.lock().working {
                return;
            }
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    const COURTESY: Duration = Duration::from_secs(9);

    fn full(places: usize) -> (Arc<Seats>, Vec<Seat>) {
        let seats = Seats::new(places, COURTESY);
        let permit = || Arc::clone(&seats.free).try_acquire_owned().unwrap();
        let taken = (0..places).map(|_| seats.seat(permit())).collect();
        (seats, taken)
    }

    fn is_asked(guest: &Guest) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        pin!(guest.asked_to_leave()).poll(&mut context).is_ready()
    }

    #[test]
    fn the_most_silent_goes_first_and_who_is_worked_for_stays() {
        let (seats, taken) = full(3);
        let [working, silent, talking] = taken.as_slice() else {
            panic!("three places")
        };
        working.guest.asked();
        talking.guest.answered();
        let later = Instant::now() + COURTESY;
        seats.send_away(later);
        assert!(is_asked(&silent.guest));
        assert!(!is_asked(&working.guest) && !is_asked(&talking.guest));
        // Who is asked, and then says something after all, is served.
        silent.guest.leave.notify_one();
        silent.guest.asked();
        assert!(!is_asked(&silent.guest));
    }

    #[test]
    fn everybody_has_a_moment_and_nobody_goes_while_there_is_room() {
        let (seats, mut taken) = full(2);
        let now = Instant::now();
        let left = seats.send_away(now);
        assert!(left > Duration::ZERO && left <= COURTESY);
        assert!(taken.iter().all(|seat| !is_asked(&seat.guest)));
        taken.pop();
        assert_eq!(seats.taken.lock().len(), 1);
        seats.send_away(now + COURTESY * 9);
        assert!(taken.iter().all(|seat| !is_asked(&seat.guest)));
    }
}
