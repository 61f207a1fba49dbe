//! Before the server as it was, with HTTP+SSE of its own and no proxy.

use super::authority::Tokens;
use super::door::Routing;
use super::story::{STEPS, stories};
use super::world::{Audiences, PYTHON, Setup, TYPESCRIPT, World};

#[test]
fn oauth_native_typescript() {
    show(&World::start(&Setup {
        server: TYPESCRIPT,
        routing: Routing::ServerOnly,
        audiences: Audiences::Own,
        tokens: Tokens::Jwt,
        options: &[],
    }));
}

#[test]
fn oauth_native_python() {
    show(&World::start(&Setup {
        server: PYTHON,
        routing: Routing::ServerOnly,
        audiences: Audiences::Own,
        tokens: Tokens::Jwt,
        options: &[],
    }));
}

fn show(world: &World) {
    for story in stories(world) {
        for step in STEPS {
            eprintln!("{}: {step}: {}", story.client.title(), story.words(step));
        }
        eprintln!("{:?} {:?}", story.counts, story.audiences);
    }
}
