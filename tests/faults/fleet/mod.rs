//! Three replicas behind a balancer, on a real Redis, in the shape of `deploy/compose`: its nginx.conf and its command lines,
//! on this machine's addresses.
//!
//! ```text
//! clients (SDKs) -> nginx -> three replicas -> server          stage
//! clients of the test's own -> the replica of its choice       visitor
//! replicas -> a proxy each, which can be cut -> Redis          stage
//! ```

mod brake;
mod calls;
mod deaths;
#[path = "../../it/deploy/files.rs"]
#[allow(dead_code, reason = "shared with tests/it, which looks at all of it")]
mod files;
mod keys;
mod nginx;
mod outages;
mod report;
mod stage;
mod visitor;
