//! Editing the rules, with the kernel's meaning of each operation (IPVS 0).
//!
//! Every edit builds a new snapshot beside the running one and publishes it with one store; an edit
//! that is refused publishes nothing.

use crate::change::Change;
use crate::difference::difference;
use crate::director::{Control, Director};
use crate::edit::Edit;
use crate::error::{ReplaceError, RuleError};
use crate::helper::{Helper, Helpers};
use crate::marks::MarkRule;
use crate::plan;
use crate::rules::Rules;
use lvs_core::{DestinationSpec, Endpoint, Health, ServiceKey, ServiceSpec};
use std::sync::Arc;

/// A service with its destinations, as [`Director::replace`] takes it.
#[derive(Clone, Debug)]
pub struct Rule<'a> {
    /// The service.
    pub service: ServiceSpec<'a>,
    /// Its destinations in the order in which an operator would add them.
    pub destinations: Vec<DestinationSpec>,
}

impl Director {
    /// Adds a service without destinations.
    ///
    /// # Errors
    /// [`RuleError::ServiceExists`], [`RuleError::UnknownScheduler`], or a value that cannot be.
    pub fn add_service(&self, spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
        self.perform(&Operation::AddService(*spec))
    }

    /// Gives a service another scheduler, flags or persistence. Nothing is kept that `spec` does
    /// not say; a scheduler of the same name keeps its state.
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`], [`RuleError::UnknownScheduler`], or a value that cannot be.
    pub fn edit_service(&self, spec: &ServiceSpec<'_>) -> Result<(), RuleError> {
        self.perform(&Operation::EditService(*spec))
    }

    /// Deletes a service and its destinations; its connections stay in the table.
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`].
    pub fn delete_service(&self, key: &ServiceKey) -> Result<(), RuleError> {
        self.perform(&Operation::DeleteService(*key))
    }

    /// Deletes all services (`-C`).
    pub fn flush(&self) {
        // Deleting what the snapshot itself lists cannot fail.
        let _ = self.perform(&Operation::Flush);
    }

    /// Adds a destination to a service; it is the first in the scheduler's list. One that was
    /// deleted while connections held it goes on with them.
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`], [`RuleError::DestinationExists`], or a value that cannot be.
    pub fn add_destination(
        &self,
        key: &ServiceKey,
        spec: &DestinationSpec,
    ) -> Result<(), RuleError> {
        self.perform(&Operation::AddDestination(*key, *spec))
    }

    /// Gives a destination another method, weight or thresholds. Connections keep their method.
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`], [`RuleError::NoSuchDestination`], or a value that cannot be.
    pub fn edit_destination(
        &self,
        key: &ServiceKey,
        spec: &DestinationSpec,
    ) -> Result<(), RuleError> {
        self.perform(&Operation::EditDestination(*key, *spec))
    }

    /// Deletes a destination; packets of its connections are dropped from now on (IPVS 2.12).
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`], [`RuleError::NoSuchDestination`].
    pub fn delete_destination(
        &self,
        key: &ServiceKey,
        endpoint: Endpoint,
    ) -> Result<(), RuleError> {
        self.perform(&Operation::DeleteDestination(*key, endpoint))
    }

    /// Says whether a destination can serve. A failed one keeps its place, its weight and all else that
    /// its operator has said of it, and has them again when it is up; until then it gets no new
    /// connections, and those it has go the way of its [`OnRemoval`](lvs_core::OnRemoval). Neither an
    /// edit nor [`Director::replace`] changes it; a destination that is added is up.
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`], [`RuleError::NoSuchDestination`].
    pub fn set_health(
        &self,
        key: &ServiceKey,
        endpoint: Endpoint,
        health: Health,
    ) -> Result<(), RuleError> {
        self.perform(&Operation::SetHealth(*key, endpoint, health))
    }

    /// Starts the counters of one service, or of all and the totals, again from zero, and their
    /// rates with them (`-Z`).
    ///
    /// # Errors
    /// [`RuleError::NoSuchService`].
    pub fn zero(&self, key: Option<&ServiceKey>) -> Result<(), RuleError> {
        self.perform(&Operation::Zero(key.copied()))
    }

    /// Gives packets their marks by these rules from now on. Connections are not touched.
    ///
    /// # Errors
    /// [`RuleError::MixedMark`]; the rules are as they were.
    pub fn set_marks(&self, rules: &[MarkRule]) -> Result<(), RuleError> {
        self.perform(&Operation::SetMarks(rules.to_vec()))
    }

    /// Has these look into the connections to their service ports from now on; FTP at port 21 unless
    /// told otherwise. Connections that there are keep theirs by their port.
    pub fn set_helpers(&self, helpers: &[(u16, Arc<dyn Helper>)]) {
        let mut control = self.control.lock();
        let mut rules = Rules::clone(&self.rules.load());
        rules.helpers = Arc::new(Helpers::new(helpers));
        self.publish(&mut control, rules, 1);
    }

    /// The rules that give packets their marks.
    #[must_use]
    pub fn marks(&self) -> Vec<MarkRule> {
        self.rules.load().marks.rules().to_vec()
    }

    /// Performs all operations in their order, or none of them.
    ///
    /// # Errors
    /// The first operation that would be refused, by its place in the list, and why.
    pub fn apply(&self, operations: &[Operation<'_>]) -> Result<(), (usize, RuleError)> {
        let changes: Vec<_> = operations.iter().map(Change::from).collect();
        self.check_and_make(&changes)
    }

    /// Makes `rules` the rules, all of them or none. What stands in both the old and the new keeps
    /// its scheduler's state, its counters and its connections.
    ///
    /// # Errors
    /// The first service or destination that cannot be, and why.
    pub fn replace(&self, rules: &[Rule<'_>]) -> Result<(), ReplaceError> {
        let mut control = self.control.lock();
        let current = self.rules.load();
        let changes = difference(&current, rules)?;
        let Err((place, error)) = plan::check_difference(&current, &changes) else {
            self.make(&mut control, &changes);
            return Ok(());
        };
        let about = changes.get(place).and_then(Change::about);
        // A difference has no change that is about nothing, and an empty one is not refused.
        about.map_or(Ok(()), |(service, destination)| {
            Err(ReplaceError {
                service,
                destination,
                error: Box::new(error),
            })
        })
    }

    fn perform(&self, operation: &Operation<'_>) -> Result<(), RuleError> {
        let changes = [Change::from(operation)];
        self.check_and_make(&changes).map_err(|(_, error)| error)
    }

    /// Makes all changes if each of them can be.
    fn check_and_make(&self, changes: &[Change<'_>]) -> Result<(), (usize, RuleError)> {
        let mut control = self.control.lock();
        plan::check(&self.rules.load(), changes)?;
        self.make(&mut control, changes);
        Ok(())
    }

    /// Makes all changes: from here on nothing is refused.
    fn make(&self, control: &mut Control, changes: &[Change<'_>]) {
        let mut edit = Edit::new(self, control, changes.len());
        changes.iter().for_each(|change| edit.make(change));
        edit.publish(changes.len());
    }
}

/// One change of the rules.
#[derive(Clone, Debug)]
pub enum Operation<'a> {
    /// [`Director::add_service`].
    AddService(ServiceSpec<'a>),
    /// [`Director::edit_service`].
    EditService(ServiceSpec<'a>),
    /// [`Director::delete_service`].
    DeleteService(ServiceKey),
    /// [`Director::add_destination`].
    AddDestination(ServiceKey, DestinationSpec),
    /// [`Director::edit_destination`].
    EditDestination(ServiceKey, DestinationSpec),
    /// [`Director::delete_destination`].
    DeleteDestination(ServiceKey, Endpoint),
    /// [`Director::set_health`].
    SetHealth(ServiceKey, Endpoint, Health),
    /// [`Director::flush`].
    Flush,
    /// [`Director::zero`].
    Zero(Option<ServiceKey>),
    /// [`Director::set_marks`].
    SetMarks(Vec<MarkRule>),
}
