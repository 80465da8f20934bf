//! What cargo knows about the workspace: packages, their targets, and who depends on whom.

use crate::context::Context;
use crate::process::{ask, cargo};
use serde_json::Value;
use std::path::PathBuf;

/// A package of the workspace.
#[derive(Clone, Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) folder: PathBuf,
    /// What it depends on.
    pub(crate) dependencies: Vec<Dependency>,
    /// What can be built of it.
    pub(crate) targets: Vec<Target>,
}

/// One dependency as the manifest names it.
#[derive(Clone, Debug)]
pub(crate) struct Dependency {
    /// The package it names.
    pub(crate) name: String,
    /// Needed by tests and benches only.
    pub(crate) dev: bool,
    /// Stands in this workspace.
    pub(crate) local: bool,
}

/// One target of a package.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Its name.
    pub(crate) name: String,
    /// `lib`, `bin`, `test`, `bench`, ...
    pub(crate) kind: String,
    /// Its root file.
    pub(crate) source: PathBuf,
}

/// The packages of the workspace, by name.
pub(crate) fn packages(context: &Context) -> Result<Vec<Package>, String> {
    let mut command = cargo(&context.root);
    command.args(["metadata", "--no-deps", "--format-version=1"]);
    let text = ask(&mut command).ok_or("`cargo metadata` failed")?;
    let json: Value = serde_json::from_str(&text).map_err(|e| format!("cargo metadata: {e}"))?;
    let mut packages: Vec<Package> = list(&json, "packages").map(package).collect();
    packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(packages)
}

fn package(json: &Value) -> Package {
    let manifest = PathBuf::from(text(json, "manifest_path"));
    Package {
        name: text(json, "name"),
        folder: manifest.parent().map(PathBuf::from).unwrap_or_default(),
        dependencies: list(json, "dependencies")
            .map(|json| Dependency {
                name: text(json, "name"),
                dev: text(json, "kind") == "dev",
                local: json.get("path").is_some_and(Value::is_string),
            })
            .collect(),
        targets: list(json, "targets")
            .map(|json| Target {
                name: text(json, "name"),
                kind: list(json, "kind")
                    .next()
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
                source: PathBuf::from(text(json, "src_path")),
            })
            .collect(),
    }
}

fn list<'a>(json: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    json.get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text(json: &Value, key: &str) -> String {
    let text = json.get(key).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}
