//! One change of the rules, as the code behind the control plane passes it on: an
//! [`Operation`](crate::Operation) that borrows all that it says, so that hundreds of thousands are
//! light.

use crate::control::Operation;
use crate::marks::MarkRule;
use lvs_core::{DestinationSpec, Endpoint, Health, LocalAddresses, ServiceKey, ServiceSpec};

/// The number of a destination; `None`: to be looked for.
pub(crate) type Known = Option<u32>;

/// See [`Operation`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Change<'a> {
    AddService(&'a ServiceSpec<'a>),
    EditService(&'a ServiceSpec<'a>),
    DeleteService(&'a ServiceKey),
    AddDestination(&'a ServiceKey, &'a DestinationSpec),
    EditDestination(&'a ServiceKey, &'a DestinationSpec, Known),
    DeleteDestination(&'a ServiceKey, Endpoint, Known),
    SetHealth(&'a ServiceKey, Endpoint, Health),
    Flush,
    Zero(Option<&'a ServiceKey>),
    SetMarks(&'a [MarkRule]),
}

impl Change<'_> {
    /// The local addresses that it brings.
    pub(crate) fn locals(&self) -> &LocalAddresses {
        const NONE: &LocalAddresses = &LocalAddresses::NONE;
        match self {
            Self::AddService(spec) | Self::EditService(spec) => &spec.local,
            Self::AddDestination(_, spec) | Self::EditDestination(_, spec, _) => &spec.local,
            _ => NONE,
        }
    }

    /// The service, and the destination, that it is about.
    pub(crate) fn about(&self) -> Option<(ServiceKey, Option<Endpoint>)> {
        match self {
            Self::AddService(spec) | Self::EditService(spec) => Some((spec.key, None)),
            Self::DeleteService(key) => Some((**key, None)),
            Self::AddDestination(key, spec) | Self::EditDestination(key, spec, _) => {
                Some((**key, Some(spec.endpoint)))
            }
            Self::DeleteDestination(key, endpoint, _) | Self::SetHealth(key, endpoint, _) => {
                Some((**key, Some(*endpoint)))
            }
            Self::Zero(_) | Self::Flush | Self::SetMarks(_) => None,
        }
    }
}

impl<'a> From<&'a Operation<'a>> for Change<'a> {
    fn from(operation: &'a Operation<'a>) -> Self {
        match operation {
            Operation::AddService(spec) => Self::AddService(spec),
            Operation::EditService(spec) => Self::EditService(spec),
            Operation::DeleteService(key) => Self::DeleteService(key),
            Operation::AddDestination(key, spec) => Self::AddDestination(key, spec),
            Operation::EditDestination(key, spec) => Self::EditDestination(key, spec, None),
            Operation::DeleteDestination(key, endpoint) => {
                Self::DeleteDestination(key, *endpoint, None)
            }
            Operation::SetHealth(key, endpoint, health) => Self::SetHealth(key, *endpoint, *health),
            Operation::Flush => Self::Flush,
            Operation::Zero(key) => Self::Zero(key.as_ref()),
            Operation::SetMarks(rules) => Self::SetMarks(rules),
        }
    }
}
