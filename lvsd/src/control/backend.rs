//! What the control plane needs of a director.

use lvs_api::{
    Connection, DropCount, Info, MarkRule, Operation, Refusal, ServiceStatus, SyncDaemon, Sysctl,
    Timeouts, Totals,
};
use lvs_core::ServiceKey;

/// A director, as its control plane sees it; its rules and refusals are the kernel's (IPVS 0.1).
///
/// All methods may block for the time of a table scan, and none is called on a thread of the
/// data path.
///
/// ```
/// use lvs_api::{Errno, Operation, Service, key};
/// use lvsd::control::{Backend, Memory};
/// let director = Memory::new();
/// let add = Operation::AddService {
///     config: Service::new(key::parse("tcp://192.0.2.10:80")?, "rr"),
/// };
/// assert_eq!(director.apply(&add), Ok(()));
/// assert_eq!(director.apply(&add).unwrap_err().errno, Errno::Exists);
/// # Ok::<(), lvs_api::key::ParseKeyError>(())
/// ```
pub trait Backend: Send + Sync + 'static {
    /// About the director.
    fn info(&self) -> Info;

    /// All services in the director's own order, destinations newest first.
    fn services(&self) -> Vec<ServiceStatus>;

    /// One service.
    ///
    /// # Errors
    /// `ESRCH` if there is none.
    fn service(&self, key: &ServiceKey) -> Result<ServiceStatus, Refusal> {
        self.services()
            .into_iter()
            .find(|service| service.config.key == *key)
            .ok_or_else(|| refuse::no_service(key))
    }

    /// Does one thing.
    ///
    /// # Errors
    /// Those of the kernel; a refused operation has changed nothing.
    fn apply(&self, operation: &Operation) -> Result<(), Refusal>;

    /// Does all of them, or none; workers see either the old rules or the new ones.
    ///
    /// # Errors
    /// The position of the first operation that is refused, and why.
    fn transaction(&self, operations: &[Operation]) -> Result<(), (usize, Refusal)>;

    /// Appends connections to `out`, at most `limit`, from the place `from` of the table on (0 is
    /// its start). Returns the place to go on from, or `None` at the end. Entries that come and go
    /// meanwhile may be missed; those that stay are listed once.
    fn connections(&self, from: u64, limit: usize, out: &mut Vec<Connection>) -> Option<u64>;

    /// What has passed altogether.
    fn totals(&self) -> Totals;

    /// The drops by reason, reasons that never occurred included.
    fn drops(&self) -> Vec<DropCount>;

    /// The settings, in the order of their names.
    fn sysctl(&self) -> Vec<Sysctl>;

    /// The rules of firewall marks, in order.
    fn marks(&self) -> Vec<MarkRule>;

    /// The timeouts in force.
    fn timeouts(&self) -> Timeouts;

    /// The synchronisation daemons that run, master first.
    fn daemons(&self) -> Vec<SyncDaemon>;
}

/// The refusals that every backend words alike.
pub mod refuse {
    use lvs_api::{Errno, Refusal, SyncRole, key};
    use lvs_core::{Endpoint, ServiceKey};
    use lvs_director::SettingError;

    /// The service exists.
    #[must_use]
    pub fn service_exists(service: &ServiceKey) -> Refusal {
        let word = key::format(service);
        Refusal::new(
            Errno::Exists,
            format!("the service {word} is already defined"),
        )
    }

    /// There is no such service.
    #[must_use]
    pub fn no_service(service: &ServiceKey) -> Refusal {
        let word = key::format(service);
        Refusal::new(Errno::NoService, format!("there is no service {word}"))
    }

    /// The destination exists.
    #[must_use]
    pub fn destination_exists(service: &ServiceKey, address: Endpoint) -> Refusal {
        let word = key::format(service);
        Refusal::new(
            Errno::Exists,
            format!("{word} already has the destination {address}"),
        )
    }

    /// There is no such destination.
    #[must_use]
    pub fn no_destination(service: &ServiceKey, address: Endpoint) -> Refusal {
        let word = key::format(service);
        Refusal::new(
            Errno::NotFound,
            format!("{word} has no destination {address}"),
        )
    }

    /// There is no such scheduler.
    #[must_use]
    pub fn no_scheduler(name: &str) -> Refusal {
        Refusal::new(
            Errno::NotFound,
            format!("there is no scheduler called `{name}`"),
        )
    }

    /// There is no such persistence engine.
    #[must_use]
    pub fn no_engine(name: &str) -> Refusal {
        Refusal::new(
            Errno::NotFound,
            format!("there is no persistence engine called `{name}`"),
        )
    }

    /// The upper threshold is below the lower one.
    #[must_use]
    pub fn thresholds(upper: u32, lower: u32) -> Refusal {
        Refusal::new(
            Errno::Range,
            format!("the lower threshold {lower} exceeds the upper one, {upper}"),
        )
    }

    /// Not an address of a server.
    #[must_use]
    pub fn not_unicast(address: Endpoint) -> Refusal {
        Refusal::new(
            Errno::Invalid,
            format!("{address} is not the address of one host"),
        )
    }

    /// No daemon of that role runs.
    #[must_use]
    pub fn no_daemon(role: SyncRole) -> Refusal {
        Refusal::new(
            Errno::NoService,
            format!("no synchronisation {role:?} is running").to_lowercase(),
        )
    }

    /// There is no such setting, or it cannot have this value.
    #[must_use]
    pub fn setting(error: &SettingError) -> Refusal {
        let errno = match error {
            SettingError::Unknown(_) => Errno::NotFound,
            _ => Errno::Invalid,
        };
        Refusal::new(errno, error.to_string())
    }

    /// Something that this director cannot do.
    #[must_use]
    pub fn not_available(what: &str) -> Refusal {
        Refusal::new(
            Errno::NotAvailable,
            format!("{what} is not available in this version"),
        )
    }
}
