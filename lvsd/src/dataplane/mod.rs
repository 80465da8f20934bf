//! The worker threads.
