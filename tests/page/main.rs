//! The page in a real browser: what it looks like, what it asks for, who can use it.
//!
//! Promise: nothing here looks at the clock of the run; the reports are made by hand and always the same. Screenshots of
//! all of them go to `page/` below the target folder, for people to look at.

#![allow(clippy::indexing_slicing, clippy::panic, reason = "a test that finds something missing shall panic")]

mod appearance;
mod browser;
mod door;
mod live;
mod paper;
mod program;
mod reports;
mod running;
mod server;
mod strangers;
mod tab;
