//! From the rules in force to those of a configuration, by the fewest changes.
//!
//! A configuration and a [`Backend`] come in; one all-or-nothing transaction goes out. What both
//! have in common is not touched, so connections, counters and schedulers' memories go on. A file
//! that is wrong, or that the director refuses, changes nothing.
//!
//! ```
//! use lvsd::config::Config;
//! use lvsd::control::{Backend, Memory, reload};
//! let director = Memory::new();
//! let config = Config::parse("lvsd.toml", "[[service]]\nlisten = 'tcp://192.0.2.10:80'")?;
//! assert_eq!(reload::apply(&config, &director)?, 1);
//! assert_eq!(reload::apply(&config, &director)?, 0);
//! assert_eq!(director.services().len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use super::backend::Backend;
use crate::config::{Config, ConfigError, Rule};
use lvs_api::{Destination, Netmask, Operation, Refusal, Service, ServiceStatus, key};
use std::path::Path;

/// Why the rules in force stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReloadError {
    /// The file is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The director refused one of its rules.
    #[error("the director refuses to {what}: {refusal}")]
    Refused {
        /// What it was to do.
        what: String,
        /// Why not.
        refusal: Refusal,
    },
}

/// What a reload has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The configuration that is now in force, apart from `restart`.
    pub config: Config,
    /// How many changes it took.
    pub changes: usize,
    /// The settings that differ and take effect at the next start only.
    pub restart: Vec<&'static str>,
}

/// Reads the file again and makes its rules those of the director.
///
/// # Errors
/// With everything that is wrong in the file, or with what the director refused; then nothing has
/// changed.
pub fn reload(
    path: &Path,
    running: &Config,
    backend: &dyn Backend,
) -> Result<Reloaded, ReloadError> {
    let config = Config::load(path)?;
    let changes = apply(&config, backend)?;
    let restart = [
        ("the control socket", config.control != running.control),
        ("log", config.log != running.log),
        ("[dataplane]", config.dataplane != running.dataplane),
        (
            "[connections]",
            (config.capacity, &config.table) != (running.capacity, &running.table),
        ),
    ];
    let restart = restart.into_iter().filter(|(_, differs)| *differs);
    Ok(Reloaded {
        changes,
        restart: restart.map(|(name, _)| name).collect(),
        config,
    })
}

/// Makes the rules, marks, settings and timeouts of a configuration those of the director; how many changes it took.
///
/// # Errors
/// With what the director refused; then nothing has changed.
pub fn apply(config: &Config, backend: &dyn Backend) -> Result<usize, ReloadError> {
    let mut operations = plan(&backend.services(), &config.services);
    if backend.timeouts() != config.timeouts {
        operations.push(Operation::SetTimeouts {
            timeouts: config.timeouts,
        });
    }
    if backend.marks() != config.marks {
        operations.push(Operation::SetMarks {
            rules: config.marks.clone(),
        });
    }
    let running = backend.sysctl();
    for (setting, value) in &config.sysctl {
        let name = setting.name();
        if running
            .iter()
            .any(|found| found.name == name && found.value != *value)
        {
            operations.push(Operation::SetSysctl {
                name: name.to_owned(),
                value: *value,
            });
        }
    }
    if operations.is_empty() {
        return Ok(0);
    }
    match backend.transaction(&operations) {
        Ok(()) => Ok(operations.len()),
        Err((place, refusal)) => Err(ReloadError::Refused {
            what: operations
                .get(place)
                .map_or_else(|| "change".to_owned(), describe),
            refusal,
        }),
    }
}

/// The changes that lead from these services to those rules.
#[must_use]
pub fn plan(current: &[ServiceStatus], wanted: &[Rule]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for status in current {
        let service = status.config.key;
        if !wanted.iter().any(|rule| rule.service.key == service) {
            operations.push(Operation::DeleteService { service });
        }
    }
    for rule in wanted {
        let found = current
            .iter()
            .find(|status| status.config.key == rule.service.key);
        match found {
            Some(status) => {
                if normal(&status.config) != normal(&rule.service) {
                    operations.push(Operation::EditService {
                        config: rule.service.clone(),
                    });
                }
                destinations(status, rule, &mut operations);
            }
            None => {
                operations.push(Operation::AddService {
                    config: rule.service.clone(),
                });
                for config in &rule.destinations {
                    operations.push(add(rule, config));
                }
            }
        }
    }
    operations
}

fn destinations(status: &ServiceStatus, rule: &Rule, operations: &mut Vec<Operation>) {
    let service = rule.service.key;
    for old in &status.destinations {
        let address = old.config.address;
        if !rule.destinations.iter().any(|d| d.address == address) {
            operations.push(Operation::DeleteDestination { service, address });
        }
    }
    for config in &rule.destinations {
        let mut all = status.destinations.iter();
        match all.find(|old| old.config.address == config.address) {
            Some(old) if old.config == *config => {}
            Some(_) => operations.push(Operation::EditDestination {
                service,
                config: config.clone(),
            }),
            None => operations.push(add(rule, config)),
        }
    }
}

fn add(rule: &Rule, config: &Destination) -> Operation {
    Operation::AddDestination {
        service: rule.service.key,
        config: config.clone(),
    }
}

/// A netmask that joins nobody is none.
fn normal(service: &Service) -> Service {
    let mut service = service.clone();
    let whole = Netmask::whole(service.key.family());
    if let Some(persistence) = &mut service.persistence {
        persistence.netmask = persistence.netmask.filter(|mask| *mask != whole);
    }
    service
}

fn describe(operation: &Operation) -> String {
    match operation {
        Operation::AddService { config } => format!("add {}", key::format(&config.key)),
        Operation::EditService { config } => format!("change {}", key::format(&config.key)),
        Operation::DeleteService { service } => format!("remove {}", key::format(service)),
        Operation::AddDestination { service, config } => {
            format!("add {} to {}", config.address, key::format(service))
        }
        Operation::EditDestination { service, config } => {
            format!("change {} of {}", config.address, key::format(service))
        }
        Operation::DeleteDestination { service, address } => {
            format!("remove {address} from {}", key::format(service))
        }
        Operation::SetMarks { .. } => "change the rules of marks".to_owned(),
        Operation::SetSysctl { name, .. } => format!("set {name}"),
        _ => "change its settings".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Memory;
    use lvs_api::Persistence;

    fn parse(text: &str) -> Config {
        Config::parse("test.toml", text).unwrap()
    }

    const BEFORE: &str = r#"
        [[service]]
        listen = "tcp://192.0.2.10:80"
        [[service.destination]]
        address = "10.0.0.1:80"
        method = "dr"
        [[service.destination]]
        address = "10.0.0.2:80"
        method = "dr"
        [[service]]
        listen = "udp://192.0.2.10:53"
    "#;

    const AFTER: &str = r#"
        [timeouts]
        udp = "1m"
        [[service]]
        listen = "tcp://192.0.2.10:80"
        [[service.destination]]
        address = "10.0.0.3:80"
        method = "dr"
        [[service.destination]]
        address = "10.0.0.2:80"
        method = "dr"
        weight = 5
        [[service]]
        listen = "tcp://[2001:db8::10]:80"
        scheduler = "lc"
    "#;

    #[test]
    fn only_what_differs_is_changed() {
        let director = Memory::new();
        assert_eq!(apply(&parse(BEFORE), &director).unwrap(), 4);
        assert_eq!(apply(&parse(BEFORE), &director).unwrap(), 0);
        let plan = plan(&director.services(), &parse(AFTER).services);
        let text: Vec<String> = plan.iter().map(describe).collect();
        assert_eq!(
            text,
            [
                "remove udp://192.0.2.10:53",
                "remove 10.0.0.1:80 from tcp://192.0.2.10:80",
                "add 10.0.0.3:80 to tcp://192.0.2.10:80",
                "change 10.0.0.2:80 of tcp://192.0.2.10:80",
                "add tcp://[2001:db8::10]:80",
            ]
        );
        assert_eq!(apply(&parse(AFTER), &director).unwrap(), 6);
        assert_eq!(director.timeouts().udp, 60);
        assert_eq!(apply(&parse(AFTER), &director).unwrap(), 0);
    }

    #[test]
    fn a_netmask_that_joins_nobody_is_none() {
        let mut rule = parse(BEFORE).services.remove(0);
        let persistence = |netmask| {
            Some(Persistence {
                timeout: 300,
                netmask,
            })
        };
        rule.service.persistence = persistence(Some(Netmask::V4([255; 4].into())));
        let mut status = ServiceStatus::new(rule.service.clone());
        rule.destinations.clear();
        status.config.persistence = persistence(None);
        assert_eq!(plan(&[status], &[rule]), []);
    }

    #[test]
    fn a_bad_file_changes_nothing() {
        let director = Memory::new();
        let running = parse(BEFORE);
        apply(&running, &director).unwrap();
        let before = director.services();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[[service]]\nlisten = 'tcp://192.0.2.10'\n").unwrap();
        let error = reload(file.path(), &running, &director).unwrap_err();
        assert!(matches!(error, ReloadError::Config(_)), "{error}");
        let missing = reload(Path::new("/nonexistent.toml"), &running, &director).unwrap_err();
        assert!(
            missing
                .to_string()
                .contains("cannot read /nonexistent.toml"),
            "{missing}"
        );
        assert_eq!(director.services(), before);

        let text = format!("log = 'debug'\n[connections]\ncapacity = 4096\n{AFTER}");
        std::fs::write(
            file.path(),
            text.replace("[timeouts]\n        udp = \"1m\"", ""),
        )
        .unwrap();
        let done = reload(file.path(), &running, &director).unwrap();
        assert_eq!(done.restart, ["log", "[connections]"]);
        assert_eq!(done.changes, 5);
    }
}
