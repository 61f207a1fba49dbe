//! What stands at the edge: heads and bodies that two readers could take for different requests, clients that are slow in
//! every phase, floods, and people with browsers.

mod floods;
mod page;
mod slow;
mod smuggling;
mod stage;
