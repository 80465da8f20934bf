//! The shape of the workspace: arrows point down, data-path crates stay light, files stay short.

use crate::context::Context;
use crate::stage::{Answer, Desk, Stage};
use crate::workspace::{self, Package};
use std::fs;
use std::path::{Path, PathBuf};

/// Who may know whom.
pub(crate) const ARROWS: Stage = Stage {
    name: "arrows",
    question: "Do all arrows between the rooms point down?",
    run: arrows,
};

/// How long files are.
pub(crate) const LENGTH: Stage = Stage {
    name: "length",
    question: "Is every file short enough to be read?",
    run: length,
};

/// What a room may use beside its own dev-dependencies.
struct Room {
    name: &'static str,
    /// The rooms below it that it may know.
    knows: &'static [&'static str],
    /// The crates from outside that it may use; `None`: its own business.
    uses: Option<&'static [&'static str]>,
}

const fn room(
    name: &'static str,
    knows: &'static [&'static str],
    uses: Option<&'static [&'static str]>,
) -> Room {
    Room { name, knows, uses }
}

/// What a library of the data path may use: nothing that does I/O, logs or brings a runtime.
const DATA_PATH: Option<&[&str]> = Some(&[
    "ahash",
    "arc-swap",
    "bitflags",
    "crossbeam-epoch",
    "crossbeam-utils",
    "hashbrown",
    "loom",
    "parking_lot",
    "siphasher",
    "smallvec",
    "thiserror",
]);

/// The connection table also asks the kernel for its memory, once, with huge pages if it can.
const TABLE: Option<&[&str]> = Some(&[
    "crossbeam-utils",
    "loom",
    "parking_lot",
    "rustix",
    "shuttle",
    "thiserror",
]);

/// The rooms from the ground up: a room knows only rooms that stand before it.
const ROOMS: &[Room] = &[
    room("lvs-core", &[], Some(&[])),
    room("lvs-sched", &["lvs-core"], DATA_PATH),
    room("lvs-conn", &["lvs-core"], TABLE),
    room("lvs-packet", &["lvs-core"], DATA_PATH),
    room(
        "lvs-director",
        &["lvs-core", "lvs-sched", "lvs-conn", "lvs-packet"],
        DATA_PATH,
    ),
    room("lvs-io-afpacket", &["lvs-core", "lvs-packet"], None),
    room("lvs-api", &["lvs-core"], None),
    room("lvsadm", &["lvs-core", "lvs-api"], None),
    room("lvs-testbed", &["lvs-core", "lvs-packet"], None),
    room(
        "lvsd",
        &[
            "lvs-core",
            "lvs-sched",
            "lvs-conn",
            "lvs-packet",
            "lvs-director",
            "lvs-io-afpacket",
            "lvs-api",
            "lvsadm",
            "lvs-testbed",
        ],
        None,
    ),
    room(
        "lvs-benches",
        &[
            "lvs-core",
            "lvs-sched",
            "lvs-conn",
            "lvs-packet",
            "lvs-director",
            "lvs-io-afpacket",
            "lvs-testbed",
        ],
        None,
    ),
    room(
        "lvs-fuzz",
        &[
            "lvs-core",
            "lvs-sched",
            "lvs-conn",
            "lvs-packet",
            "lvs-director",
            "lvs-api",
            "lvsd",
            "lvsadm",
        ],
        None,
    ),
    room("xtask", &[], Some(&["serde_json", "tempfile"])),
];

fn arrows(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let packages = workspace::packages(desk.context)?;
    let wrong = wrong_arrows(&packages);
    for line in &wrong {
        desk.say(line)?;
    }
    Ok(if wrong.is_empty() {
        Answer::Yes(format!("{} packages", packages.len()))
    } else {
        Answer::No(format!("{} that do not", wrong.len()))
    })
}

fn wrong_arrows(packages: &[Package]) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in packages {
        let Some(room) = ROOMS.iter().find(|room| room.name == package.name) else {
            wrong.push(format!("{}: no place in the picture", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| !d.dev) {
            let name = dependency.name.as_str();
            let allowed = if dependency.local {
                room.knows.contains(&name)
            } else {
                room.uses.is_none_or(|uses| uses.contains(&name))
            };
            if !allowed {
                wrong.push(format!("{} must not depend on {name}", package.name));
            }
        }
    }
    wrong
}

/// Code lines above which a file is named.
const LONG: usize = 400;
/// Code lines above which it has to be split.
const TOO_LONG: usize = 600;

fn length(desk: &mut Desk<'_>) -> Result<Answer, String> {
    let mut files = Vec::new();
    for package in workspace::packages(desk.context)? {
        collect(&package.folder.join("src"), &mut files)?;
    }
    let mut lengths = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        lengths.push((code_lines(&text), path));
    }
    lengths.sort();
    let median = lengths.get(lengths.len() / 2).map_or(0, |(n, _)| *n);
    let mut over = 0;
    for (lines, path) in lengths.iter().rev().filter(|(n, _)| *n > LONG) {
        let mark = if *lines > TOO_LONG { "  TOO LONG" } else { "" };
        over += usize::from(*lines > TOO_LONG);
        desk.say(&format!("{lines:>5} {}{mark}", shown(desk.context, path)))?;
    }
    let note = format!("{} files, median {median} lines", lengths.len());
    Ok(if over == 0 {
        Answer::Yes(note)
    } else {
        Answer::No(format!("{over} of more than {TOO_LONG} lines; {note}"))
    })
}

/// Lines before the tests: a file may have as many tests as it likes.
fn code_lines(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|two| matches!(two, ["#[cfg(test)]", module] if module.starts_with("mod ") && module.ends_with('{')));
    tests.unwrap_or(lines.len())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(());
    };
    for entry in entries {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            // Test modules in folders of their own.
            if !path.ends_with("tests") {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn shown(context: &Context, path: &Path) -> String {
    let path = path.strip_prefix(&context.root).unwrap_or(path);
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::{ROOMS, code_lines, wrong_arrows};
    use crate::workspace::{Dependency, Package};

    fn package(name: &str, dependencies: &[(&str, bool, bool)]) -> Package {
        let dependency = |&(name, dev, local): &(&str, bool, bool)| Dependency {
            name: name.to_owned(),
            dev,
            local,
        };
        Package {
            name: name.to_owned(),
            folder: "/".into(),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: Vec::new(),
        }
    }

    #[test]
    fn a_room_knows_only_rooms_before_it() {
        for (i, room) in ROOMS.iter().enumerate() {
            for known in room.knows {
                let place = ROOMS.iter().position(|r| r.name == *known);
                assert!(
                    place.is_some_and(|place| place < i),
                    "{} {known}",
                    room.name
                );
            }
        }
    }

    #[test]
    fn arrows_that_point_up_or_out_are_found() {
        let packages = [
            package("lvs-core", &[]),
            package(
                "lvs-sched",
                &[("lvs-core", false, true), ("proptest", true, false)],
            ),
            package("lvs-conn", &[("lvs-sched", false, true)]),
            package("lvs-packet", &[("tokio", false, false)]),
            package("lvs-new", &[]),
        ];
        let wrong = wrong_arrows(&packages);
        assert_eq!(
            wrong,
            [
                "lvs-conn must not depend on lvs-sched",
                "lvs-packet must not depend on tokio",
                "lvs-new: no place in the picture",
            ]
        );
    }

    #[test]
    fn tests_at_the_end_do_not_count() {
        let text = "fn a() {}\n\n#[cfg(test)]\nmod tests {\n    // ...\n}\n";
        assert_eq!(code_lines(text), 2);
        assert_eq!(
            code_lines("#[cfg(test)]\nextern crate std;\nfn a() {}\n"),
            3
        );
    }
}
