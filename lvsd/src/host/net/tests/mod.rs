//! Against the kernel, in network namespaces of their own; `ip` is the judge.

mod neighbours;
mod routes;
mod watcher;
