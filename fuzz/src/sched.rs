//! Schedulers: any edits, reports and choices, against the literal model of `lvs-sched`'s tests.

#[path = "../../lvs-sched/tests/model/mod.rs"]
mod model;

use arbitrary::{Arbitrary, Unstructured};
use model::duel::{Duel, MODELLED, RANDOM, Step};

/// The most steps of a run: the model is slow on purpose.
const STEPS: usize = 200;

/// What one step reads.
#[derive(Arbitrary)]
struct Raw {
    kind: u8,
    which: u8,
    number: u32,
    word: u16,
    small: u8,
}

impl From<Raw> for Step {
    fn from(raw: Raw) -> Self {
        let Raw {
            kind,
            which,
            number,
            word,
            small,
        } = raw;
        match kind % 16 {
            0 | 1 => Self::Add {
                count: which,
                weight: number,
                upper: small,
            },
            2 => Self::Remove(which),
            3 => Self::Revive(which, number),
            4 => Self::Weight(which, number),
            5 => Self::Thresholds(which, small, kind / 16),
            6 => Self::Touch(which),
            7 => Self::Scheduler(which, small),
            8 => Self::Burst(small),
            9 => Self::Move(word),
            10 | 11 => Self::Close(word),
            12 => Self::Wait(word % 100),
            _ => Self::Pick {
                client: word,
                target: which,
                open: small & 1 != 0,
                active: small & 2 != 0,
            },
        }
    }
}

/// Whatever the edits and reports, each scheduler chooses whom its description chooses; a random
/// one chooses somebody who may be chosen, and nobody only if nobody may.
pub fn sched(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    let (Ok(name), Ok(flags)) = (bytes.arbitrary::<u8>(), bytes.arbitrary::<u8>()) else {
        return;
    };
    let names = MODELLED.len() + RANDOM.len();
    let Some(name) = MODELLED.iter().chain(RANDOM).nth(usize::from(name) % names) else {
        return;
    };
    let mut duel = Duel::new(name, flags);
    for _ in 0..STEPS {
        if bytes.is_empty() {
            return;
        }
        let Ok(step) = bytes.arbitrary::<Raw>() else {
            return;
        };
        duel.step(&step.into());
    }
}
