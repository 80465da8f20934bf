//! What the kernel knows and does for us: interfaces, routes, neighbours, the claim of our traffic.
