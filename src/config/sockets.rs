//! Sockets that were passed stand in for the options that name addresses.
//!
//! The trap: what follows from `--listen` (who must be named, whether strangers can reach it) has to follow from the socket.
//! Hence its address becomes the option's value before anything is resolved.

use std::net::SocketAddr;

use super::reader::origin;
use super::{Given, Origin, Problem, Raw, units};
use crate::systemd::Sockets;

/// Puts the addresses of `sockets` in place of `--listen` and `--admin`. Another address beside a socket is a problem: one of
/// them would go unused, and whoever wrote it would wait there.
pub fn stand_in(raw: &mut Raw, sockets: &Sockets) -> Vec<Problem> {
    let addresses = sockets.addresses().into_iter().filter_map(|(name, address)| Some((name, address?)));
    addresses.filter_map(|(name, address)| replace(raw, name, address)).collect()
}

fn replace(raw: &mut Raw, name: &'static str, socket: SocketAddr) -> Option<Problem> {
    let Some(given) = raw.get(name) else {
        raw.insert(name, Given { values: vec![socket.to_string()], origin: Origin::Socket });
        return None;
    };
    let text = given.values.last()?;
    // What is no address at all is told when it is read.
    let address = units::admin_address(text).ok()?;
    (address != Some(socket)).then(|| {
        Problem(format!(
            "{}: {text:?} is not where the socket is that was passed for it, {socket}; leave the option out, or give both the same \
             address (ListenStream= of the socket unit)",
            origin(name, &given.origin)
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::config::resolve;

    fn given(options: &[(&'static str, &str)]) -> Raw {
        let upstream = [("upstream", "http://127.0.0.1:3001/mcp")];
        let all = upstream.iter().chain(options);
        all.map(|(name, value)| (*name, Given { values: vec![(*value).to_owned()], origin: Origin::Flag })).collect()
    }

    fn passed(address: &str) -> (Sockets, String) {
        let socket = TcpListener::bind(address).expect("a port");
        let address = socket.local_addr().expect("an address").to_string();
        (Sockets { clients: Some(socket), admin: None }, address)
    }

    #[test]
    fn socket_gives_the_address_and_what_follows_from_it() {
        let (sockets, address) = passed("127.0.0.1:0");
        let mut raw = given(&[]);
        assert_eq!(stand_in(&mut raw, &sockets), []);
        assert_eq!(resolve(&raw, Vec::new(), "here").expect("valid").listen.to_string(), address);
        let (sockets, _) = passed("0.0.0.0:0");
        let mut raw = given(&[]);
        assert_eq!(stand_in(&mut raw, &sockets), []);
        let problems = resolve(&raw, Vec::new(), "here").expect_err("strangers reach it, and no name is given");
        assert!(problems[0].to_string().contains("--public-url or --allowed-host"), "{problems:?}");
    }

    #[test]
    fn another_address_beside_a_socket_is_a_problem_and_the_same_is_none() {
        let (sockets, address) = passed("127.0.0.1:0");
        assert_eq!(stand_in(&mut given(&[("listen", &address)]), &sockets), []);
        let problems = stand_in(&mut given(&[("listen", "127.0.0.1:1")]), &sockets);
        let problem = problems[0].to_string();
        assert!(problem.starts_with("--listen: \"127.0.0.1:1\"") && problem.contains(&address), "{problem}");
        let sockets = Sockets { clients: None, admin: sockets.clients };
        let problems = stand_in(&mut given(&[("admin", "off")]), &sockets);
        assert!(problems[0].to_string().starts_with("--admin: \"off\""), "{problems:?}");
    }
}
