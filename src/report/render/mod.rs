//! A report in the forms in which people and programs want it.

pub mod page;
