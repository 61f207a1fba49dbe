//! The options of many replicas.

use super::reader::Reader;
use super::units::{self, Read};
use crate::fleet::{Config, KeyFile, Keyring, Server};

/// Largest bodies that replicas hand each other, in bytes.
const MOST_BODY: usize = 16 << 20;

impl Reader<'_> {
    /// How the process takes part in a fleet, if it does. The others are shown `config_hash`.
    pub(super) fn fleet(&mut self, config_hash: String, max_body: usize) -> Option<Config> {
        let is_wanted = self.is_given("fleet");
        if is_wanted && max_body > MOST_BODY {
            self.problem(format!(
                "--max-body may be {} MiB at most with --fleet: Redis ends the connection of a replica for which more than \
                 32 MB wait",
                MOST_BODY >> 20
            ));
        }
        let authorities = self.optional("fleet-ca-file", |path| {
            units::authorities(path)?;
            units::file(path)
        });
        let server = self.optional("fleet", |url| Server::new(url, authorities.clone()));
        let name = self.value("fleet-name", name);
        let file = self.optional("fleet-key-file", |path| {
            let file = KeyFile::File(path.into());
            file.read().map(|_| file).map_err(|error| format!("holds no keys: {error}"))
        });
        let given = self.fleet_keys();
        if is_wanted && self.is_given("fleet-key-file") == self.is_given("fleet-key") {
            self.problem(
                "--fleet needs the key that all replicas share: openssl rand -hex 32 > fleet.key, then --fleet-key-file \
                 fleet.key (or the key itself as SSE_SUNSET_FLEET_KEY, one of the two)"
                    .to_owned(),
            );
        }
        for option in ["fleet-key-file", "fleet-key", "fleet-ca-file"] {
            if self.is_given(option) && !is_wanted {
                self.problem(format!("--{option} goes with --fleet, which says where Redis is"));
            }
        }
        Some(Config { server: server?, name: name?, keys: file.or(given)?, config_hash })
    }

    fn fleet_keys(&mut self) -> Option<KeyFile> {
        let texts = self.many("fleet-key", |text| match Keyring::read(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("is no key: one is 64 hexadecimal digits (openssl rand -hex 32)".to_owned()),
        });
        if texts.is_empty() {
            return None;
        }
        match Keyring::read(&texts.join("\n")) {
            Ok(keys) => Some(KeyFile::Given(keys)),
            Err(error) => {
                self.problem(format!("--fleet-key: {error}"));
                None
            }
        }
    }
}

/// A name that can stand in the names of keys and channels, and in the rules of an ACL.
fn name(text: &str) -> Read<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let fits = (1..=64).contains(&text.len()) && text.bytes().all(is_plain);
    if fits { Ok(text.to_owned()) } else { Err("wants 1 to 64 letters, digits, -, _ or .".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::super::{Given, Origin, Raw, resolve};
    use super::*;

    const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn read(options: &[(&'static str, &str)]) -> Result<Option<Config>, Vec<String>> {
        let given = |value: &str| Given { values: value.split(',').map(str::to_owned).collect(), origin: Origin::Flag };
        let mut raw = Raw::from([("upstream", given("http://127.0.0.1:3001/mcp"))]);
        raw.extend(options.iter().map(|(name, value)| (*name, given(value))));
        let config = resolve(&raw, Vec::new(), "here");
        config.map(|config| config.fleet).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn process_without_the_option_is_alone() {
        assert!(read(&[]).expect("valid").is_none());
        let problems = read(&[("fleet-key", KEY)]).expect_err("nowhere");
        assert!(problems.len() == 1 && problems[0].contains("goes with --fleet"), "{problems:?}");
    }

    #[test]
    fn bodies_have_to_fit_through_redis() {
        let fleet = [("fleet", "redis://127.0.0.1:6379"), ("fleet-key", KEY), ("max-body", "17MiB")];
        let problems = read(&fleet).expect_err("too large");
        assert!(problems.len() == 1 && problems[0].contains("16 MiB at most"), "{problems:?}");
        assert!(read(&fleet[2..]).is_ok());
    }

    #[test]
    fn fleet_needs_one_key_and_takes_two() {
        let fleet = ("fleet", "redis://127.0.0.1:6379");
        let problems = read(&[fleet]).expect_err("no key");
        assert!(problems.len() == 1 && problems[0].contains("openssl rand -hex 32"), "{problems:?}");
        let config = read(&[fleet, ("fleet-key", KEY)]).expect("valid").expect("a fleet");
        assert_eq!((config.server.address().as_str(), config.name.as_str()), ("127.0.0.1:6379", "sse-sunset"));
        let two = format!("{KEY},{}", KEY.replace('0', "1"));
        assert!(read(&[fleet, ("fleet-key", &two)]).is_ok());
        let three = format!("{two},{KEY}");
        assert!(read(&[fleet, ("fleet-key", &three)]).expect_err("too many")[0].contains("there are 3 keys"));
    }

    #[test]
    fn neither_passwords_nor_keys_are_quoted() {
        for (fleet, key) in
            [("http://u:hunter2@x", KEY), ("redis://u:hunter2@x:y", KEY), ("redis://u:hunter2@x", "hunter2")]
        {
            let problems = read(&[("fleet", fleet), ("fleet-key", key)]).expect_err("wrong");
            assert!(problems.iter().all(|problem| !problem.contains("hunter2")), "{problems:?}");
        }
        let config = read(&[("fleet", "rediss://u:hunter2@x:1"), ("fleet-key", KEY)]).expect("valid");
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains(&KEY[..8]), "{shown}");
    }

    #[test]
    fn key_file_is_read_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("fleet.key");
        let text = path.to_str().expect("a name");
        let fleet = ("fleet", "redis://127.0.0.1:6379");
        let problems = read(&[fleet, ("fleet-key-file", text)]).expect_err("no file");
        assert!(problems.iter().any(|problem| problem.contains("holds no keys")), "{problems:?}");
        std::fs::write(&path, KEY).expect("written");
        assert!(read(&[fleet, ("fleet-key-file", text)]).is_ok());
    }

    #[test]
    fn hash_changes_with_the_switch_off_only() {
        let hash = |options: &[(&'static str, &str)]| {
            let fleet = [("fleet", "redis://127.0.0.1:6379"), ("fleet-key", KEY)];
            read(&[&fleet[..], options].concat()).expect("valid").expect("a fleet").config_hash
        };
        let none = hash(&[]);
        assert_eq!(hash(&[("instance", "other"), ("drain", "30s")]), none);
        assert_ne!(hash(&[("share", "5%")]), none);
    }

    #[test]
    fn names_are_plain() {
        assert!(name("prod.eu-1").is_ok());
        for bad in ["", "a b", "{a}", "a*", &"a".repeat(65)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
