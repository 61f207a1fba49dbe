//! Sessions survive what used to kill them: an upstream that forgets, streams that break on either side.

mod lost;
mod reconnect;
