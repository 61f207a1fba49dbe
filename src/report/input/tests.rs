use std::cell::Cell;
use std::fs;
use std::io::{Cursor, Error, Read, Write as _};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("it can be written");
    }
    folder
}

fn named(folder: &TempDir, name: &str) -> String {
    folder.path().join(name).to_string_lossy().into_owned()
}

/// What was read: the last part of the file's name, number, text and whether it is cut.
type Found = Vec<(String, u64, String, bool)>;

fn read(inputs: Inputs) -> (Found, Summary) {
    let mut found = Vec::new();
    let each = |line: Line<'_>| {
        let file = line.file.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        found.push((file, line.number, String::from_utf8_lossy(line.bytes).into_owned(), line.is_cut));
    };
    let summary = inputs.for_each_line(each, &mut |_| {}).expect("readable");
    (found, summary)
}

fn read_one(bytes: &[u8]) -> (Found, Summary) {
    let folder = folder(&[("log", bytes)]);
    read(open(&[named(&folder, "log")]).expect("a file"))
}

fn texts(found: &Found) -> Vec<&str> {
    found.iter().map(|(_, _, text, _)| text.as_str()).collect()
}

fn kinds(summary: &Summary) -> Vec<(ProblemKind, Option<u64>, u64)> {
    summary.problems.iter().map(|problem| (problem.kind.clone(), problem.line, problem.count)).collect()
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text).expect("to memory");
    encoder.finish().expect("to memory")
}

fn zstd(text: &[u8]) -> Vec<u8> {
    // With checksums, as the command writes them; without, a damage may go unseen but for the lines it garbles.
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a level");
    encoder.include_checksum(true).expect("an option");
    encoder.write_all(text).expect("to memory");
    encoder.finish().expect("to memory")
}

/// A record of our log at this minute of a day.
fn record(minute: u32) -> String {
    format!("{{\"@timestamp\":\"2026-09-21T{:02}:{:02}:00.000Z\",\"log.seq\":{minute}}}\n", minute / 60, minute % 60)
}

/// Text that does not compress to nothing.
fn long_log() -> Vec<u8> {
    let mut state = 1_u64;
    let mut line = |number: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        format!("{number} {state:016x}{:016x}\n", state.rotate_left(29))
    };
    (0..20_000).map(&mut line).collect::<String>().into_bytes()
}

#[test]
fn lines_are_handed_out_with_their_places() {
    let (found, summary) = read_one(b"\xEF\xBB\xBFone\r\n\n\r\ntwo\nthree");
    let expected = [("one", 1, false), ("two", 4, false), ("three", 5, true)];
    assert_eq!(found, expected.map(|(text, number, cut)| ("log".to_owned(), number, text.to_owned(), cut)));
    assert_eq!((summary.files, summary.lines, summary.bytes, summary.stored_bytes), (1, 3, 20, 20));
    assert_eq!(summary.problems, []);
}

#[test]
fn empty_file_is_read() {
    let (found, summary) = read_one(b"");
    assert_eq!((found.len(), summary.files, summary.problems.len()), (0, 1, 0));
}

#[test]
fn nuls_are_named_and_take_no_record_with_them() {
    let mut log = b"whole\nhalf".to_vec();
    log.extend_from_slice(&vec![0; 3 * MAX_LINE]);
    log.extend_from_slice(b"after\n\0\0\0next\n");
    let (found, summary) = read_one(&log);
    assert_eq!(texts(&found), ["whole", "half", "after", "next"]);
    assert_eq!(
        found.iter().map(|line| (line.1, line.3)).collect::<Vec<_>>(),
        [(1, false), (2, true), (2, false), (3, false)]
    );
    assert_eq!(kinds(&summary), [(ProblemKind::Nuls, Some(2), 2)]);
}

#[test]
fn line_of_the_longest_length_is_read_and_a_longer_one_is_named() {
    let log = [&vec![b'a'; MAX_LINE][..], b"\n", &vec![b'b'; MAX_LINE + 1], b"\nafter\n", &vec![b'c'; 3 * MAX_LINE]];
    let (found, summary) = read_one(&log.concat());
    assert_eq!(found.iter().map(|line| (line.1, line.2.len())).collect::<Vec<_>>(), [(1, MAX_LINE), (3, 5)]);
    assert_eq!(kinds(&summary), [(ProblemKind::TooLong, Some(2), 2)]);
    assert!(summary.problems[0].to_string().ends_with("log:2: 2 lines longer than 1048576 bytes skipped"));
}

#[test]
fn archives_are_known_by_their_bytes_and_read_to_the_last_member() {
    let several = |packed: fn(&[u8]) -> Vec<u8>| [packed(b"one\ntw"), packed(b""), packed(b"o\nthree\n")].concat();
    // Some writers begin with a frame that is to be skipped.
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &several(zstd)].concat();
    for archive in [several(gzip), several(zstd), skipped] {
        let (found, summary) = read_one(&archive);
        assert_eq!(texts(&found), ["one", "two", "three"]);
        assert_eq!((summary.bytes, summary.stored_bytes), (14, archive.len() as u64));
        assert_eq!(summary.problems, []);
    }
}

#[test]
fn archive_that_is_cut_off_yields_what_it_has_and_is_named() {
    let log = long_log();
    let lines: Vec<&str> = std::str::from_utf8(&log).expect("text").lines().collect();
    for archive in [gzip(&log), zstd(&log)] {
        for length in [archive.len() / 2, archive.len() - 1] {
            let (found, summary) = read_one(&archive[..length]);
            assert!(found.len() > 1000, "{} lines of {length} bytes", found.len());
            let (last, whole) = found.split_last().expect("lines");
            assert!(whole.iter().zip(&lines).all(|(found, line)| found.2 == *line));
            assert!(lines[whole.len()].starts_with(&last.2));
            assert_eq!(kinds(&summary), [(ProblemKind::CutArchive, Some(last.1 + u64::from(!last.3)), 1)]);
        }
    }
}

#[test]
fn archive_that_is_damaged_is_named() {
    for mut archive in [gzip(&long_log()), zstd(&long_log())] {
        let middle = archive.len() / 2;
        archive[middle..middle + 4096].fill(0xff);
        let (_, summary) = read_one(&archive);
        assert!(matches!(kinds(&summary)[..], [(ProblemKind::DamagedArchive(_), Some(_), 1)]), "{summary:?}");
    }
    let garbage = [&gzip(b"one\n")[..], b"garbage"].concat();
    let (found, summary) = read_one(&garbage);
    assert_eq!(texts(&found), ["one"]);
    assert_eq!(summary.problems.len(), 1);
}

#[test]
fn formats_that_are_not_read_are_errors() {
    for (head, with) in [
        (&b"\xfd7zXZ\0\0\0"[..], "xz"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\x04\x22\x4d\x18....", "lz4"),
        (b"PK\x03\x04....", "zip"),
    ] {
        let folder = folder(&[("log", head)]);
        let error = open(&[named(&folder, "log")]).expect_err("it is not read").to_string();
        assert!(error.contains(&format!("is compressed with {with}")), "{error}");
    }
}

#[test]
fn pieces_are_read_in_the_order_of_their_times() {
    let access = "192.0.2.7 - - [20/Sep/2026:00:00:00 +0000] \"GET /sse HTTP/1.1\" 200 1\n";
    let folder = folder(&[
        ("a", b"nothing with a time\n"),
        ("b", record(30).as_bytes()),
        // A piece may begin in the middle of a line.
        ("c.gz", &gzip(format!("8:00.000Z\",\"log.seq\":19}}\n{}", record(20)).as_bytes())),
        ("d", format!("{{\"message\": \"x\", \"@timestamp\" : \"2026-09-21T00:10:00Z\"}}\n{}", record(40)).as_bytes()),
        ("e", access.as_bytes()),
    ]);
    let (found, _) = read(open(&[named(&folder, "*")]).expect("files"));
    let mut order: Vec<&str> = found.iter().map(|line| line.0.as_str()).collect();
    order.dedup();
    assert_eq!(order, ["e", "d", "c.gz", "b", "a"]);
}

#[test]
fn file_with_several_names_is_read_once() {
    let folder = folder(&[("log", b"one\n")]);
    std::os::unix::fs::symlink(named(&folder, "log"), named(&folder, "link")).expect("a link");
    fs::hard_link(named(&folder, "log"), named(&folder, "hard")).expect("a link");
    let args = [named(&folder, "log"), named(&folder, "l*"), named(&folder, "hard")];
    let (found, summary) = read(open(&args).expect("files"));
    assert_eq!((texts(&found), summary.files), (vec!["one"], 1));
    let names: Vec<String> = summary.problems.iter().map(|problem| problem.file.to_string()).collect();
    assert_eq!(names, [named(&folder, "link"), named(&folder, "log"), named(&folder, "hard")]);
    assert!(summary.problems.iter().all(|problem| problem.kind == ProblemKind::DuplicateFile));
    assert!(!ProblemKind::DuplicateFile.may_hide_records());
}

#[test]
fn arguments_that_lead_to_nothing_are_errors() {
    let folder = folder(&[("log", b"one\n")]);
    fs::create_dir(folder.path().join("empty.d")).expect("a folder");
    let error = |arg: &str| open(&[named(&folder, "log"), named(&folder, arg)]).expect_err(arg);
    assert!(matches!(error("missing"), InputError::Missing(_)));
    assert!(matches!(error("missing*"), InputError::NoMatch(_)));
    assert!(matches!(error("*.d"), InputError::NoMatch(_)), "folders only");
    assert!(matches!(error("a**b"), InputError::Pattern { .. }));
    assert!(matches!(error("log/x"), InputError::Unreadable { .. }));
    assert!(matches!(open(&[]), Err(InputError::NoneNamed)));
    let path = named(&folder, "empty.d");
    assert_eq!(error("empty.d").to_string(), format!("{path} is a folder; name its files, such as '{path}/*.log*'"));
}

#[test]
fn folder_among_matches_is_named() {
    let folder = folder(&[("log", b"one\n")]);
    fs::create_dir(folder.path().join("old")).expect("a folder");
    let (found, summary) = read(open(&[named(&folder, "*")]).expect("files"));
    assert_eq!(texts(&found), ["one"]);
    assert_eq!(kinds(&summary), [(ProblemKind::SkippedFolder, None, 1)]);
    assert!(summary.problems[0].kind.may_hide_records());
}

#[test]
fn path_that_exists_is_no_pattern() {
    let folder = folder(&[("log[1]", b"bracket\n"), ("log1", b"other\n")]);
    let (found, _) = read(open(&[named(&folder, "log[1]")]).expect("a file"));
    assert_eq!(texts(&found), ["bracket"]);
}

#[test]
fn standard_input_is_read_last_once_and_decompressed() {
    let folder = folder(&[("log", b"file\n")]);
    let asked = Cell::new(0);
    let stdin = || -> Box<dyn Read> {
        asked.set(asked.get() + 1);
        Box::new(Cursor::new(gzip(b"piped\n")))
    };
    let inputs = source::find(&["-".to_owned(), named(&folder, "log"), "-".to_owned()], stdin).expect("inputs");
    let names: Vec<String> = inputs.names().map(ToString::to_string).collect();
    assert_eq!(names, [named(&folder, "log"), "(standard input)".to_owned()]);
    let mut totals = Vec::new();
    let mut found = Vec::new();
    let each = |line: Line<'_>| found.push(line.bytes.to_vec());
    let summary = inputs.for_each_line(each, &mut |progress| totals.push(progress.total)).expect("readable");
    assert_eq!((found, asked.get()), (vec![b"file".to_vec(), b"piped".to_vec()], 1));
    assert_eq!(kinds(&summary), [(ProblemKind::DuplicateFile, None, 1)]);
    assert!(totals.iter().all(Option::is_none), "nobody knows how much comes");
}

#[test]
fn progress_ends_at_the_total_also_for_archives() {
    let folder = folder(&[("a", &long_log()), ("b", &gzip(&long_log())), ("c", &zstd(&long_log()))]);
    let size: u64 = ["a", "b", "c"].iter().map(|name| fs::metadata(named(&folder, name)).expect("a file").len()).sum();
    let mut steps = Vec::new();
    let inputs = open(&[named(&folder, "*")]).expect("files");
    let summary = inputs.for_each_line(|_| {}, &mut |progress| steps.push(progress)).expect("readable");
    assert!(steps.iter().all(|step| step.total == Some(size)));
    assert!(steps.is_sorted_by_key(|step| step.read));
    assert_eq!((steps.last().expect("a step").read, summary.stored_bytes), (size, size));
}

#[test]
fn file_that_is_replaced_or_cut_short_before_it_is_read_is_named() {
    let folder = folder(&[("log", b"one\ntwo\n")]);
    let inputs = open(&[named(&folder, "log")]).expect("a file");
    fs::rename(named(&folder, "log"), named(&folder, "log.1")).expect("rotated");
    fs::write(named(&folder, "log"), b"three, and it is longer\n").expect("a new log");
    let (found, summary) = read(inputs);
    assert_eq!(texts(&found), ["three, and it is longer"]);
    assert_eq!(kinds(&summary), [(ProblemKind::Replaced, None, 1)]);

    let inputs = open(&[named(&folder, "log.1")]).expect("a file");
    fs::write(named(&folder, "log.1"), b"one\n").expect("cut short");
    let (found, summary) = read(inputs);
    assert_eq!(texts(&found), ["one"]);
    assert_eq!(kinds(&summary), [(ProblemKind::Shrunk, Some(2), 1)]);
}

#[test]
fn file_that_vanishes_is_an_error() {
    let folder = folder(&[("log", b"one\n")]);
    let inputs = open(&[named(&folder, "log")]).expect("a file");
    fs::remove_file(named(&folder, "log")).expect("removed");
    let error = inputs.for_each_line(|_| {}, &mut |_| {}).expect_err("it is gone");
    assert!(matches!(error, InputError::Unreadable { .. }));
}

/// A disk that fails behind the first bytes.
struct Failing(Cursor<Vec<u8>>);

impl Read for Failing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(Error::other("the disk fails")),
            read => Ok(read),
        }
    }
}

#[test]
fn input_whose_disk_fails_is_an_error() {
    let archive = gzip(&long_log());
    for bytes in [b"one\ntwo\n".to_vec(), archive[..archive.len() / 2].to_vec()] {
        let stdin = || -> Box<dyn Read> { Box::new(Failing(Cursor::new(bytes.clone()))) };
        let inputs = source::find(&["-".to_owned()], stdin).expect("the start can be read");
        let error = inputs.for_each_line(|_| {}, &mut |_| {}).expect_err("it failed");
        assert_eq!(error.to_string(), "(standard input) cannot be read: the disk fails");
    }
}

#[test]
fn names_and_problems_are_shown_without_control_characters() {
    let problem = Problem { file: FileName::new("a\x1b[31m\n.log"), line: Some(7), kind: ProblemKind::Nuls, count: 1 };
    let shown = problem.to_string();
    assert_eq!(shown, r"a\u{1b}[31m\n.log:7: 1 region filled with NULs, as crashes leave them");
}

/// Yields at most so much at once.
struct Split<'a>(&'a [u8], usize);

impl Read for Split<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

/// Number, text if it is a line, and whether it is cut.
type Told = Vec<(u64, Option<Vec<u8>>, bool)>;

/// What must come out, with the whole text at hand and no line too long.
fn plainly(text: &[u8]) -> Told {
    let mut told = Vec::new();
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    for (number, line) in (1..).zip(&lines) {
        let mut tell = |part: Option<&[u8]>, is_cut: bool| {
            let part = part.map(|part| part.strip_prefix(b"\xEF\xBB\xBF").filter(|_| number == 1).unwrap_or(part));
            let part = part.map(|part| part.strip_suffix(b"\r").filter(|_| !is_cut).unwrap_or(part));
            if part != Some(b"") {
                told.push((number, part.map(<[u8]>::to_vec), is_cut));
            }
        };
        let mut rest = *line;
        while let Some(at) = rest.iter().position(|byte| *byte == 0) {
            tell(Some(&rest[..at]), true);
            tell(None, false);
            let run = rest[at..].iter().take_while(|byte| **byte == 0).count();
            rest = &rest[at + run..];
        }
        tell(Some(rest), number == lines.len() as u64);
    }
    told
}

fn pieces(text: &[u8], step: usize) -> Told {
    let mut found = Vec::new();
    let mut sink = |piece: Piece<'_>| {
        found.push(match piece {
            Piece::Line { number, bytes, is_cut } => (number, Some(bytes.to_vec()), is_cut),
            Piece::TooLong { number } => (number, None, true),
            Piece::Nuls { number } => (number, None, false),
        });
    };
    let (mut lines, mut reader) = (Lines::new(), Split(text, step));
    while lines.read_block(&mut reader, &mut sink).expect("from memory") {}
    found
}

#[test]
fn long_lines_are_the_same_under_every_split() {
    let lengths = [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 1, 2 * MAX_LINE];
    let ends = [&b"\r\n"[..], b"\n", b"\0\0", b"\r\n", b""];
    let text: Vec<u8> =
        lengths.iter().zip(ends).flat_map(|(length, end)| [&vec![b'x'; *length][..], end].concat()).collect();
    let whole = pieces(&text, usize::MAX);
    for step in [1009, 65_536, 131_071] {
        assert!(pieces(&text, step) == whole, "steps of {step}");
    }
    let numbers: Vec<(u64, usize)> =
        whole.iter().map(|piece| (piece.0, piece.1.as_ref().map_or(0, Vec::len))).collect();
    // The one of MAX_LINE - 1 comes with its \r, and fits.
    assert_eq!(numbers, [(1, MAX_LINE - 1), (2, MAX_LINE), (3, 0), (3, 0), (3, 1), (4, 0)]);
}

#[test]
fn first_time_is_searched_at_the_start_only() {
    let late = [vec![b'x'; 70_000], b"\n".to_vec(), record(1).into_bytes()].concat();
    assert_eq!(order::first_time(&mut &late[..]), None);
    let early = [&b"foreign\n"[..], record(1).as_bytes(), record(0).as_bytes()].concat();
    assert_eq!(order::first_time(&mut &early[..]), "2026-09-21T00:01:00Z".parse().ok());
    let escaped = br#"{"user_agent.original":"\"@timestamp\":\"2000-01-01T00:00:00Z\""}"#;
    assert_eq!(order::first_time(&mut &[&escaped[..], b"\n"].concat()[..]), None);
}

#[test]
fn pipe_is_read_as_a_stream() {
    if !Path::new("/dev/fd").exists() {
        return;
    }
    let (reader, mut writer) = io::pipe().expect("a pipe");
    writer.write_all(b"one\n").expect("it fits");
    drop(writer);
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let (found, _) = read(open(&[path]).expect("a pipe"));
    assert_eq!(texts(&found), ["one"]);
}

proptest! {
    #[test]
    fn lines_are_the_same_under_every_split(
        parts in proptest::collection::vec(
            prop_oneof![Just("\n"), Just("\r\n"), Just("\0"), Just("\0\0\0"), Just("a"), Just("word"), Just("\u{feff}"), Just("\r")],
            0..40,
        ),
        step in 1_usize..7,
    ) {
        let text = parts.concat().into_bytes();
        prop_assert_eq!(pieces(&text, step), plainly(&text));
        prop_assert_eq!(pieces(&text, usize::MAX), plainly(&text));
    }
}
