//! How a command line ends when it does not do what it says: a message and an exit status.

use lvs_api::{ClientError, Errno, Operation, Refusal};

/// The end of a command line that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The exit status.
    pub(crate) status: u8,
    /// What goes to the error stream, without its last newline; empty: nothing.
    pub(crate) message: String,
    /// Whether a run of `-R` goes on with its next line.
    pub(crate) restore_goes_on: bool,
}

impl Failure {
    /// A usage or value error.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            status: 2,
            message: message.into(),
            restore_goes_on: false,
        }
    }

    /// An option that popt refuses, or an operation that the director refuses.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self {
            status: 255,
            message: message.into(),
            restore_goes_on: true,
        }
    }

    /// A command line that does not even begin with a command.
    pub(crate) fn try_help(program: &str) -> Self {
        Self {
            status: 255,
            message: format!("Try `{program} -h' or '{program} --help' for more information."),
            restore_goes_on: false,
        }
    }

    /// A listing that failed.
    pub(crate) fn listing(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { refusal, .. } => Self {
                status: 1,
                message: refusal_text(refusal, Subject::Service),
                restore_goes_on: false,
            },
            other => Self::client(other),
        }
    }

    /// No answer from the daemon, or one that makes no sense.
    pub(crate) fn client(error: &ClientError) -> Self {
        let message = match error {
            ClientError::NotRunning { .. } => format!(
                "{error}\nStart it, or name its socket with --socket or {}.",
                lvs_api::SOCKET_VARIABLE
            ),
            other => other.to_string(),
        };
        Self {
            status: 2,
            message,
            restore_goes_on: false,
        }
    }
}

/// What an operation is about; the same errno means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A service that is added, edited, removed, zeroed or listed.
    Service,
    /// A destination.
    Destination,
    /// A synchronisation daemon.
    Daemon,
    /// A setting or a rule of marks, which ipvsadm has no text for.
    Own,
}

impl Subject {
    /// What an operation is about.
    pub(crate) const fn of(operation: &Operation) -> Self {
        match operation {
            Operation::AddDestination { .. }
            | Operation::EditDestination { .. }
            | Operation::DeleteDestination { .. }
            | Operation::SetHealth { .. } => Self::Destination,
            Operation::StartDaemon { .. } | Operation::StopDaemon { .. } => Self::Daemon,
            Operation::SetSysctl { .. } | Operation::SetMarks { .. } => Self::Own,
            _ => Self::Service,
        }
    }
}

/// What is said about a refusal: ipvsadm's text; and what only this daemon cannot do is named.
pub(crate) fn refusal_text(refusal: &Refusal, subject: Subject) -> String {
    // ipvsadm has no words for FULLNAT.
    if subject == Subject::Own || refusal.errno == Errno::Address {
        return refusal.message.clone();
    }
    let text = kernel_text(refusal.errno, subject);
    match refusal.errno {
        Errno::NotAvailable | Errno::Failed => format!("{text}: {}", refusal.message),
        _ => text.to_owned(),
    }
}

/// ipvsadm's text for an errno (IPVS 5.4).
const fn kernel_text(errno: Errno, subject: Subject) -> &'static str {
    match (errno, subject) {
        (Errno::Exists, Subject::Service | Subject::Own) => "Service already exists",
        (Errno::Exists, Subject::Destination) => "Destination already exists",
        (Errno::Exists, Subject::Daemon) => "Daemon has already run",
        (Errno::NotFound, Subject::Destination) => "No such destination",
        (Errno::NotFound, _) => "Scheduler or persistence engine not found",
        (Errno::NoService, Subject::Service | Subject::Own) => "No such service",
        (Errno::NoService, Subject::Destination) => "Service not defined",
        (Errno::NoService, Subject::Daemon) => "No daemon is running",
        (Errno::Permission, _) => "Permission denied (you must be root)",
        (Errno::Memory, _) => "Memory allocation problem",
        (Errno::Invalid, _) => {
            "Invalid operation.  Possibly wrong module version, address not unicast, ..."
        }
        (Errno::NotAvailable, _) => "Protocol not available",
        (Errno::Family, _) => "Operation not supported with specified address family",
        (Errno::Range, _) => "Numerical result out of range",
        (Errno::NoDevice, _) => "No such device",
        _ => "Input/output error",
    }
}
