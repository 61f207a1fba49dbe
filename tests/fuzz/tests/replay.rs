//! Runs every kept input, and a bounded number of changed ones, through its target on stable.
//!
//! The changes are the same in every run: what fails here fails again.

#![allow(clippy::indexing_slicing, reason = "a test that finds something missing shall panic")]

use std::fs;
use std::path::Path;

/// Changed inputs that each target gets.
const CHANGED: usize = 2000;
/// Longer inputs are not made.
const LONGEST: usize = 4096;

/// Pseudo-random numbers (splitmix64), the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % bound.max(1) as u64).expect("it is below a usize")
    }

    fn of<'a, T: ?Sized>(&mut self, choices: &'a [Box<T>]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}

/// Says which input it was, if its run panics.
struct Suspect<'a>(&'a [u8]);

impl Drop for Suspect<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the input, in Rust's notation: b\"{}\"", self.0.escape_ascii());
        }
    }
}

fn replay(name: &str, target: fn(&[u8])) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let run = |input: &[u8]| {
        let _suspect = Suspect(input);
        target(input);
    };
    let kept = corpus(&here.join("corpus").join(name));
    assert!(!kept.is_empty(), "no input was kept for {name}");
    run(b"");
    for input in &kept {
        run(input);
    }
    let words = dictionary(&here.join("dictionaries").join(format!("{name}.dict")));
    let mut numbers = Numbers(1);
    for _ in 0..CHANGED {
        run(&changed(&kept, &words, &mut numbers));
    }
}

fn corpus(folder: &Path) -> Vec<Box<[u8]>> {
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a file").into()).collect()
}

/// The words of a libfuzzer dictionary: a string a line, with `\\`, `\"` and `\xHH`.
fn dictionary(file: &Path) -> Vec<Box<[u8]>> {
    let text = fs::read_to_string(file).expect("a dictionary");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines.map(|line| word(line.split_once('"').and_then(|(_, rest)| rest.strip_suffix('"')).expect(line))).collect()
}

fn word(mut escaped: &str) -> Box<[u8]> {
    let mut word = Vec::new();
    while let Some((plain, escape)) = escaped.split_once('\\') {
        word.extend_from_slice(plain.as_bytes());
        let length = if escape.starts_with('x') { 3 } else { 1 };
        let (escape, rest) = escape.split_at(length);
        word.push(match escape.strip_prefix('x') {
            Some(digits) => u8::from_str_radix(digits, 16).expect("two digits"),
            None => escape.as_bytes()[0],
        });
        escaped = rest;
    }
    word.extend_from_slice(escaped.as_bytes());
    word.into()
}

/// An input with one to four changes.
fn changed(kept: &[Box<[u8]>], words: &[Box<[u8]>], numbers: &mut Numbers) -> Vec<u8> {
    let mut input = numbers.of(kept).to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(input.len() + 1);
        let end = (at + 1 + numbers.below(12)).min(input.len());
        match numbers.below(6) {
            0 if at < end => input[at] ^= 1 << numbers.below(8),
            1 => drop(input.drain(at..end)),
            2 => input.extend_from_within(at..end),
            3 => input.truncate(at),
            4 => {
                let other = numbers.of(kept);
                let from = numbers.below(other.len() + 1);
                input.splice(at..end, other[from..].iter().copied());
            }
            _ => drop(input.splice(at..at, numbers.of(words).iter().copied())),
        }
    }
    input.truncate(LONGEST);
    input
}

#[test]
fn decoder_holds() {
    replay("decoder", sse_sunset_fuzz::decoder);
}

#[test]
fn encoder_holds() {
    replay("encoder", sse_sunset_fuzz::encoder);
}

#[test]
fn envelope_holds() {
    replay("envelope", sse_sunset_fuzz::envelope);
}

#[test]
fn query_holds() {
    replay("query", sse_sunset_fuzz::query);
}

#[test]
fn guard_holds() {
    replay("guard", sse_sunset_fuzz::guard);
}

#[test]
fn headers_hold() {
    replay("headers", sse_sunset_fuzz::headers);
}

#[test]
fn connection_holds() {
    replay("connection", sse_sunset_fuzz::connection);
}

#[test]
fn access_holds() {
    replay("access", sse_sunset_fuzz::access);
}

#[test]
fn log_line_holds() {
    replay("log_line", sse_sunset_fuzz::log_line);
}

#[test]
fn translate_holds() {
    replay("translate", sse_sunset_fuzz::translate);
}
