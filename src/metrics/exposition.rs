//! The two text formats that scrapers read.
//!
//! The library writes `OpenMetrics` only. The classic format differs in what the lines before the samples say, and in
//! nothing else that is used here: there a counter and an info are announced under the name of their samples, an info is
//! a gauge, and there are no units and no end mark. The samples are the same bytes.

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Classic,
}

impl Format {
    /// What a scraper wants whose `Accept` says `accept`: `OpenMetrics` where it asks for that and likes nothing better.
    #[must_use]
    pub fn wanted(accept: &str) -> Format {
        let (mut open, mut plain) = (0.0, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut weight, mut version) = (1.0_f32, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim() {
                    "q" => weight = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            if media.eq_ignore_ascii_case("application/openmetrics-text")
                && matches!(version, None | Some("1.0.0" | "0.0.1"))
            {
                open = weight.max(open);
            } else if media.eq_ignore_ascii_case("text/plain") && matches!(version, None | Some("0.0.4")) {
                plain = weight.max(plain);
            }
        }
        if open > 0.0 && open >= plain { Format::OpenMetrics } else { Format::Classic }
    }

    /// The `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Classic => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// Everything in `registries`, in order.
pub(super) fn write(registries: &[&Registry], format: Format) -> String {
    let mut open = String::new();
    for registry in registries {
        text::encode_registry(&mut open, registry).expect("a string takes everything");
    }
    match format {
        Format::OpenMetrics => {
            text::encode_eof(&mut open).expect("a string takes everything");
            open
        }
        Format::Classic => classic(&open),
    }
}

/// `OpenMetrics` as the library writes it, in the classic format.
fn classic(open: &str) -> String {
    let mut out = String::with_capacity(open.len());
    // Which name a family has is only known with its type, on the next line.
    let mut help = "";
    for line in open.lines() {
        if let Some(text) = line.strip_prefix("# HELP ") {
            help = text;
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|text| text.split_once(' ')) {
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                other => ("", other),
            };
            let words = help.split_once(' ').map_or("", |(_, words)| words);
            for part in ["# HELP ", name, suffix, " ", words, "\n# TYPE ", name, suffix, " ", kind, "\n"] {
                out.push_str(part);
            }
        } else if !line.starts_with("# UNIT ") && line != "# EOF" {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::histogram::Histogram;
    use prometheus_client::registry::Unit;

    use super::super::{Closed, Info, Reading, StateSet};
    use super::*;

    fn registry() -> Registry {
        let mut registry = Registry::with_prefix("p");
        registry.register("build", "The build", Info::new([("version", "1")]));
        let refused: Closed<super::super::Counter> = Closed::new("reason", &["host", "limit"]);
        refused.of("limit").inc();
        registry.register("refused", "Turned away", refused);
        let wait = Histogram::new([0.5, 2.0]);
        wait.observe(1.0);
        registry.register_with_unit("wait", "How long", Unit::Seconds, wait);
        registry.register_with_unit("out", "How much", Unit::Bytes, Reading::counter(|| 7));
        registry.register("phase", "Which", StateSet::new("phase", &["one", "two"], "two"));
        registry.register("full", "How full", Reading::gauge(|| 3));
        registry
    }

    #[test]
    fn openmetrics_is_written_to_the_byte() {
        let expected = "# HELP p_build The build.\n# TYPE p_build info\np_build_info{version=\"1\"} 1\n\
            # HELP p_refused Turned away.\n# TYPE p_refused counter\n\
            p_refused_total{reason=\"host\"} 0\np_refused_total{reason=\"limit\"} 1\n\
            # HELP p_wait_seconds How long.\n# TYPE p_wait_seconds histogram\n# UNIT p_wait_seconds seconds\n\
            p_wait_seconds_sum 1.0\np_wait_seconds_count 1\np_wait_seconds_bucket{le=\"0.5\"} 0\n\
            p_wait_seconds_bucket{le=\"2.0\"} 1\np_wait_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP p_out_bytes How much.\n# TYPE p_out_bytes counter\n# UNIT p_out_bytes bytes\np_out_bytes_total 7\n\
            # HELP p_phase Which.\n# TYPE p_phase gauge\np_phase{phase=\"one\"} 0\np_phase{phase=\"two\"} 1\n\
            # HELP p_full How full.\n# TYPE p_full gauge\np_full 3\n# EOF\n";
        assert_eq!(write(&[&registry()], Format::OpenMetrics), expected);
    }

    #[test]
    fn classic_format_names_counters_and_infos_as_their_samples() {
        let expected = "# HELP p_build_info The build.\n# TYPE p_build_info gauge\np_build_info{version=\"1\"} 1\n\
            # HELP p_refused_total Turned away.\n# TYPE p_refused_total counter\n\
            p_refused_total{reason=\"host\"} 0\np_refused_total{reason=\"limit\"} 1\n\
            # HELP p_wait_seconds How long.\n# TYPE p_wait_seconds histogram\n\
            p_wait_seconds_sum 1.0\np_wait_seconds_count 1\np_wait_seconds_bucket{le=\"0.5\"} 0\n\
            p_wait_seconds_bucket{le=\"2.0\"} 1\np_wait_seconds_bucket{le=\"+Inf\"} 1\n\
            # HELP p_out_bytes_total How much.\n# TYPE p_out_bytes_total counter\np_out_bytes_total 7\n\
            # HELP p_phase Which.\n# TYPE p_phase gauge\np_phase{phase=\"one\"} 0\np_phase{phase=\"two\"} 1\n\
            # HELP p_full How full.\n# TYPE p_full gauge\np_full 3\n";
        assert_eq!(write(&[&registry()], Format::Classic), expected);
    }

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for accept in [prometheus, "application/openmetrics-text", "application/openmetrics-text; version=1.0.0"] {
            assert_eq!(Format::wanted(accept), Format::OpenMetrics, "{accept}");
        }
        let better = "application/openmetrics-text;q=0.1, text/plain;q=0.9";
        for accept in [
            "",
            "*/*",
            "text/plain",
            "application/openmetrics-text;q=0",
            "application/openmetrics-text;version=2",
            better,
        ] {
            assert_eq!(Format::wanted(accept), Format::Classic, "{accept}");
        }
    }
}
