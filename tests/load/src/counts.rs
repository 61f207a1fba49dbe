//! What a call takes of the allocator and of the kernel, counted; and how long the process takes to be there.
//!
//! Why in processes of their own: whoever is counted is not timed.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use crate::client::connect;
use crate::plan::{Figures, MEASURED_CORE, Size, legacy, per, proxy_words};
use crate::roles::Role;
use crate::syscalls::{self, Counter};
use crate::table::{Budget, Row};
use crate::workload;

/// Allocations and system calls.
pub(crate) async fn calls(folder: &Path, stub: &Role, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
    let perf = syscalls::may_count();
    if let Err(error) = &perf {
        eprintln!("{error:#}: the rows of system calls are left out");
    }
    let (mut allocations, mut bytes) = (Figures::default(), Figures::default());
    let (mut of_one, mut of_many) = (Figures::default(), Figures::default());
    for column in ["proxy", "hyper relay", "raw relay"] {
        let mut role = start(column, folder, stub, Role::start_counted)?;
        let mut clients = workload::open(&legacy(&role.address), 64).await?;
        // What is allocated once does not count.
        workload::concurrent(&mut clients, size.calls / 4, "").await?;
        let before = role.allocations()?;
        workload::concurrent(&mut clients, size.calls, "").await?;
        let after = role.allocations()?;
        let each = |amount: u64, calls: usize| Ok::<_, anyhow::Error>(per(usize::try_from(amount)?, calls));
        // The raw relay has its buffers from the beginning.
        if column != "raw relay" {
            allocations.add(column, each(after.count - before.count, size.calls)?);
            bytes.add(column, each(after.bytes - before.bytes, size.calls)?);
        }
        if perf.is_ok() {
            let counter = Counter::attach(role.pid())?;
            workload::concurrent(&mut clients, size.calls, "").await?;
            of_many.add(column, each(counter.finish()?, size.calls)?);
            let one = clients.get_mut(..1).context("a session")?;
            let counter = Counter::attach(role.pid())?;
            workload::concurrent(one, size.sequential_calls, "").await?;
            of_one.add(column, each(counter.finish()?, size.sequential_calls)?);
        }
    }
    let name = "echo, 64 sessions, JSON replies";
    rows.push(Row::new(name, "allocations / call", allocations.medians()));
    rows.push(Row::new(name, "bytes allocated / call", bytes.medians()));
    if perf.is_ok() {
        rows.push(Row::new(name, "system calls / call", of_many.medians()));
        rows.push(Row::new("sequential", "system calls / call", of_one.medians()));
    }
    Ok(())
}

/// How long from the start of the process until it has answered its first request.
pub(crate) async fn start_up(folder: &Path, stub: &Role, size: &Size, rows: &mut Vec<Row>) -> Result<()> {
    let mut took = Figures::default();
    for _ in 0..size.starts {
        for column in ["proxy", "hyper relay"] {
            let begun = Instant::now();
            let role = start(column, folder, stub, Role::start)?;
            let mut connection = connect(&role.address, false).await?;
            let request = Request::builder().uri("/nothing").header("host", &role.address);
            connection.send_request(request.body(Full::<Bytes>::default())?).await?;
            took.add(column, begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let values = took.medians();
    let value = values.get("proxy").copied().unwrap_or(f64::NAN);
    let budget = Budget { text: "below 50".to_owned(), value, limit: 50.0, at_least: false };
    rows.push(Row::new("start to the first answer", "ms", values).with(Some(budget)));
    Ok(())
}

fn start(column: &str, folder: &Path, stub: &Role, by: fn(&str, usize, &[&str]) -> Result<Role>) -> Result<Role> {
    if column == "proxy" {
        let words = proxy_words(stub, &folder.join("counts.log"), &[]);
        return by("proxy", MEASURED_CORE, &words.iter().map(String::as_str).collect::<Vec<_>>());
    }
    by(if column == "raw relay" { "raw" } else { "hyper" }, MEASURED_CORE, &[&stub.address])
}
