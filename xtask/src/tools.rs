//! The tools that stages use: whether they are here, and how they come here if not.

use crate::process::{TOOLS_FOLDER, ask, cargo, cargo_of};
use crate::stage::Desk;
use std::path::Path;
use std::process::Command;

/// A program that the end-to-end tests start, and the Debian package that brings it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    program: &'static str,
    package: &'static str,
    /// What it is for.
    purpose: &'static str,
}

/// What `cargo xtask test` uses beside Rust.
pub(crate) const TOOLS: &[Tool] = &[
    tool("ip", "iproute2", "networks in namespaces"),
    tool("nft", "nftables", "the claim of a VIP from the host"),
    tool("nginx", "nginx-light", "real servers"),
    tool("curl", "curl", "real clients"),
    tool("iperf3", "iperf3", "bulk traffic"),
    tool("tcpdump", "tcpdump", "a look at the wire when a test fails"),
    tool("tshark", "tshark", "a judge of every packet that was sent"),
    tool(
        "ipvsadm",
        "ipvsadm",
        "its manual page: the options lvsadm has to know",
    ),
];

const fn tool(program: &'static str, package: &'static str, purpose: &'static str) -> Tool {
    Tool {
        program,
        package,
        purpose,
    }
}

impl Tool {
    /// Whether a program of this name can be started.
    fn is_here(self) -> bool {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder| folder.join(self.program).is_file())
    }
}

/// The tools that are not here.
pub(crate) fn missing() -> Vec<Tool> {
    let missing = |tool: &Tool| !tool.is_here();
    TOOLS.iter().copied().filter(missing).collect()
}

/// Installs what is missing, if this is root on a Debian; says what it does and what it cannot.
pub(crate) fn install_missing(desk: &mut Desk<'_>) -> Result<(), String> {
    let absent = missing();
    if absent.is_empty() {
        return Ok(());
    }
    for tool in &absent {
        let (program, package) = (tool.program, tool.package);
        desk.say(&format!(
            "missing: {program} ({package}), for {}",
            tool.purpose
        ))?;
    }
    if !is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return desk.say("not installed: that takes root and apt-get");
    }
    desk.say("installing them with apt-get")?;
    let mut update = apt();
    update.args(["update", "-qq"]);
    desk.run(update, 5)?;
    // A package must not start a server of its own on this machine.
    let policy = NoServices::declare();
    let mut install = apt();
    install.args(["install", "-y", "-qq", "--no-install-recommends"]);
    install.args(absent.iter().map(|tool| tool.package));
    desk.run(install, 10)?;
    drop(policy);
    for tool in missing() {
        desk.say(&format!("still missing: {}", tool.program))?;
    }
    Ok(())
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Debian's way to say that installing a package starts nothing; taken back when dropped.
#[derive(Debug)]
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn declare() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let ours = !Path::new(POLICY).exists()
            && std::fs::write(POLICY, "#!/bin/sh\nexit 101\n").is_ok()
            && std::fs::set_permissions(POLICY, std::fs::Permissions::from_mode(0o755)).is_ok();
        Self { ours }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // If it cannot be removed there is nobody left to tell; it stops services, no more.
            let _ = std::fs::remove_file(POLICY);
        }
    }
}

/// Whether this process may do everything.
pub(crate) fn is_root() -> bool {
    ask(Command::new("id").arg("-u")).is_some_and(|id| id.trim() == "0")
}

/// Why the end-to-end tests cannot run here, or `None` if they can.
pub(crate) fn no_end_to_end() -> Option<String> {
    if !is_root() {
        return Some("they make network namespaces, which takes root".to_owned());
    }
    let needed: Vec<&str> = missing()
        .iter()
        .map(|tool| tool.program)
        .filter(|program| !matches!(*program, "ipvsadm" | "tcpdump"))
        .collect();
    if !needed.is_empty() {
        return Some(format!("missing: {}", needed.join(", ")));
    }
    // Everything in a namespace of its own, which ends with the shell.
    let probe = "mount -t tmpfs none /tmp && ip link set lo up && \
         ip link add probe0 type veth peer name probe1 && nft add table netdev probe";
    let can = ask(Command::new("unshare").args(["--net", "--mount", "sh", "-c", probe])).is_some();
    (!can).then(|| "this machine allows no network namespaces, veth or nftables".to_owned())
}

/// Makes sure that `cargo <name>` is there, installing `package` if it is not.
pub(crate) fn cargo_tool(desk: &mut Desk<'_>, name: &str, package: &str) -> Result<bool, String> {
    let root = desk.context.root.clone();
    if ask(cargo(&root).args([name, "--version"])).is_some() {
        return Ok(true);
    }
    desk.say(&format!("{package} is missing: installing it"))?;
    let mut command = cargo(&root);
    // A debug build: it is compiled in half the time and works a few seconds in all.
    command
        .args([
            "install",
            "--locked",
            "--debug",
            package,
            "--root",
            TOOLS_FOLDER,
        ])
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env("CARGO_TARGET_DIR", desk.context.folder("tools/build")?);
    Ok(desk.run(command, 10)?.success)
}

/// Whether a nightly toolchain is installed.
pub(crate) fn has_nightly(root: &Path) -> bool {
    ask(cargo_of("nightly", root).arg("--version")).is_some()
}

/// Whether the nightly toolchain has the source of the standard library.
pub(crate) fn has_nightly_source(root: &Path) -> bool {
    let mut command = Command::new("rustc");
    command
        .args(["+nightly", "--print", "sysroot"])
        .current_dir(root);
    ask(&mut command).is_some_and(|sysroot| {
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/Cargo.lock");
        source.exists()
    })
}

/// The host's target triple.
pub(crate) fn host(root: &Path) -> Result<String, String> {
    let mut command = cargo(root);
    command.arg("-vV");
    let text = ask(&mut command).ok_or("`cargo -vV` failed")?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| "`cargo -vV` names no host".to_owned())
}
