//! Jobs for a thread pool: the schedulers choose among queues as well as among servers.
//!
//! `cargo run -p lvs-sched --example workers -- wlc` gives 60 jobs of uneven length to three workers, one of
//! which counts double, and prints who did how many.
#![expect(clippy::print_stdout, reason = "it tells what it does")]

use lvs_core::{Addr, Endpoint, SchedFlags, Thresholds, Tick};
use lvs_sched::{Backend, Pool, Request};
use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

/// Something to do: so many rounds of arithmetic.
struct Job(u64);

fn worker(backend: Arc<Backend>) -> (Sender<Job>, thread::JoinHandle<usize>) {
    let (queue, jobs) = channel::<Job>();
    let work = move || {
        let mut done = 0;
        for Job(rounds) in jobs {
            black_box((0..rounds).fold(0u64, |x, y| x.rotate_left(5) ^ y));
            backend.closed(true);
            done += 1;
        }
        done
    };
    (queue, thread::spawn(work))
}

fn main() -> Result<(), Box<dyn Error>> {
    let scheduler = std::env::args().nth(1).unwrap_or_else(|| "wlc".into());
    let mut pool = Pool::new(&scheduler, SchedFlags::default())?;
    let mut workers = Vec::new();
    for (id, weight) in [(0, 1), (1, 1), (2, 2)] {
        let backend = Backend::new(id, Endpoint::default(), weight, Thresholds::default());
        pool.add(Arc::clone(&backend))?;
        workers.push(worker(backend));
    }
    for n in 0..60u16 {
        // What the hashing schedulers go by: who asks, as far as there is somebody.
        let asker = Endpoint::new(Addr::from_v4_octets([10, 0, 0, 1]), n);
        let request = Request::new(asker, Endpoint::default(), Tick(0));
        let chosen = pool.pick(&request).ok_or("no worker may be given a job")?;
        chosen.opened(true);
        let (queue, _) = workers.get(chosen.id() as usize).ok_or("no such worker")?;
        queue.send(Job(u64::from(n % 7) * 100_000))?;
    }
    for (id, (queue, thread)) in workers.into_iter().enumerate() {
        drop(queue);
        let done = thread.join().map_err(|_| "a worker panicked")?;
        println!("worker {id}: {done} jobs");
    }
    Ok(())
}
