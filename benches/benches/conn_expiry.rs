//! Lookups while connections expire, the growth of a table, and attaching one in a file.
//!
//! `cargo bench -p lvs-benches --bench conn_expiry` (`-- expiry`, `-- growth`, `-- attach` for one of
//! them, `-- --live N` for another size, `-- --smoke` only shows that it runs)
//!
//! Expiry: ten million live connections, of which a million a second end on a collector's thread, in
//! its slices as in `lvsd`, while as many are made and batches of 64 are looked up on another, in turns with
//! arithmetic that takes as long, which shows what of the tail is the machine's. Growth:
//! batches of 64 insertions, a million connections a second, while a table grows from nothing. Attach: how long it
//! takes to make a table of what is in a file in memory (`/dev/shm`).

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a measurement on the terminal"
)]

use lvs_benches::connections::{Random, client, fill, of, request};
use lvs_conn::{FlowHash, Handle, Inserted, Table, TableConfig};
use lvs_core::{Flow, Tick};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const BATCH: usize = 64;
const LONG: u32 = Tick::seconds(1_000_000);
/// As in `lvsd`.
const COLLECT_EVERY: Duration = Duration::from_millis(20);
const COLLECT_SLICE: usize = 1 << 16;

struct Plan {
    live: usize,
    seconds: usize,
    names: Vec<String>,
}

impl Plan {
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| wanted == name)
    }
}

fn plan() -> Plan {
    let mut plan = Plan {
        live: 10_000_000,
        seconds: 6,
        names: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--smoke" | "--test" => (plan.live, plan.seconds) = (20_000, 1),
            "--live" => plan.live = arguments.next().and_then(|n| n.parse().ok()).unwrap(),
            "--seconds" => plan.seconds = arguments.next().and_then(|n| n.parse().ok()).unwrap(),
            "--bench" => {}
            name => plan.names.push(name.to_owned()),
        }
    }
    plan
}

/// The median, the 99th of 100, the 999th of 1000 and the last, in microseconds.
fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "of a few million"
        )]
        let place = (times.len() as f64 * part) as usize;
        times[place.min(times.len() - 1)].as_nanos() as f64 / 1000.0
    };
    let (median, slow) = (at(0.5), at(0.999));
    println!(
        "{what:<44} {:>9} batches   median {median:>7.2} us   99 % {:>7.2}   99.9 % {slow:>7.2} \
         ({:.2} x)   longest {:>8.1}   over 3 x the median: {:.2} of 1000",
        times.len(),
        at(0.99),
        slow / median,
        at(1.0),
        times
            .iter()
            .filter(|time| time.as_nanos() as f64 > 3000.0 * median)
            .count() as f64
            * 1000.0
            / times.len() as f64,
    );
}

/// `live` connections of which a tenth ends each second, and as many are made.
fn expiry(plan: &Plan) {
    let live = plan.live;
    let table = Arc::new(Table::new(&TableConfig::with_capacity(live + live / 8)).unwrap());
    let life = Tick::seconds(10);
    let spread = |n: usize| (n as u64 * u64::from(life) / live as u64) as u32;
    // Connection n ends, and is made again, at its own moment of each turn of ten seconds.
    fill(
        &table,
        (0..live).map(|n| of(client(n), spread(n) + 1, Tick(0))),
    );
    table.collect(Tick(0), usize::MAX, &mut |_| {});
    let start = Instant::now();
    let now = || Tick::from_millis(start.elapsed().as_millis() as u64);
    let (stop, ended) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut busy = Turns::of(&table, live);
    let mut made = 0;
    std::thread::scope(|scope| {
        let collector = || {
            while !stop.load(Relaxed) {
                ended.fetch_add(table.collect(now(), COLLECT_SLICE, &mut |_| {}), Relaxed);
                std::thread::sleep(COLLECT_EVERY);
            }
        };
        scope.spawn(collector);
        let mut handle = table.register();
        while start.elapsed() < Duration::from_secs(plan.seconds as u64) {
            busy.take(&mut handle);
            // What has ended begins again, a bit later.
            let due = start.elapsed().saturating_sub(Duration::from_millis(200));
            let due = (due.as_secs_f64() / 10.0 * live as f64) as usize;
            while made < due {
                let guard = handle.pin();
                let from = made;
                made = due.min(made + BATCH);
                for n in from..made {
                    let new = of(client(n % live), life, now());
                    black_box(guard.insert(&new).is_ok());
                }
            }
        }
        stop.store(true, Relaxed);
    });
    let rate = ended.load(Relaxed) / plan.seconds.max(1);
    println!("{live} live, {rate} a second ended, {made} made");
    busy.show("while they expire");
    let mut quiet = Turns::of(&table, live);
    let mut handle = table.register();
    for _ in 0..plan.seconds * 20_000 {
        quiet.take(&mut handle);
    }
    quiet.show("nothing else running");
}

/// Batches of lookups, and in turns with them arithmetic that takes as long and touches no memory: what
/// interrupts that, interrupts them.
struct Turns {
    live: usize,
    random: Random,
    /// Steps of the arithmetic.
    steps: usize,
    lookups: Vec<Duration>,
    arithmetic: Vec<Duration>,
}

impl Turns {
    fn of(table: &Arc<Table>, live: usize) -> Self {
        let mut turns = Self {
            live,
            random: Random(3),
            steps: 0,
            lookups: Vec::new(),
            arithmetic: Vec::new(),
        };
        let mut handle = table.register();
        let mut lookups: Vec<_> = (0..1000).map(|_| turns.look_up(&mut handle)).collect();
        turns.steps = 1000;
        let mut thousand: Vec<_> = (0..1000).map(|_| turns.count()).collect();
        lookups.sort_unstable();
        thousand.sort_unstable();
        turns.steps = (lookups[500].as_nanos() * 1000 / thousand[500].as_nanos().max(1)) as usize;
        turns
    }

    fn take(&mut self, handle: &mut Handle) {
        let lookup = self.look_up(handle);
        self.lookups.push(lookup);
        let arithmetic = self.count();
        self.arithmetic.push(arithmetic);
    }

    fn look_up(&mut self, handle: &mut Handle) -> Duration {
        let flows: [Flow; BATCH] =
            core::array::from_fn(|_| request(client(self.random.below(self.live))));
        let mut hits = [None; BATCH];
        let began = Instant::now();
        let guard = handle.pin();
        guard.lookup_batch(&flows, &mut hits);
        black_box(hits.iter().flatten().map(|hit| hit.conn.state()).max());
        began.elapsed()
    }

    fn count(&self) -> Duration {
        let mut random = Random(4);
        let began = Instant::now();
        black_box((0..self.steps).fold(0, |sum, _| sum ^ random.next()));
        began.elapsed()
    }

    fn show(self, when: &str) {
        show(&format!("  lookup of 64, {when}"), self.lookups);
        show("    arithmetic in turns with it", self.arithmetic);
    }
}

/// The table grows by a million connections a second, by itself or with a collector beside it.
fn growth(plan: &Plan) {
    const EVERY: Duration = Duration::from_micros(64);
    let live = plan.live / 5;
    for collected in [false, true] {
        let table = Arc::new(Table::new(&TableConfig::with_capacity(plan.live)).unwrap());
        let mut times = Vec::new();
        let stop = AtomicBool::new(!collected);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    table.collect(Tick(0), COLLECT_SLICE, &mut |_| {});
                    std::thread::sleep(COLLECT_EVERY);
                }
            });
            // As a director that has been started.
            std::thread::sleep(Duration::from_secs(2));
            let mut handle = table.register();
            let mut due = Instant::now();
            for from in (0..live).step_by(BATCH) {
                let new: Vec<_> = (from..live.min(from + BATCH))
                    .map(|n| of(client(n), LONG, Tick(0)))
                    .collect();
                while due.elapsed() < EVERY {
                    std::hint::spin_loop();
                }
                due = Instant::now();
                let guard = handle.pin();
                for new in &new {
                    assert!(matches!(guard.insert(new), Ok(Inserted::New(_))));
                }
                drop(guard);
                times.push(due.elapsed());
            }
            stop.store(true, Relaxed);
        });
        println!(
            "a table of {} at most grows from nothing to {live}",
            plan.live
        );
        show(
            if collected {
                "  insertion of 64, with a collector"
            } else {
                "  insertion of 64, by itself"
            },
            times,
        );
    }
}

fn attach(plan: &Plan) {
    for live in [plan.live / 10, plan.live] {
        let path = std::path::PathBuf::from(format!("/dev/shm/lvs-attach-{}", std::process::id()));
        let config = TableConfig::with_capacity(live);
        {
            let table = Arc::new(Table::create(&path, &config).unwrap());
            fill(&table, (0..live).map(|n| of(client(n), LONG, Tick(0))));
        }
        let began = Instant::now();
        let attached = Table::attach(&path, FlowHash::default(), Tick(0));
        let took = began.elapsed();
        std::fs::remove_file(&path).unwrap();
        let (_, attached) = attached.unwrap();
        println!(
            "attach {} of {live}: {:.2} s",
            attached.kept,
            took.as_secs_f64()
        );
    }
}

fn main() {
    let plan = plan();
    if plan.wants("expiry") {
        expiry(&plan);
    }
    if plan.wants("growth") {
        growth(&plan);
    }
    if plan.wants("attach") {
        attach(&plan);
    }
}
