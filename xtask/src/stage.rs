//! The gates: each a question, a way to answer it, and a row in the table at the end.
//!
//! In: the stages' list and a choice among them. Out: every stage's output as it comes, then the
//! table and the plain line `N passed, M failed`, which sums the tests that ran; a stage that
//! failed without a failed test counts as one.

use crate::context::Context;
use crate::count::Count;
use crate::process::{self, Report, since};
use crate::stages;
use std::fs::File;
use std::process::Command;
use std::time::{Duration, Instant};

/// The answer to a stage's question, with a few words of detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is so.
    Yes(String),
    /// It is not.
    No(String),
    /// This machine cannot tell, and why.
    Skipped(String),
}

/// One gate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stage {
    /// Its name on the command line and of its log.
    pub(crate) name: &'static str,
    /// What it answers.
    pub(crate) question: &'static str,
    /// Finds the answer.
    pub(crate) run: fn(&mut Desk<'_>) -> Result<Answer, String>,
}

/// All of them, in the order in which they use each other's build results best.
pub(crate) const STAGES: &[Stage] = &[
    stages::test::STAGE,
    stages::fuzz::CORPUS,
    stages::benches::SMOKE,
    stages::examples::STAGE,
    stages::man::STAGE,
    stages::lint::FORMAT,
    stages::shape::ARROWS,
    stages::shape::LENGTH,
    stages::lint::CLIPPY,
    stages::lint::DOCUMENTS,
    stages::no_std::STAGE,
    stages::lint::DENY,
    stages::lint::ADVISORIES,
    stages::loom::STAGE,
    stages::loom::SHUTTLE,
    stages::memory::ADDRESS,
    stages::memory::MIRI,
    stages::memory::THREADS,
    stages::fuzz::STAGE,
    stages::lint::RELEASE,
    stages::demo::STAGE,
];

/// What a stage works with: the repository, its log, and the tests counted so far.
#[derive(Debug)]
pub(crate) struct Desk<'a> {
    /// The repository.
    pub(crate) context: &'a Context,
    log: File,
    /// The tests that ran at this desk.
    pub(crate) count: Count,
}

impl<'a> Desk<'a> {
    /// An empty desk with a new log.
    pub(crate) fn new(context: &'a Context, name: &str) -> Result<Self, String> {
        Ok(Self {
            context,
            log: context.log("log", name)?,
            count: Count::default(),
        })
    }

    /// Runs a command, shows and logs its output, and counts its tests.
    pub(crate) fn run(&mut self, command: Command, minutes: u64) -> Result<Report, String> {
        let limit = Some(Duration::from_secs(60 * minutes));
        let report = process::run(command, &mut self.log, limit)?;
        self.count += &report.count;
        Ok(report)
    }

    /// A line to the terminal and the log.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), String> {
        process::tell(&mut self.log, line)
    }

    /// `Yes(note)` if the command succeeds, else `No`, with what is known about why.
    pub(crate) fn expect(
        &mut self,
        command: Command,
        minutes: u64,
        note: &str,
    ) -> Result<Answer, String> {
        let report = self.run(command, minutes)?;
        Ok(if report.success {
            Answer::Yes(note.to_owned())
        } else {
            Answer::No(why(&report, minutes))
        })
    }
}

/// Why a program failed, in a few words.
pub(crate) fn why(report: &Report, minutes: u64) -> String {
    if report.timed_out {
        return format!("killed after {minutes} min");
    }
    if report.count.failed > 0 {
        return format!("{} tests failed", report.count.failed);
    }
    report.gist.clone()
}

/// One finished stage.
#[derive(Debug)]
struct Row {
    stage: Stage,
    answer: Answer,
    time: String,
    count: Count,
}

/// `cargo xtask ci`.
pub(crate) fn command(arguments: &[String]) -> Result<bool, String> {
    if arguments.iter().any(|a| a == "--list") {
        for stage in STAGES {
            println!("{:<10} {}", stage.name, stage.question);
        }
        return Ok(true);
    }
    let chosen = choose(arguments)?;
    let context = Context::here()?;
    let start = Instant::now();
    let mut rows = Vec::new();
    for stage in chosen {
        println!("\n=== {} ({})", stage.question, stage.name);
        let began = Instant::now();
        let mut desk = Desk::new(&context, stage.name)?;
        let answer = (stage.run)(&mut desk).unwrap_or_else(Answer::No);
        let time = since(began);
        match &answer {
            Answer::Yes(note) => println!("=== yes, {time} {note}"),
            Answer::No(note) => println!("=== NO, {time} {note}"),
            Answer::Skipped(note) => println!("=== SKIPPED: {note}"),
        }
        let count = desk.count;
        rows.push(Row {
            stage,
            answer,
            time,
            count,
        });
    }
    Ok(summary(&rows, &since(start)))
}

fn choose(arguments: &[String]) -> Result<Vec<Stage>, String> {
    let find = |name: &str| {
        STAGES
            .iter()
            .find(|stage| stage.name == name)
            .copied()
            .ok_or_else(|| format!("no stage `{name}`; `cargo xtask ci --list` names them"))
    };
    let mut named = Vec::new();
    let mut excepted = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--except" {
            let name = words.next().ok_or("--except needs a stage")?;
            excepted.push(find(name)?.name);
        } else {
            named.push(find(word)?);
        }
    }
    if named.is_empty() {
        named = STAGES.to_vec();
    }
    named.retain(|stage| !excepted.contains(&stage.name));
    Ok(named)
}

/// Prints the table and the sum; whether nothing failed.
fn summary(rows: &[Row], total: &str) -> bool {
    let wide = rows.iter().map(|r| r.stage.question.len()).max();
    let wide = wide.unwrap_or_default();
    println!("\n{:<wide$}  answer   {:>9}  detail", "question", "time");
    for row in rows {
        let (answer, note) = match &row.answer {
            Answer::Yes(note) => ("yes", note),
            Answer::No(note) => ("NO", note),
            Answer::Skipped(note) => ("skipped", note),
        };
        let question = row.stage.question;
        println!("{question:<wide$}  {answer:<7}  {:>9}  {note}", row.time);
    }
    println!("{:<wide$}           {total:>9}", "all");
    let mut sum = Count::default();
    for row in rows {
        sum += &row.count;
    }
    let broken = rows
        .iter()
        .filter(|row| matches!(row.answer, Answer::No(_)) && row.count.failed == 0)
        .count();
    finish(&sum, broken as u64);
    rows.iter().all(|row| !matches!(row.answer, Answer::No(_)))
}

/// Names what failed and prints the line that sums it all up.
pub(crate) fn finish(sum: &Count, broken: u64) {
    println!();
    for failure in &sum.failures {
        println!("failed: {failure}");
    }
    for reason in &sum.skipped {
        println!("{reason}");
    }
    if sum.ignored > 0 {
        println!("{} tests are marked to be left out", sum.ignored);
    }
    println!("{} passed, {} failed", sum.passed, sum.failed + broken);
}

#[cfg(test)]
mod tests {
    use super::{STAGES, choose};

    fn names(arguments: &[&str]) -> Result<Vec<&'static str>, String> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        Ok(choose(&arguments)?.iter().map(|s| s.name).collect())
    }

    #[test]
    fn stages_are_chosen_by_name_or_by_exception() {
        assert_eq!(names(&[]).unwrap().len(), STAGES.len());
        assert_eq!(names(&["fmt", "clippy"]).unwrap(), ["fmt", "clippy"]);
        let rest = names(&["--except", "test"]).unwrap();
        assert!(!rest.contains(&"test") && rest.len() == STAGES.len() - 1);
        assert!(names(&["bogus"]).is_err());
        assert!(names(&["--except"]).is_err());
    }

    #[test]
    fn names_and_questions_are_unique() {
        for (i, stage) in STAGES.iter().enumerate() {
            assert!(stage.question.ends_with('?'));
            let twin = |s: &super::Stage| s.name == stage.name || s.question == stage.question;
            assert_eq!(STAGES.iter().position(twin), Some(i));
        }
    }
}
